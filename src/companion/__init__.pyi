# ruff: noqa: I001 - one import a module
from companion.theory.certificate import (
    Certificate as Certificate,
    CertificateError as CertificateError,
    certify_equivalence as certify_equivalence,
    certify_witness as certify_witness,
    recheck as recheck,
)
from companion.theory.contractive import (
    contractive as contractive,
    nearest_contraction as nearest_contraction,
)
from companion.theory.convert import convert_file as convert_file
from companion.theory.dilation import (
    NotContractiveError as NotContractiveError,
    defect_rank as defect_rank,
    halmos_dilation as halmos_dilation,
    minimal_scaling as minimal_scaling,
    orthogonal_dilation as orthogonal_dilation,
    rational_contraction as rational_contraction,
    unit_norm_scaling as unit_norm_scaling,
)
from companion.theory.files import (
    load_rnn as load_rnn,
    save_rnn as save_rnn,
)
from companion.theory.linear import (
    find_linear_witness as find_linear_witness,
    linear_teacher as linear_teacher,
    window_states as window_states,
    window_student as window_student,
)
from companion.theory.network import (
    RNN as RNN,
    is_contractive as is_contractive,
    is_unitary as is_unitary,
    orthogonality_error as orthogonality_error,
    random_rnn as random_rnn,
    simulate as simulate,
    spectral_norm as spectral_norm,
)
from companion.theory.parallel import (
    largest_exponent as largest_exponent,
    newton_states as newton_states,
)
from companion.theory.similarity import balance as balance, similarity as similarity
from companion.theory.smaller import (
    complex_unitary as complex_unitary,
    smallest_unitary as smallest_unitary,
    states_needed as states_needed,
    unbounded_unitary as unbounded_unitary,
)
from companion.theory.theorem1 import (
    Comparison as Comparison,
    StateBound as StateBound,
    compare as compare,
    state_bound as state_bound,
    unitary_equivalent as unitary_equivalent,
)
from companion.theory.theorem2 import (
    NoClaimError as NoClaimError,
    Witness as Witness,
    find_witness as find_witness,
    memoryless_teacher as memoryless_teacher,
    near_miss as near_miss,
)
from companion.theory.theorem3 import (
    approximate_unitary as approximate_unitary,
    delay_chain as delay_chain,
    derivative_spans as derivative_spans,
    find_sigmoid_witness as find_sigmoid_witness,
    linearise as linearise,
)
from companion.theory.torch import (
    to_unitary as to_unitary,
)
