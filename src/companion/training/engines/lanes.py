"""Sixteen float32 lanes as one value inside numba functions: a lane is a student.

An array holds its v-th vector in elements 16 v … 16 v + 15. LLVM lowers a vector to what the
processor has (one AVX-512 register, two AVX, four SSE or NEON), so this runs everywhere; left to
the auto-vectoriser, the same loops come out mostly scalar. Functions that begin with _ write LLVM
instructions; those of their names without it are called from numba code.
"""

# numba's interfaces and the functions it compiles carry no types
# mypy: disable-error-code="no-untyped-call, no-untyped-def"

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES = 16
VECTOR = ir.VectorType(ir.FloatType(), LANES)
INTEGERS = ir.VectorType(ir.IntType(32), LANES)
UNROLLED = 32  # blocks of a product that are written out; more are looped over

try:
    _HOST = dict(llvm.get_host_cpu_features())
except RuntimeError:  # llvmlite cannot tell on some processors; then assume nothing
    _HOST = {}
# `llvm.fma` without the instruction is a slow library call, so multiply and add there. Other
# architectures have it always and do not list it.
HAS_FMA = _HOST.get("fma", not llvm.get_process_triple().startswith(("x86_64", "i686")))
REGISTERS = 32 if _HOST.get("avx512f") else 8  # in vectors of 16 lanes


class LanesType(types.Type):
    """The numba type of a vector."""


LANES_TYPE = LanesType("Lanes")
register_model(LanesType)(functools.partial(models.PrimitiveModel, be_type=VECTOR))


def macro(emit: Callable[..., Any], returns: Any = LANES_TYPE) -> Callable[..., Any]:
    """Make the numba function of whose call ``emit(builder, *arguments)`` writes the instructions.

    For an array emit gets the address of its first element, for a tuple a list.
    """

    def taken(context, builder, kind, value):
        if isinstance(kind, types.BaseTuple):
            each = enumerate(kind.types)  # type: ignore[attr-defined]
            return [taken(context, builder, k, builder.extract_value(value, i)) for i, k in each]
        if isinstance(kind, types.Array):
            return context.make_array(kind)(context, builder, value).data
        return value

    @functools.wraps(emit)  # numba reads the number of arguments off the signature
    def typed(typingctx, *kinds):
        def codegen(context, builder, signature, values):
            given = zip(signature.args, values, strict=True)
            value = emit(builder, *(taken(context, builder, *each) for each in given))
            return value if returns is LANES_TYPE else context.get_dummy_value()

        kinds = tuple(types.intp if isinstance(kind, types.Integer) else kind for kind in kinds)
        return returns(*kinds), codegen

    return intrinsic(typed)


def constant(value: float) -> ir.Constant:
    """Make the vector of one value."""
    return ir.Constant(VECTOR, [ir.Constant(ir.FloatType(), float(np.float32(value)))] * LANES)


def _address(builder, array, index):
    at = builder.gep(array, [builder.mul(index, index.type(LANES))])
    return builder.bitcast(at, VECTOR.as_pointer())


def _load(builder, array, index):
    return builder.load(_address(builder, array, index), align=4)


def _store(builder, array, index, value):
    builder.store(value, _address(builder, array, index), align=4)


def _prefetch(builder, array, index):
    """Ask for a vector to be brought near; past the end is harmless.

    Into the second-level cache: the first is full of what the passes go over again.
    """
    i32, byte = ir.IntType(32), ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, i32, i32, i32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    read, second, data = i32(0), i32(2), i32(1)
    at = builder.bitcast(_address(builder, array, index), byte)
    builder.call(function, [at, read, second, data])


def _call(builder, address, arrays, sizes):
    """Call the C function at ``address`` with pointers to ``arrays``, and integers.

    A caller compiled once can so use functions compiled later, without being compiled again.
    """
    values = [*arrays, *sizes]
    kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
    builder.call(builder.inttoptr(address, kind.as_pointer()), values)


