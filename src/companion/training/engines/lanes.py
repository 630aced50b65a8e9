"""Sixteen float32 lanes as one value inside numba functions: a lane is a student.

An array holds its v-th vector in elements 16 v … 16 v + 15. LLVM lowers a vector to what the
processor has (one AVX-512 register, two AVX, four SSE or NEON), so this runs everywhere; left to
the auto-vectoriser, the same loops come out mostly scalar.
"""

# numba's interfaces and the functions it compiles carry no types
# mypy: disable-error-code="no-untyped-call, no-untyped-def"

from __future__ import annotations

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
Macro = Callable[..., Any]
macro: Callable[[Callable[..., Any]], Macro] = (
    intrinsic  # a function of numba code that writes LLVM instructions
)
VECTOR = ir.VectorType(ir.FloatType(), LANES)


def _features() -> dict[str, bool]:
    try:
        return dict(llvm.get_host_cpu_features())
    except RuntimeError:  # llvmlite cannot tell on some processors; then assume nothing
        return {}


_HOST = _features()
# `llvm.fma` without the instruction is a slow library call, so multiply and add there. Other
# architectures have it always and do not list it.
HAS_FMA = _HOST.get("fma", not llvm.get_process_triple().startswith(("x86_64", "i686")))
UNROLLED = 32  # blocks of a product that are written out; more are looped over
REGISTERS = 32 if _HOST.get("avx512f") else 8  # in vectors of 16 lanes


class LanesType(types.Type):
    """The numba type of a vector."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


LANES_TYPE = LanesType()


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, VECTOR)


def constant(value: float) -> ir.Constant:
    """The vector of one value."""
    return ir.Constant(VECTOR, [ir.Constant(ir.FloatType(), float(np.float32(value)))] * LANES)


def _data(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """Address of the first element of an array; a pointer is one already."""
    if isinstance(kind, types.CPointer):
        return value
    return context.make_array(kind)(context, builder, value).data


def _pointer(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    data = _data(context, builder, kind, array)
    offset = builder.mul(index, ir.Constant(index.type, LANES))
    return builder.bitcast(builder.gep(data, [offset]), VECTOR.as_pointer())


def _load(builder: Any, pointer: Any) -> Any:
    return builder.load(pointer, align=4)


def _store(builder: Any, value: Any, pointer: Any) -> None:
    builder.store(value, pointer, align=4)


def _fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    if HAS_FMA:
        kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
        name = f"llvm.fma.v{LANES}f32"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [a, b, c])
    return builder.fadd(builder.fmul(a, b), c)


def _where_positive(builder: Any, condition: Any, value: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", condition, constant(0)), value, constant(0))


def _relu(builder: Any, z: Any) -> Any:
    # `not z <= 0`, so that a NaN stays one and is found
    return builder.select(builder.fcmp_ordered("<=", z, constant(0)), constant(0), z)


def _exp(builder: Any, z: Any) -> Any:
    """e^z to about 1 ulp where |z| < 87: 2^k times a polynomial on |r| ≤ ½ log 2 (Cephes' expf)."""

    def times(a: Any, b: float, c: Any) -> Any:
        return _fma(builder, a, constant(b), c)

    # z beyond these would overflow the exponent; the functions below are saturated long before
    z = builder.select(builder.fcmp_ordered(">", z, constant(87)), constant(87), z)
    z = builder.select(builder.fcmp_ordered("<", z, constant(-87)), constant(-87), z)
    # adding and taking away 1.5·2²³ rounds to an integer, k, whose bits are then at the low end
    shifted = times(z, 1.44269504, constant(12582912.0))
    k = builder.fsub(shifted, constant(12582912.0))
    r = times(k, 2.12194440e-4, times(k, -0.693359375, z))
    poly = constant(1.9875691500e-4)
    for c in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5):
        poly = _fma(builder, poly, r, constant(c))
    value = _fma(builder, builder.fmul(r, r), poly, builder.fadd(r, constant(1)))
    integers = ir.VectorType(ir.IntType(32), LANES)
    shift = ir.Constant(integers, [ir.Constant(ir.IntType(32), 23)] * LANES)
    exponent = builder.shl(builder.bitcast(shifted, integers), shift)
    return builder.bitcast(builder.add(builder.bitcast(value, integers), exponent), VECTOR)


def _sigmoid(builder: Any, z: Any) -> Any:
    e = _exp(builder, builder.fneg(z))
    return builder.fdiv(constant(1), builder.fadd(constant(1), e))


def _tanh(builder: Any, z: Any) -> Any:
    s = _sigmoid(builder, builder.fadd(z, z))
    return _fma(builder, constant(2), s, constant(-1))


