"""Functions of lines of cells, a vector at a time: copies, bias and activation, pooling by two, and their gradients.

Each writes just `count` cells; the last few by vectors with a mask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from xcnn_numpy.direct.blocks import INDEX, LANE, LONGEST, Block

CACHE_LINE = 64
"""Bytes."""
DEAD = 255
"""Stands for the tap of a pooled window in which no cell is above zero: none gets a gradient."""


NONE, RELU, SIGMOID = 0, 1, 2
"""Activations by number."""


def plane(cell: Callable[..., Any]) -> Any:
    """An intrinsic that sets out[n] = cell(block, a[n], b[n], *scalars) in a plane of rows by columns.

    f(out, out_at, out_pitch, a, a_at, a_pitch, b, b_at, b_pitch, scalars, rows, columns), a pitch being the distance
    from one row to the next.
    """

    @intrinsic
    def function(
        typing: Any, out: Any, out_at: Any, out_pitch: Any, a: Any, a_at: Any, a_pitch: Any, b: Any, b_at: Any,
        b_pitch: Any, scalars: Any, rows: Any, columns: Any,
    ) -> Any:  # fmt: skip
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            out_, out_at, out_pitch, a_, a_at, a_pitch, b_, b_at, b_pitch, scalars_, rows, columns = arguments
            block = Block(context, builder, out)
            starts = [block.start(out, out_, out_at), block.start(a, a_, a_at), block.start(b, b_, b_at)]
            constants = block.constants(scalars, scalars_)

            def row(n: Any) -> None:
                pitches = (out_pitch, a_pitch, b_pitch)
                result, *sources = (block.beyond(x, builder.mul(n, p)) for x, p in zip(starts, pitches, strict=True))

                def whole(at: Any) -> None:
                    seen = (block.load(block.beyond(x, at)) for x in sources)
                    block.store(cell(block, *seen, *constants), block.beyond(result, at))

                def rest(at: Any, mask: Any) -> None:
                    seen = (block.load_some(block.beyond(x, at), mask) for x in sources)
                    block.store_some(cell(block, *seen, *constants), block.beyond(result, at), mask)

                block.along(columns, whole, rest)

            block.each(rows, row)
            return context.get_dummy_value()

        kinds = (out, out_at, out_pitch, a, a_at, a_pitch, b, b_at, b_pitch, scalars, rows, columns)
        return types.void(*kinds), generate

    return function


def plane_sums(number: int, terms: Callable[..., list[Any]]) -> Any:
    """An intrinsic f(a, b, at, pitch, scalars, rows, columns) -> the sums of terms(block, a[n], b[n], *scalars).

    There are so many terms. LONGEST cells of a row are summed in their own type, all these sums as doubles.
    """

    @intrinsic
    def function(typing: Any, a: Any, b: Any, at: Any, pitch: Any, scalars: Any, rows: Any, columns: Any) -> Any:
        kinds = types.UniTuple(types.float64, number)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            a_, b_, at, pitch, scalars_, rows, columns = arguments
            block = Block(context, builder, a)
            starts, constants = (block.start(a, a_, at), block.start(b, b_, at)), block.constants(scalars, scalars_)

            def row(n: Any, totals: list[Any]) -> list[Any]:
                lines = [block.beyond(x, builder.mul(n, pitch)) for x in starts]

                longest = ir.Constant(INDEX, LONGEST)

                def piece(m: Any, totals: list[Any]) -> list[Any]:
                    first = block.times(m, LONGEST)
                    left = builder.sub(columns, first)
                    here = [block.beyond(line, first) for line in lines]
                    sums = block.sums_along(
                        builder.select(builder.icmp_signed("<", left, longest), left, longest),
                        lambda load, at: terms(block, *(load(block.beyond(x, at)) for x in here), *constants),
                        number,
                    )
                    wide = [sum_ if block.bits == 64 else builder.fpext(sum_, ir.DoubleType()) for sum_ in sums]
                    return [builder.fadd(total, more) for total, more in zip(totals, wide, strict=True)]

                pieces = builder.sdiv(builder.add(columns, ir.Constant(INDEX, LONGEST - 1)), longest)
                return block.loop(pieces, totals, piece)

            totals = block.loop(rows, [ir.Constant(ir.DoubleType(), 0.0)] * number, row)
            return context.make_tuple(builder, kinds, totals)

        return kinds(a, b, at, pitch, scalars, rows, columns), generate

    return function


def _relu(b: Block, x: Any) -> Any:
    """Max(x, 0), NaN where x is."""
    return b.builder.select(b.builder.fcmp_ordered("<", x, b.zero), b.zero, x)


def _sigmoid(b: Block, x: Any) -> Any:
    """1 / (1 + exp(-x)), from exp(-|x|) as xcnn.layers.activations has it."""
    negative = b.builder.fcmp_ordered("<", x, b.zero)
    power = b.exp(b.builder.select(negative, x, b.builder.fsub(b.zero, x)))
    one = b.constant(1.0)
    return b.builder.fdiv(b.builder.select(negative, power, one), b.builder.fadd(one, power))


ACTIVATIONS: tuple[Callable[[Block, Any], Any], ...] = (lambda b, x: x, _relu, _sigmoid)
SLOPES: tuple[Callable[[Block, Any, Any], Any], ...] = (
    lambda b, dy, y: dy,
    lambda b, dy, y: b.builder.select(b.builder.fcmp_ordered("<=", y, b.zero), b.zero, dy),
    lambda b, dy, y: b.builder.fmul(dy, b.builder.fmul(y, b.builder.fsub(b.constant(1.0), y))),
)


def _number(b: Block, tap: int) -> Any:
    return ir.Constant(b.bytes, [tap] * b.lanes)


_shift = [plane(lambda b, x, _, s, f=f: f(b, b.builder.fadd(x, s))) for f in ACTIVATIONS]
_add = [plane(lambda b, x, y, f=f: f(b, b.builder.fadd(x, y))) for f in ACTIVATIONS]
_slope = [plane(lambda b, dy, y, f=f: f(b, dy, y)) for f in SLOPES]
_shift_0, _shift_1, _shift_2 = _shift
_add_0, _add_1, _add_2 = _add
_slope_0, _slope_1, _slope_2 = _slope
_total = plane_sums(1, lambda b, x, _: [x])


@njit(nogil=True)
def copy(out: Any, out_at: int, out_pitch: int, a: Any, a_at: int, a_pitch: int, rows: int, columns: int) -> None:
    """Out = a."""
    _slope_0(out, out_at, out_pitch, a, a_at, a_pitch, a, a_at, a_pitch, (), rows, columns)


@njit(nogil=True)
def shift(
    out: Any, out_at: int, out_pitch: int, a: Any, a_at: int, a_pitch: int, s: float, activation: int, rows: int,
    columns: int,
) -> None:  # fmt: skip
    """Out = f(a + s)."""
    if activation == NONE:
        _shift_0(out, out_at, out_pitch, a, a_at, a_pitch, a, a_at, a_pitch, (s,), rows, columns)
    elif activation == RELU:
        _shift_1(out, out_at, out_pitch, a, a_at, a_pitch, a, a_at, a_pitch, (s,), rows, columns)
    else:
        _shift_2(out, out_at, out_pitch, a, a_at, a_pitch, a, a_at, a_pitch, (s,), rows, columns)


@njit(nogil=True)
def add(
    out: Any, out_at: int, out_pitch: int, a: Any, a_at: int, a_pitch: int, b: Any, b_at: int, b_pitch: int,
    activation: int, rows: int, columns: int,
) -> None:  # fmt: skip
    """Out = f(a + b)."""
    if activation == NONE:
        _add_0(out, out_at, out_pitch, a, a_at, a_pitch, b, b_at, b_pitch, (), rows, columns)
    elif activation == RELU:
        _add_1(out, out_at, out_pitch, a, a_at, a_pitch, b, b_at, b_pitch, (), rows, columns)
    else:
        _add_2(out, out_at, out_pitch, a, a_at, a_pitch, b, b_at, b_pitch, (), rows, columns)


@njit(nogil=True)
def slope(
    out: Any, out_at: int, out_pitch: int, dy: Any, dy_at: int, dy_pitch: int, y: Any, y_at: int, y_pitch: int,
    activation: int, rows: int, columns: int,
) -> None:  # fmt: skip
    """Out = dy f', from y."""
    if activation == NONE:
        _slope_0(out, out_at, out_pitch, dy, dy_at, dy_pitch, dy, dy_at, dy_pitch, (), rows, columns)
    elif activation == RELU:
        _slope_1(out, out_at, out_pitch, dy, dy_at, dy_pitch, y, y_at, y_pitch, (), rows, columns)
    else:
        _slope_2(out, out_at, out_pitch, dy, dy_at, dy_pitch, y, y_at, y_pitch, (), rows, columns)


