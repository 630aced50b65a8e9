"""Executable companion to "Input-Output Equivalence of Unitary and Contractive RNNs".

Importing it costs NumPy alone; torch, flint and the rest load where they are used.
"""

from companion.conversion import convert_file, to_unitary
from companion.dilation import (
    NotContractiveError,
    defect_rank,
    halmos_dilation,
    minimal_scaling,
    orthogonal_dilation,
    rational_contraction,
    unit_norm_scaling,
)
from companion.equivalence import (
    Comparison,
    StateBound,
    balance,
    compare,
    state_bound,
    unitary_equivalent,
)
from companion.rnn import (
    RNN,
    is_contractive,
    is_unitary,
    orthogonality_error,
    random_rnn,
    similarity,
    simulate,
    spectral_norm,
)

__all__ = [
    "RNN",
    "Comparison",
    "NotContractiveError",
    "StateBound",
    "balance",
    "compare",
    "convert_file",
    "defect_rank",
    "halmos_dilation",
    "is_contractive",
    "is_unitary",
    "minimal_scaling",
    "orthogonal_dilation",
    "orthogonality_error",
    "random_rnn",
    "rational_contraction",
    "similarity",
    "simulate",
    "spectral_norm",
    "state_bound",
    "to_unitary",
    "unit_norm_scaling",
    "unitary_equivalent",
]