def _operation(count: int, emit: Callable[..., Any]) -> Callable[..., Any]:
    """The numba function of ``count`` vectors that ``emit(builder, *vectors)`` writes."""

    def typed(*args: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return emit(builder, *values)

        return LANES_TYPE(*args), codegen

    forms: dict[
        int, Callable[..., Any]
    ] = {  # numba reads the number of arguments off the signature
        1: lambda typingctx, a: typed(a),
        2: lambda typingctx, a, b: typed(a, b),
        3: lambda typingctx, a, b, c: typed(a, b, c),
    }
    return macro(forms[count])


add = _operation(2, lambda builder, a, b: builder.fadd(a, b))
sub = _operation(2, lambda builder, a, b: builder.fsub(a, b))
mul = _operation(2, lambda builder, a, b: builder.fmul(a, b))
fma = _operation(3, _fma)  # a b + c
sigmoid = _operation(1, _sigmoid)
tanh = _operation(1, _tanh)


@macro
def zero(typingctx: Any) -> Any:
    """The vector of zeros."""
    return LANES_TYPE(), lambda context, builder, signature, args: constant(0)


@macro
def load(typingctx: Any, array: Any, index: Any) -> Any:
    """Vector ``index`` of ``array``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _load(builder, _pointer(context, builder, signature.args[0], *args))

    return LANES_TYPE(array, types.intp), codegen


@macro
def store(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """Write ``value`` to vector ``index`` of ``array``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _store(builder, args[2], _pointer(context, builder, signature.args[0], *args[:2]))
        return context.get_dummy_value()

    return types.void(array, types.intp, LANES_TYPE), codegen


@macro
def call(typingctx: Any, address: Any, arrays: Any, sizes: Any) -> Any:
    """Call the C function at ``address`` with pointers to ``arrays``, a tuple, and integers.

    A caller compiled once can so use functions compiled later, without being compiled again.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointers = [
            _data(context, builder, kind, builder.extract_value(args[1], i))
            for i, kind in enumerate(signature.args[1])
        ]
        integers = [builder.extract_value(args[2], i) for i in range(len(signature.args[2]))]
        values = [*pointers, *integers]
        kind = ir.FunctionType(ir.VoidType(), [v.type for v in values])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), values)
        return context.get_dummy_value()

    return types.void(types.intp, arrays, sizes), codegen


@macro
def prefetch(typingctx: Any, array: Any, index: Any) -> Any:
    """Ask for vector ``index`` of ``array`` to be brought near; past the end is harmless.

    Into the second-level cache: the first is full of what the passes go over again.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], *args)
        i32 = ir.IntType(32)
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, i32, i32, i32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        read, second, data = (ir.Constant(i32, v) for v in (0, 2, 1))
        builder.call(function, [builder.bitcast(pointer, byte), read, second, data])
        return context.get_dummy_value()

    return types.void(array, types.intp), codegen


def tiling(rows: int, columns: int) -> tuple[int, int]:
    """Size of the block of sums held in registers that makes the fewest loads for a product."""
    fits = [
        (r, c)
        for r, c in itertools.product(range(1, rows + 1), range(1, columns + 1))
        if r * c + min(r, c) + 1 <= REGISTERS
    ]

    def loads(tile: tuple[int, int]) -> int:
        blocks_down, blocks_across = -(-rows // tile[0]), -(-columns // tile[1])
        return blocks_across * rows + blocks_down * columns

    return min(fits, key=lambda tile: (loads(tile), tile[0] * tile[1]))


def _blocks(total: int, size: int, unroll: bool) -> list[tuple[int, int, int]]:
    """``range(total)`` cut into the fewest blocks of at most ``size``, as equal as can be.

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
    """A numba function for out[r, c] = finish(initial[r, c] + Σ_j a[r, j] b[c, j]), lane by lane.

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

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        size = args[8].type

        def at(k: int, *terms: tuple[int, Any], one: bool = False) -> Any:
            """Pointer into the k-th array, at its offset plus the sum of stride × index."""
            index = args[2 * k + 1]
            for stride, i in terms:
                index = builder.add(index, builder.mul(i, size(stride)))
            kind, array = signature.args[2 * k], args[2 * k]
            if one:
                return builder.gep(_data(context, builder, kind, array), [index])
            return _pointer(context, builder, kind, array, index)

        def read(k: int, *terms: tuple[int, Any]) -> Any:
            if not shared:
                return _load(builder, at(k, *terms))
            number = builder.load(at(k, *terms, one=True))
            vector = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), number, size(0))
            mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
            return builder.shuffle_vector(vector, vector, mask)

        sums = [
            [cgutils.alloca_once(builder, VECTOR) for _ in range(tile_columns)]
            for _ in range(tile_rows)
        ]

        def tile(R: list[Any], C: list[Any]) -> None:
            cells = [(i, j, r, c) for i, r in enumerate(R) for j, c in enumerate(C)]
            if initial and initial[1] == 0:
                column = [read(3, (initial[0], r)) for r in R]
                starts = [column[i] for i, *_ in cells]
            elif initial:
                starts = [read(3, (initial[0], r), (initial[1], c)) for _, _, r, c in cells]
            else:
                starts = [constant(0)] * len(cells)
            for (i, j, *_), start in zip(cells, starts, strict=True):
                builder.store(start, sums[i][j])
            with cgutils.for_range(builder, args[8]) as loop:
                # from the last term: the first ones wait for the step before
                t = builder.sub(builder.sub(args[8], size(1)), loop.index)
                left = [read(1, (a[0], r), (a[1], t)) for r in R]
                right = [_load(builder, at(2, (b[0], c), (b[1], t))) for c in C] if b else []
                for i, j, _, _ in cells:
                    held = builder.load(sums[i][j])
                    held = (
                        _fma(builder, left[i], right[j], held) if b else builder.fadd(left[i], held)
                    )
                    builder.store(held, sums[i][j])
            for i, j, r, c in cells:
                value = builder.load(sums[i][j])
                if relu:
                    value = _relu(builder, value)
                if where_positive:
                    gate = _load(builder, at(3, (where_positive[0], r), (where_positive[1], c)))
                    value = _where_positive(builder, gate, value)
                _store(builder, value, at(0, (out[0], r), (out[1], c)))

        for (r, height, down), (c, width, across) in itertools.product(
            _blocks(rows, tile_rows, unroll), _blocks(columns, tile_columns, unroll)
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
        return context.get_dummy_value()

    def typed(
        typingctx: Any, o: Any, _o: Any, a: Any, _a: Any, b: Any, _b: Any, x: Any, _x: Any, _j: Any
    ) -> Any:
        size = types.intp
        return types.void(o, size, a, size, b, size, x, size, size), codegen

    return macro(typed)