def _fma(builder, a, b, c):
    if HAS_FMA:
        kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
        name = f"llvm.fma.v{LANES}f32"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [a, b, c])
    return builder.fadd(builder.fmul(a, b), c)


def _relu(builder, z):
    # `not z <= 0`, so that a NaN stays one and is found
    return builder.select(builder.fcmp_ordered("<=", z, constant(0)), constant(0), z)


def _exp(builder, z):
    """Compute e^z to about 1 ulp, |z| < 87: 2^k times a polynomial on |r| ≤ ½ log 2 (Cephes)."""
    # z beyond these would overflow the exponent; the functions below are saturated long before
    z = builder.select(builder.fcmp_ordered(">", z, constant(87)), constant(87), z)
    z = builder.select(builder.fcmp_ordered("<", z, constant(-87)), constant(-87), z)
    # adding and taking away 1.5·2²³ rounds to an integer, k, whose bits are then at the low end
    shifted = _fma(builder, z, constant(1.44269504), constant(12582912.0))
    k = builder.fsub(shifted, constant(12582912.0))
    r = _fma(builder, k, constant(-0.693359375), z)
    r = _fma(builder, k, constant(2.12194440e-4), r)
    poly = constant(1.9875691500e-4)
    for c in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5):
        poly = _fma(builder, poly, r, constant(c))
    value = _fma(builder, builder.fmul(r, r), poly, builder.fadd(r, constant(1)))
    exponent = builder.shl(builder.bitcast(shifted, INTEGERS), INTEGERS([23] * LANES))
    return builder.bitcast(builder.add(builder.bitcast(value, INTEGERS), exponent), VECTOR)


def _sigmoid(builder, z):
    e = _exp(builder, builder.fneg(z))
    return builder.fdiv(constant(1), builder.fadd(constant(1), e))


def _tanh(builder, z):
    s = _sigmoid(builder, builder.fadd(z, z))
    return _fma(builder, constant(2), s, constant(-1))


zero = macro(lambda builder: constant(0))
add = macro(lambda builder, a, b: builder.fadd(a, b))
sub = macro(lambda builder, a, b: builder.fsub(a, b))
mul = macro(lambda builder, a, b: builder.fmul(a, b))
fma = macro(_fma)  # a b + c
sigmoid, tanh = macro(_sigmoid), macro(_tanh)
load, store = macro(_load), macro(_store, types.void)  # vector ``index`` of an array
prefetch, call = macro(_prefetch, types.void), macro(_call, types.void)


