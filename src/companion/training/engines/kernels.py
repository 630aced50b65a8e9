"""The GPU's kernels: a whole pass over time in one launch, for many students at once.

One program holds one student's Θ and sixteen of its sequences, and goes through all steps.
`forward` keeps the states, or judges the answers and keeps nothing. `backward` goes from the last
step to the first and puts each δ = ∂loss/∂z in their place. `gathered` adds up the gradient, many
steps at once. Products are on the tensor cores, to the accuracy of float32. A block of Θ is filled
up with 0 to a power of two; a unit whose weights are all 0 stays at 0 and gets no gradient, so
sizes share a launch.

A row u = [x, 1] of each step and sequence meets [F b]. Kept are h after a place for δ, or of an
LSTM i, f, g, o and c, as [student][program][step][which][sequence][unit].
"""

# triton's functions are compiled from their source and carry no types
# mypy: disable-error-code="no-untyped-call, no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def high(a):
    """Round to the eleven bits that a tensor core reads."""
    return ((a.to(tl.int32, bitcast=True) + 4096) & -8192).to(tl.float32, bitcast=True)


@triton.jit
def dot(a, b):
    """Multiply to the accuracy of float32, by three products that don't wait for each other.

    Triton's own tf32x3 adds one product to the other, and takes longer where a step is all that
    there is to do.
    """
    high_a, high_b = high(a), high(b)
    # subtracted, since Triton makes a sum of products one chain again
    low = tl.dot(high(high_a - a), high_b, input_precision="tf32")
    low -= tl.dot(high_a, high(b - high_b), input_precision="tf32")
    return tl.dot(high_a, high_b, input_precision="tf32") - low


@triton.jit
def tanh(z):
    """Compute tanh, which Triton's interpreter lacks."""
    return 2 * tl.sigmoid(2 * z) - 1


