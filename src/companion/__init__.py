"""Executable companion to "Input-Output Equivalence of Unitary and Contractive RNNs".

Importing it costs NumPy alone; torch, flint and the rest load where they are used.
"""

from companion.rnn import (
    RNN,
    is_contractive,
    is_unitary,
    random_rnn,
    similarity,
    simulate,
    spectral_norm,
)

__all__ = [
    "RNN",
    "is_contractive",
    "is_unitary",
    "random_rnn",
    "similarity",
    "simulate",
    "spectral_norm",
]
