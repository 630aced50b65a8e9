"""Executable companion to "Input-Output Equivalence of Unitary and Contractive RNNs".

A public name is imported from its module when it is first used: the import of the package is
instant, and loads neither torch nor anything else that nobody asked for.
"""

from importlib import import_module
from typing import Any

_HOMES = {  # as in __init__.pyi, which type checkers and editors read
    "certificate": "Certificate CertificateError certify_equivalence certify_witness recheck",
    "contractive": "contractive nearest_contraction",
    "convert": "convert_file",
    "dilation": "NotContractiveError defect_rank halmos_dilation minimal_scaling "
    "orthogonal_dilation rational_contraction unit_norm_scaling",
    "files": "load_rnn save_rnn",
    "linear": "find_linear_witness linear_teacher window_states window_student",
    "network": "RNN is_contractive is_unitary orthogonality_error random_rnn simulate "
    "spectral_norm",
    "parallel": "largest_exponent newton_states",
    "similarity": "balance similarity",
    "smaller": "complex_unitary smallest_unitary states_needed unbounded_unitary",
    "theorem1": "Comparison StateBound compare state_bound unitary_equivalent",
    "theorem2": "NoClaimError Witness find_witness memoryless_teacher near_miss",
    "theorem3": "approximate_unitary delay_chain derivative_spans find_sigmoid_witness linearise",
    "torch": "to_unitary",
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'companion' has no attribute {name!r}")
    value = getattr(import_module(f"companion.theory.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