def tiling(rows: int, columns: int) -> tuple[int, int]:
    """Find the size of the block of sums in registers that makes the fewest loads for a product."""
    fits = [
        (r, c)
        for r, c in itertools.product(range(1, rows + 1), range(1, columns + 1))
        if r * c + min(r, c) + 1 <= REGISTERS
    ]

    def loads(tile: tuple[int, int]) -> tuple[int, int]:
        down, across = -(-rows // tile[0]), -(-columns // tile[1])
        return across * rows + down * columns, tile[0] * tile[1]

    return min(fits, key=loads)


def _cuts(total: int, size: int, unroll: bool) -> list[tuple[int, int, int]]:
    """Cut ``range(total)`` into the fewest blocks of at most ``size``, as equal as can be.

    As (start, length, how many of that length follow each other from there), unrolled if asked.
    """
    count = -(-total // size)
    length, longer = divmod(total, count)
    kinds = [(0, length + 1, longer), (longer * (length + 1), length, count - longer)]
    if unroll:
        kinds = [(start + i * n, n, 1) for start, n, count in kinds for i in range(count)]
    return [kind for kind in kinds if kind[2]]


def contraction(
    rows: int,
    columns: int,
    *,
    a: tuple[int, int],
    b: tuple[int, int] | None,
    out: tuple[int, int],
    initial: tuple[int, int] | None = None,
    where_positive: tuple[int, int] | None = None,
    relu: bool = False,
    shared: bool = False,
) -> Callable[..., Any]:
    """Make the function out[r, c] = finish(initial[r, c] + Σ_j a[r, j] b[c, j]) of each lane.

    Parameters
    ----------
    rows, columns : the sizes of r and c.
    a, b, out, initial, where_positive : how many vectors lie between neighbours along each of the
        two indices above. ``b`` None stands for ones, ``initial`` None for zeros.
        ``where_positive`` keeps a sum where another array is positive and puts 0 elsewhere, as the
        derivative of ReLU does.
    relu : apply max(0, ·) to the sums.
    shared : a and ``initial`` are in arrays of single numbers, each the same in all lanes.

    Returns
    -------
    function (out, o, a, o_a, b, o_b, extra, o_extra, terms): each array with the vector it starts
    at; ``extra`` is what ``initial`` or ``where_positive`` refers to; j = 0 … terms − 1.
    """
    tile_rows, tile_columns = tiling(rows, columns)
    unroll = -(-rows // tile_rows) * -(-columns // tile_columns) <= UNROLLED

    def emit(builder, to, to_at, left, left_at, right, right_at, extra, extra_at, terms):
        size = terms.type

        def at(first, strides, i, j):
            """Load the vector at indices i and j of an array that starts at ``first``."""
            for stride, index in zip(strides, (i, j), strict=True):
                first = builder.add(first, builder.mul(index, size(stride)))
            return first

        def read(array, index):
            if not shared:
                return _load(builder, array, index)
            number = builder.load(builder.gep(array, [index]))
            vector = builder.insert_element(VECTOR(ir.Undefined), number, size(0))
            return builder.shuffle_vector(vector, vector, INTEGERS([0] * LANES))

        sums = [
            [cgutils.alloca_once(builder, VECTOR) for _ in range(tile_columns)]
            for _ in range(tile_rows)
        ]

        def tile(R, C):
            cells = [(sums[i][j], i, j, r, c) for i, r in enumerate(R) for j, c in enumerate(C)]
            for held, _, _, r, c in cells:
                start = read(extra, at(extra_at, initial, r, c)) if initial else constant(0)
                builder.store(start, held)
            with cgutils.for_range(builder, terms) as loop:
                # from the last term: the first ones wait for the step before
                t = builder.sub(builder.sub(terms, size(1)), loop.index)
                a_t = [read(left, at(left_at, a, r, t)) for r in R]
                b_t = [_load(builder, right, at(right_at, b, c, t)) for c in C] if b else []
                for held, i, j, _, _ in cells:
                    sum_ = builder.load(held)
                    sum_ = _fma(builder, a_t[i], b_t[j], sum_) if b else builder.fadd(a_t[i], sum_)
                    builder.store(sum_, held)
            for held, _, _, r, c in cells:
                value = builder.load(held)
                if relu:
                    value = _relu(builder, value)
                if where_positive:
                    gate = _load(builder, extra, at(extra_at, where_positive, r, c))
                    positive = builder.fcmp_ordered(">", gate, constant(0))
                    value = builder.select(positive, value, constant(0))
                _store(builder, to, at(to_at, out, r, c), value)

        for (r, height, down), (c, width, across) in itertools.product(
            _cuts(rows, tile_rows, unroll), _cuts(columns, tile_columns, unroll)
        ):
            with (
                cgutils.for_range(builder, size(down)) as over_rows,
                cgutils.for_range(builder, size(across)) as over_columns,
            ):
                top = builder.add(builder.mul(over_rows.index, size(height)), size(r))
                left_end = builder.add(builder.mul(over_columns.index, size(width)), size(c))
                tile(
                    [builder.add(top, size(i)) for i in range(height)],
                    [builder.add(left_end, size(j)) for j in range(width)],
                )

    return macro(emit, types.void)