@njit(nogil=True)
def total(a: Any, at: int, pitch: int, rows: int, columns: int) -> Any:
    """The sum of a plane."""
    return _total(a, a, at, pitch, (), rows, columns)[0]


@intrinsic
def _evens(
    typing: Any, out: Any, out_at: Any, out_pitch: Any, a: Any, a_at: Any, a_pitch: Any, rows: Any, columns: Any
) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        out_, out_at, out_pitch, a_, a_at, a_pitch, rows, columns = arguments
        b = Block(context, builder, out)
        results, cells = b.start(out, out_, out_at), b.start(a, a_, a_at)

        def row(n: Any) -> None:
            line, source = b.beyond(results, builder.mul(n, out_pitch)), b.beyond(cells, builder.mul(n, a_pitch))

            def whole(at: Any) -> None:  # the second vector begins one cell early, so that none beyond is read
                first = b.beyond(source, b.times(at, 2))
                b.store(b.evens_then_odds(*(b.load(b.beyond(first, k)) for k in (0, b.lanes - 1))), b.beyond(line, at))

            def rest(at: Any, mask: Any) -> None:
                first = b.beyond(source, b.times(at, 2))
                halves = (
                    b.load_some(b.beyond(first, k * b.lanes), some)
                    for k, some in enumerate(b.two_masks(columns, at, 1))
                )
                b.store_some(b.evens_and_odds(*halves)[0], b.beyond(line, at), mask)

            b.along(columns, whole, rest)

        b.each(rows, row)
        return context.get_dummy_value()

    return types.void(out, out_at, out_pitch, a, a_at, a_pitch, rows, columns), generate