@triton.jit
def block(at, height, width, w, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Read a block of Θ, whose rows are w apart, filled up with 0."""
    row, column = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)[None, :]
    return tl.load(at + row * w + column, (row < height) & (column < width), 0.0)


@triton.jit
def gates(at, n, m, w, LSTM: tl.constexpr, NP: tl.constexpr, MP: tl.constexpr):
    """Read W and [F b] of each gate; without gates, all four are one."""
    apart = n * w if LSTM else 0
    W0, F0 = block(at, n, n, w, NP, NP), block(at + n, n, m + 1, w, NP, MP)
    at += apart
    W1, F1 = block(at, n, n, w, NP, NP), block(at + n, n, m + 1, w, NP, MP)
    at += apart
    W2, F2 = block(at, n, n, w, NP, NP), block(at + n, n, m + 1, w, NP, MP)
    at += apart
    W3, F3 = block(at, n, n, w, NP, NP), block(at + n, n, m + 1, w, NP, MP)
    return W0, W1, W2, W3, F0, F1, F2, F3


@triton.jit
def places(realisation, index, student, sequence, apart, B, S):
    """Find a program's sequences among those of all realisations, and which of them there are."""
    real = sequence < B
    place = tl.load(index + student * apart + sequence, real, 0)
    return place + tl.load(realisation + student) * S, real


@triton.jit
def put(at, a, height, width, w, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Write a block where `block` reads it."""
    row, column = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)[None, :]
    tl.store(at + row * w + column, a, (row < height) & (column < width))


@triton.jit
def step(at, t, m, real, MP: tl.constexpr):
    """Read u = [x, 1] at step t."""
    column = tl.arange(0, MP)[None, :]
    x = tl.load(at[:, None] + t * m + column, real[:, None] & (column < m), 0.0)
    return tl.where(column == m, 1.0, x)


@triton.jit
def answers(h, C, c, y_at, t, p, real, PP: tl.constexpr):
    """Compute ŷ = C h + c, and read y; both are 0 past the outputs."""
    column = tl.arange(0, PP)[None, :]
    y = tl.load(y_at[:, None] + t * p + column, real[:, None] & (column < p), 0.0)
    return dot(h, tl.trans(C)) + c[None, :], y


@triton.jit
def judged(answer, y, p, real, scale, LAST: tl.constexpr, PP: tl.constexpr):
    """Measure the loss of each sequence, its derivative in ŷ, and what it is scored by."""
    output = tl.arange(0, PP)[None, :] < p
    there = real[:, None] & output
    if LAST:
        filled = tl.where(output, answer, -float("inf"))
        top = tl.max(filled, 1)
        share = tl.exp(filled - top[:, None])
        total = tl.sum(share, 1)
        loss = tl.log(total) + top - tl.sum(y * answer, 1)
        e = tl.where(there, share / total[:, None] - y, 0.0) * scale
        right = tl.argmax(filled, 1) == tl.argmax(y, 1)
        # of NaN and inf, the difference from itself is no 0
        right = right & (tl.sum(answer - answer, 1) == 0)
        loss, error = tl.where(real, loss, 0.0) * scale, tl.where(real & ~right, scale, 0.0)
    else:
        e = tl.where(there, answer - y, 0.0)
        loss = tl.sum(e * e, 1) * scale
        e, error = 2 * scale * e, loss
    return loss, e, error


@triton.jit
def forward(
    theta, x, y, realisation, index, apart, kept, score, S, B, T, n, m, p, w, rows, scale,
    LSTM: tl.constexpr, LAST: tl.constexpr, KEEP: tl.constexpr,
    BP: tl.constexpr, NP: tl.constexpr, MP: tl.constexpr, PP: tl.constexpr,
):  # fmt: skip
    """Run a student over sequences; keep its states, or the sum of what the answers score."""
    student, part, parts = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    place, real = places(realisation, index, student, part * BP + tl.arange(0, BP), apart, B, S)
    x_at, y_at = x + place * T * m, y + place * (1 if LAST else T) * p
    theta += student * rows * w
    W0, W1, W2, W3, F0, F1, F2, F3 = gates(theta, n, m, w, LSTM, NP, MP)
    W0, W1, W2, W3 = tl.trans(W0), tl.trans(W1), tl.trans(W2), tl.trans(W3)
    F0, F1, F2, F3 = tl.trans(F0), tl.trans(F1), tl.trans(F2), tl.trans(F3)
    top = theta + (4 if LSTM else 1) * n * w
    C = block(top, p, n, w, PP, NP)
    q = tl.arange(0, PP)
    c = tl.load(top + q * w + n + m, q < p, 0.0)
    tile: tl.constexpr = BP * NP
    inside = tl.arange(0, BP)[:, None] * NP + tl.arange(0, NP)[None, :]
    of: tl.constexpr = (5 if LSTM else 2) * tile
    kept += (student * parts + part) * T * of + inside
    h = tl.zeros((BP, NP), tl.float32)
    cell = tl.zeros((BP, NP), tl.float32)
    summed = tl.zeros((BP,), tl.float32)
    u = step(x_at, 0, m, real, MP)
    for t in range(T):
        z = dot(u, F0) + dot(h, W0)
        if LSTM:
            i = tl.sigmoid(z)
            f = tl.sigmoid(dot(u, F1) + dot(h, W1))
            g = tanh(dot(u, F2) + dot(h, W2))
            o = tl.sigmoid(dot(u, F3) + dot(h, W3))
            cell = f * cell + i * g
            h = o * tanh(cell)
            if KEEP:
                tl.store(kept, i)
                keep(kept, f, g, o, cell, tile)
        else:
            h = tl.where(z <= 0, 0.0, z)  # in this order a NaN stays one, and is found
            if KEEP:
                tl.store(kept + tile, h)
        kept += of
        u = step(x_at, t + 1, m, real & (t + 1 < T), MP)  # ahead of its use
        if not KEEP and not LAST:
            answer, wanted = answers(h, C, c, y_at, t, p, real, PP)
            summed += judged(answer, wanted, p, real, scale, LAST, PP)[2]
    if not KEEP:
        if LAST:
            answer, wanted = answers(h, C, c, y_at, 0, p, real, PP)
            summed = judged(answer, wanted, p, real, scale, LAST, PP)[2]
        tl.store(score + student * parts + part, tl.sum(summed))


@triton.jit
def keep(kept, a, b, c, d, tile: tl.constexpr):
    """Write what is kept beside the first."""
    tl.store(kept + tile, a)
    tl.store(kept + 2 * tile, b)
    tl.store(kept + 3 * tile, c)
    tl.store(kept + 4 * tile, d)


@triton.jit
def past_cell(kept, dh, dcell, cell, o, before, tile: tl.constexpr):
    """Compute δ of an LSTM's gates i, f, g and o, and ∂loss/∂c of the step before."""
    i, f, g = tl.load(kept), tl.load(kept + tile), tl.load(kept + 2 * tile)
    curved = tanh(cell)
    dcell += dh * o * (1 - curved * curved)
    d0 = dcell * g * i * (1 - i)
    d1 = dcell * before * f * (1 - f)
    d2 = dcell * i * (1 - g * g)
    return d0, d1, d2, dh * curved * o * (1 - o), dcell * f


@triton.jit
def backward(
    theta, x, y, realisation, index, apart, kept, loss, gradient, S, B, T, n, m, p, w, rows, scale,
    LSTM: tl.constexpr, LAST: tl.constexpr, PIECES: tl.constexpr,
    BP: tl.constexpr, NP: tl.constexpr, MP: tl.constexpr, PP: tl.constexpr,
):  # fmt: skip
    """Turn what is kept into each δ = ∂loss/∂z, from the last step to the first.

    An LSTM's δ take the place of its gates, and h of the step before that of c. Loss and gradient
    in C and c are added up here, the rest in `gathered`.
    """
    student, part, parts = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    place, real = places(realisation, index, student, part * BP + tl.arange(0, BP), apart, B, S)
    y_at = y + place * (1 if LAST else T) * p
    theta += student * rows * w
    gradient += (student * parts + part) * PIECES * rows * w
    W0, W1, W2, W3, _, _, _, _ = gates(theta, n, m, w, LSTM, NP, MP)
    top = (4 if LSTM else 1) * n * w
    C = block(theta + top, p, n, w, PP, NP)
    q = tl.arange(0, PP)
    c = tl.load(theta + top + q * w + n + m, q < p, 0.0)
    tile: tl.constexpr = BP * NP
    inside = tl.arange(0, BP)[:, None] * NP + tl.arange(0, NP)[None, :]
    of: tl.constexpr = (5 if LSTM else 2) * tile
    kept += ((student * parts + part + 1) * T - 1) * of + inside
    if LSTM:
        cell, o = tl.load(kept + 4 * tile), tl.load(kept + 3 * tile)
        h = o * tanh(cell)
        dcell = tl.zeros((BP, NP), tl.float32)
    else:
        h = tl.load(kept + tile)
    answer, wanted = answers(h, C, c, y_at, 0 if LAST else T - 1, p, real, PP)
    summed, e, _ = judged(answer, wanted, p, real, scale, LAST, PP)
    dC, dc, dh = dot(tl.trans(e), h), e, dot(e, C)
    for k in range(T):
        t = T - 1 - k
        earlier, there = kept - of, (inside >= 0) & (t > 0)
        if LSTM:
            before = tl.load(earlier + 4 * tile, there, 0.0)
            o_before = tl.load(earlier + 3 * tile, there, 0.0)
            h = o_before * tanh(before)
            d0, d1, d2, d3, dcell = past_cell(kept, dh, dcell, cell, o, before, tile)
            cell, o = before, o_before
            dh = (dot(d0, W0) + dot(d1, W1)) + (dot(d2, W2) + dot(d3, W3))
            keep(kept, d1, d2, d3, h, tile)
        else:
            d0 = tl.where(h > 0, dh, 0.0)
            h = tl.load(earlier + tile, there, 0.0)
            dh = dot(d0, W0)
        tl.store(kept, d0)
        if not LAST:
            before_all = real & (t > 0)
            answer, wanted = answers(h, C, c, y_at, t - 1, p, before_all, PP)
            more, e, _ = judged(answer, wanted, p, before_all, scale, LAST, PP)
            summed, dc = summed + more, dc + e
            dC += dot(tl.trans(e), h)
            dh += dot(e, C)
        kept = earlier
    tl.store(loss + student * parts + part, tl.sum(summed))
    put(gradient + top, dC, p, n, w, PP, NP)
    tl.store(gradient + top + q * w + n + m, tl.sum(dc, 0), q < p)


@triton.jit
def gathered(
    x, realisation, index, apart, kept, gradient, S, B, T, n, m, w, rows,
    LSTM: tl.constexpr, PIECES: tl.constexpr, STEPS: tl.constexpr,
    BP: tl.constexpr, NP: tl.constexpr, MP: tl.constexpr, RP: tl.constexpr,
):  # fmt: skip
    """Add up Σ δ ⊗ [h, x, 1], of RP rows of one gate, over a piece of the steps, some at a time.

    With few rows a program has its numbers in registers, where the tensor cores want them.
    """
    student, part, parts = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    piece, rest = tl.program_id(2) % PIECES, tl.program_id(2) // PIECES
    gate, first_row = rest // (NP // RP), rest % (NP // RP) * RP
    row, unit = tl.arange(0, STEPS * BP), tl.arange(0, NP)[None, :]
    sequence = part * BP + row % BP
    place, real = places(realisation, index, student, sequence, apart, B, S)
    tile: tl.constexpr = BP * NP
    of: tl.constexpr = (5 if LSTM else 2) * tile
    kept += (student * parts + part) * T * of + (row % BP)[:, None] * NP
    h_at = kept + (4 * tile if LSTM else tile - of) + unit
    d_at = kept + gate * tile + first_row + tl.arange(0, RP)[None, :]
    span = (T + PIECES - 1) // PIECES
    end = tl.minimum(T, (piece + 1) * span)
    dW, dF = tl.zeros((RP, NP), tl.float32), tl.zeros((RP, MP), tl.float32)
    for first in range(piece * span, end, STEPS):
        t = first + row // BP
        on = (t < end)[:, None]
        d = tl.trans(tl.load(d_at + t[:, None] * of, on, 0.0))
        h = tl.load(h_at + t[:, None] * of, on & ((t > 0)[:, None] | LSTM), 0.0)
        u = step(x + (place * T + t) * m, 0, m, real & (t < end), MP)
        dW, dF = dW + dot(d, h), dF + dot(d, u)
    row_at = gradient + ((student * parts + part) * PIECES + piece) * rows * w
    row_at += (gate * n + first_row) * w
    put(row_at, dW, n - first_row, n, w, RP, NP)
    put(row_at + n, dF, n - first_row, m + 1, w, RP, MP)
