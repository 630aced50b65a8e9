"""Executable companion to "Input-Output Equivalence of Unitary and Contractive RNNs".

Importing it costs NumPy; exact arithmetic, torch and the rest load where they are used.
"""

from companion.theory.certificate import (
    Certificate,
    CertificateError,
    certify_equivalence,
    certify_witness,
    recheck,
)
from companion.theory.dilation import (
    NotContractiveError,
    defect_rank,
    halmos_dilation,
    minimal_scaling,
    orthogonal_dilation,
    rational_contraction,
    unit_norm_scaling,
)
from companion.theory.files import load_rnn, save_rnn
from companion.theory.network import (
    RNN,
    is_contractive,
    is_unitary,
    orthogonality_error,
    random_rnn,
    similarity,
    simulate,
    spectral_norm,
)
from companion.theory.smaller import (
    complex_unitary,
    smallest_unitary,
    states_needed,
    unbounded_unitary,
)
from companion.theory.theorem1 import (
    Comparison,
    StateBound,
    balance,
    compare,
    state_bound,
    unitary_equivalent,
)
from companion.theory.theorem2 import (
    NoClaimError,
    Witness,
    find_witness,
    memoryless_teacher,
    near_miss,
)
from companion.theory.theorem3 import (
    approximate_unitary,
    delay_chain,
    derivative_spans,
    find_sigmoid_witness,
    linearise,
)
from companion.theory.torch import convert_file, to_unitary

__all__ = [
    "RNN",
    "Certificate",
    "CertificateError",
    "Comparison",
    "NoClaimError",
    "NotContractiveError",
    "StateBound",
    "Witness",
    "approximate_unitary",
    "balance",
    "certify_equivalence",
    "certify_witness",
    "compare",
    "complex_unitary",
    "convert_file",
    "defect_rank",
    "delay_chain",
    "derivative_spans",
    "find_sigmoid_witness",
    "find_witness",
    "halmos_dilation",
    "is_contractive",
    "is_unitary",
    "linearise",
    "load_rnn",
    "memoryless_teacher",
    "minimal_scaling",
    "near_miss",
    "orthogonal_dilation",
    "orthogonality_error",
    "random_rnn",
    "rational_contraction",
    "recheck",
    "save_rnn",
    "similarity",
    "simulate",
    "smallest_unitary",
    "spectral_norm",
    "state_bound",
    "states_needed",
    "to_unitary",
    "unbounded_unitary",
    "unit_norm_scaling",
    "unitary_equivalent",
]