@intrinsic
def _weave(
    typing: Any, out: Any, out_at: Any, out_pitch: Any, a: Any, a_at: Any, b_at: Any, pitch: Any, rows: Any,
    columns: Any,
) -> Any:  # fmt: skip
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        out_, out_at, out_pitch, a_, a_at, b_at, pitch, rows, columns = arguments
        b = Block(context, builder, out)
        results, starts = b.start(out, out_, out_at), [b.start(a, a_, at) for at in (a_at, b_at)]

        def row(n: Any) -> None:
            line = b.beyond(results, builder.mul(n, out_pitch))
            sources = [b.beyond(start, builder.mul(n, pitch)) for start in starts]

            def whole(at: Any) -> None:
                halves = b.in_turn(*(b.load(b.beyond(source, at)) for source in sources))
                for k, half in enumerate(halves):
                    b.store(half, b.beyond(b.beyond(line, b.times(at, 2)), k * b.lanes))

            def rest(at: Any, mask: Any) -> None:
                halves = b.in_turn(*(b.load_some(b.beyond(source, at), mask) for source in sources))
                for k, (half, some) in enumerate(zip(halves, b.two_masks(columns, at), strict=True)):
                    b.store_some(half, b.beyond(b.beyond(line, b.times(at, 2)), k * b.lanes), some)

            b.along(columns, whole, rest)

        b.each(rows, row)
        return context.get_dummy_value()

    return types.void(out, out_at, out_pitch, a, a_at, b_at, pitch, rows, columns), generate


@njit(nogil=True)
def weave(
    out: Any, out_at: int, out_pitch: int, a: Any, even_at: int, odd_at: int, pitch: int, rows: int, columns: int
) -> None:
    """out[r, 2 n] and out[r, 2 n + 1] = the n-th cells of two planes of `a`."""
    _weave(out, out_at, out_pitch, a, even_at, odd_at, pitch, rows, columns)


@njit(nogil=True)
def gather(
    out: Any, out_at: int, out_pitch: int, a: Any, a_at: int, a_pitch: int, step: int, rows: int, columns: int
) -> None:
    """out[r, n] = a[r, step n]"""
    if step == 1:
        copy(out, out_at, out_pitch, a, a_at, a_pitch, rows, columns)
    elif step == 2:
        _evens(out, out_at, out_pitch, a, a_at, a_pitch, rows, columns)
    else:
        for r in range(rows):
            into, source = np.uintp(out_at + r * out_pitch), np.uintp(a_at + r * a_pitch)
            for n in range(np.uintp(columns)):
                out[into + n] = a[source + n * np.uintp(step)]


@njit(nogil=True)
def scatter(
    out: Any, out_at: int, out_pitch: int, a: Any, a_at: int, a_pitch: int, step: int, rows: int, columns: int
) -> None:
    """out[r, step n] = a[r, n]; the cells between stay."""
    if step == 1:
        copy(out, out_at, out_pitch, a, a_at, a_pitch, rows, columns)
    else:
        for r in range(rows):
            into, source = np.uintp(out_at + r * out_pitch), np.uintp(a_at + r * a_pitch)
            for n in range(np.uintp(columns)):
                out[into + n * np.uintp(step)] = a[source + n]


@intrinsic
def _prefetch(typing: Any, a: Any, at: Any, count: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a_, at, count = arguments
        b = Block(context, builder, a)
        start = b.start(a, a_, at)
        signature_ = ir.FunctionType(ir.VoidType(), [start.type, LANE, LANE, LANE])
        fetch = cgutils.get_or_insert_function(builder.module, signature_, "llvm.prefetch.p0")
        hints = [ir.Constant(LANE, n) for n in (0, 2, 1)]  # to read, into the core's own cache, data
        step = CACHE_LINE // (b.bits // 8)
        b.each(
            builder.sdiv(count, ir.Constant(INDEX, step)),
            lambda n: builder.call(fetch, [b.beyond(start, b.times(n, step)), *hints]),
        )
        return context.get_dummy_value()

    return types.void(a, at, count), generate


@njit(nogil=True)
def prefetch(a: Any, at: int, count: int) -> None:
    """Ask for cells that will be read soon."""
    _prefetch(a, at, count)


@intrinsic
def _pool(
    typing: Any, y: Any, which: Any, y_at: Any, x: Any, x_at: Any, pitch: Any, s: Any, rows: Any, columns: Any
) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        y_, which_, y_at, x_, x_at, pitch, s, rows, columns = arguments
        b = Block(context, builder, y)
        y_start, which_start, x_start = b.start(y, y_, y_at), b.start(which, which_, y_at), b.start(x, x_, x_at)
        bias = b.everywhere(s)

        def pooled(pair: list[Any], load: Callable[[Any, int], Any], at: Any) -> tuple[Any, Any]:
            best, tap = None, None
            for n, line in enumerate(pair):
                halves = (load(b.beyond(line, b.times(at, 2)), k) for k in (0, 1))
                for m, cell in enumerate(b.evens_and_odds(*halves)):
                    number = _number(b, 2 * n + m)
                    if best is None:
                        best, tap = cell, number
                        continue
                    takes = builder.or_(
                        builder.fcmp_ordered(">", cell, best),
                        builder.and_(
                            builder.fcmp_unordered("uno", cell, cell), builder.fcmp_ordered("ord", best, best)
                        ),
                    )
                    best, tap = builder.select(takes, cell, best), builder.select(takes, number, tap)
            best = builder.fadd(best, bias)
            return _relu(b, best), builder.select(builder.fcmp_ordered("<=", best, b.zero), _number(b, DEAD), tap)

        def row(n: Any) -> None:
            start = builder.mul(n, columns)
            results, taps = b.beyond(y_start, start), b.beyond(which_start, start)
            first = b.beyond(x_start, builder.mul(b.times(n, 2), pitch))
            pair = [first, b.beyond(first, pitch)]

            def whole(at: Any) -> None:
                best, tap = pooled(pair, lambda line, k: b.load(b.beyond(line, k * b.lanes)), at)
                b.store(best, b.beyond(results, at))
                b.store(tap, b.beyond(taps, at))

            def rest(at: Any, mask: Any) -> None:
                masks = b.two_masks(columns, at)
                best, tap = pooled(pair, lambda line, k: b.load_some(b.beyond(line, k * b.lanes), masks[k]), at)
                b.store_some(best, b.beyond(results, at), mask)
                b.store_some(tap, b.beyond(taps, at), mask)

            b.along(columns, whole, rest)

        b.each(rows, row)
        return context.get_dummy_value()

    return types.void(y, which, y_at, x, x_at, pitch, y.dtype, rows, columns), generate


@intrinsic
def _unpool(
    typing: Any, dx: Any, dx_at: Any, pitch: Any, dy: Any, which: Any, y_at: Any, rows: Any, columns: Any
) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        dx_, dx_at, pitch, dy_, which_, y_at, rows, columns = arguments
        b = Block(context, builder, dx)
        dx_start, dy_start, which_start = b.start(dx, dx_, dx_at), b.start(dy, dy_, y_at), b.start(which, which_, y_at)

        def parted(gradient: Any, tap: Any, n: int) -> tuple[Any, Any]:
            chosen = (builder.icmp_unsigned("==", tap, _number(b, 2 * n + m)) for m in (0, 1))
            return b.in_turn(*(builder.select(here, gradient, b.zero) for here in chosen))

        def row(n: Any) -> None:
            start = builder.mul(n, columns)
            gradients, taps = b.beyond(dy_start, start), b.beyond(which_start, start)
            first = b.beyond(dx_start, builder.mul(b.times(n, 2), pitch))
            pair = first, b.beyond(first, pitch)

            def whole(at: Any) -> None:
                gradient, tap = b.load(b.beyond(gradients, at)), b.load(b.beyond(taps, at), b.bytes)
                for m, line in enumerate(pair):
                    for k, half in enumerate(parted(gradient, tap, m)):
                        b.store(half, b.beyond(b.beyond(line, b.times(at, 2)), k * b.lanes))

            def rest(at: Any, mask: Any) -> None:
                gradient, tap = (
                    b.load_some(b.beyond(gradients, at), mask),
                    b.load_some(b.beyond(taps, at), mask, b.bytes),
                )
                masks = b.two_masks(columns, at)
                for m, line in enumerate(pair):
                    for k, half in enumerate(parted(gradient, tap, m)):
                        b.store_some(half, b.beyond(b.beyond(line, b.times(at, 2)), k * b.lanes), masks[k])

            b.along(columns, whole, rest)

        b.each(rows, row)
        return context.get_dummy_value()

    return types.void(dx, dx_at, pitch, dy, which, y_at, rows, columns), generate


@njit(nogil=True)
def pool(y: Any, which: Any, y_at: int, x: Any, x_at: int, pitch: int, s: float, rows: int, columns: int) -> None:
    """Y (rows, columns) = relu(the largest of two by two cells of x + s), and its tap, or DEAD."""
    _pool(y, which, y_at, x, x_at, pitch, s, rows, columns)


@njit(nogil=True)
def unpool(dx: Any, dx_at: int, pitch: int, dy: Any, which: Any, y_at: int, rows: int, columns: int) -> None:
    """The gradient of `pool`: dY (rows, columns) where the tap was largest, zero in the others."""
    _unpool(dx, dx_at, pitch, dy, which, y_at, rows, columns)
