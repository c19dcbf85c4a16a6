"""Functions of lines of cells, a vector at a time: copies, bias and activation, pooling by two, and their gradients.

Each writes just `count` cells; the last few by vectors with a mask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from xcnn_numpy.direct.blocks import Block

DEAD = 255
"""Stands for the tap of a pooled window in which no cell is above zero: none gets a gradient."""


NONE, RELU, SIGMOID = 0, 1, 2
"""Activations by number."""


def line(cell: Callable[..., Any]) -> Any:
    """An intrinsic f(out, out_at, a, a_at, b, b_at, scalars, count): out[n] = cell(block, a[n], b[n], *scalars)."""

    @intrinsic  # type: ignore[untyped-decorator]
    def function(
        typing: Any, out: Any, out_at: Any, a: Any, a_at: Any, b: Any, b_at: Any, scalars: Any, count: Any
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            out_, out_at, a_, a_at, b_, b_at, scalars_, count = arguments
            block = Block(context, builder, out)
            result, first, second = block.start(out, out_, out_at), block.start(a, a_, a_at), block.start(b, b_, b_at)
            constants = block.constants(scalars, scalars_)

            def whole(at: Any) -> None:
                seen = (block.load(block.beyond(x, at)) for x in (first, second))
                block.store(cell(block, *seen, *constants), block.beyond(result, at))

            def rest(at: Any, mask: Any) -> None:
                seen = (block.load_some(block.beyond(x, at), mask) for x in (first, second))
                block.store_some(cell(block, *seen, *constants), block.beyond(result, at), mask)

            block.along(count, whole, rest)
            return context.get_dummy_value()

        return types.void(out, out_at, a, a_at, b, b_at, scalars, count), generate

    return function


def line_sum(term: Callable[..., Any]) -> Any:
    """An intrinsic f(a, a_at, b, b_at, scalars, count) -> sum of term(block, a[n], b[n], *scalars)."""

    @intrinsic  # type: ignore[untyped-decorator]
    def function(typing: Any, a: Any, a_at: Any, b: Any, b_at: Any, scalars: Any, count: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            a_, a_at, b_, b_at, scalars_, count = arguments
            block = Block(context, builder, a)
            first, second = block.start(a, a_, a_at), block.start(b, b_, b_at)
            constants = block.constants(scalars, scalars_)
            return block.sum_along(
                count,
                lambda load, at: term(block, load(block.beyond(first, at)), load(block.beyond(second, at)), *constants),
            )

        return a.dtype(a, a_at, b, b_at, scalars, count), generate

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
    lambda b, dy, y: b.builder.select(b.builder.fcmp_ordered(">", y, b.zero), dy, b.zero),
    lambda b, dy, y: b.builder.fmul(dy, b.builder.fmul(y, b.builder.fsub(b.constant(1.0), y))),
)


def _number(b: Block, tap: int) -> Any:
    return ir.Constant(b.bytes, [tap] * b.lanes)


_shift = [line(lambda b, x, _, s, f=f: f(b, b.builder.fadd(x, s))) for f in ACTIVATIONS]
_add = [line(lambda b, x, y, f=f: f(b, b.builder.fadd(x, y))) for f in ACTIVATIONS]
_slope = [line(lambda b, dy, y, f=f: f(b, dy, y)) for f in SLOPES]
_shift_0, _shift_1, _shift_2 = _shift
_add_0, _add_1, _add_2 = _add
_slope_0, _slope_1, _slope_2 = _slope
_total = line_sum(lambda b, x, _: x)


@njit(nogil=True)  # type: ignore[untyped-decorator]
def copy(out: Any, out_at: int, a: Any, a_at: int, count: int) -> None:
    """Out = a."""
    _slope_0(out, out_at, a, a_at, a, a_at, (), count)


@njit(nogil=True)  # type: ignore[untyped-decorator]
def shift(out: Any, out_at: int, a: Any, a_at: int, s: float, activation: int, count: int) -> None:
    """Out = f(a + s)."""
    if activation == NONE:
        _shift_0(out, out_at, a, a_at, a, a_at, (s,), count)
    elif activation == RELU:
        _shift_1(out, out_at, a, a_at, a, a_at, (s,), count)
    else:
        _shift_2(out, out_at, a, a_at, a, a_at, (s,), count)


@njit(nogil=True)  # type: ignore[untyped-decorator]
def add(out: Any, out_at: int, a: Any, a_at: int, b: Any, b_at: int, activation: int, count: int) -> None:
    """Out = f(a + b)."""
    if activation == NONE:
        _add_0(out, out_at, a, a_at, b, b_at, (), count)
    elif activation == RELU:
        _add_1(out, out_at, a, a_at, b, b_at, (), count)
    else:
        _add_2(out, out_at, a, a_at, b, b_at, (), count)


@njit(nogil=True)  # type: ignore[untyped-decorator]
def slope(out: Any, out_at: int, dy: Any, dy_at: int, y: Any, y_at: int, activation: int, count: int) -> None:
    """Out = dy f', from y."""
    if activation == NONE:
        _slope_0(out, out_at, dy, dy_at, dy, dy_at, (), count)
    elif activation == RELU:
        _slope_1(out, out_at, dy, dy_at, y, y_at, (), count)
    else:
        _slope_2(out, out_at, dy, dy_at, y, y_at, (), count)


@njit(nogil=True)  # type: ignore[untyped-decorator]
def total(a: Any, at: int, count: int) -> Any:
    """The sum of a line."""
    return _total(a, at, a, at, (), count)


@intrinsic  # type: ignore[untyped-decorator]
def _pool(
    typing: Any, y: Any, which: Any, y_at: Any, x: Any, first: Any, second: Any, s: Any, count: Any
) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        y_, which_, y_at, x_, first, second, s, count = arguments
        b = Block(context, builder, y)
        results, taps = b.start(y, y_, y_at), b.start(which, which_, y_at)
        rows = b.start(x, x_, first), b.start(x, x_, second)
        bias = b.everywhere(s)

        def pooled(load: Callable[[Any, int], Any], at: Any) -> tuple[Any, Any]:
            best, tap = None, None
            for n, cells in enumerate(b.evens_and_odds(*(load(b.beyond(row, b.times(at, 2)), k) for k in (0, 1))) for row in rows):
                for m, cell in enumerate(cells):
                    number = _number(b, 2 * n + m)
                    if best is None:
                        best, tap = cell, number
                        continue
                    takes = builder.or_(
                        builder.fcmp_ordered(">", cell, best),
                        builder.and_(builder.fcmp_unordered("uno", cell, cell), builder.fcmp_ordered("ord", best, best)),
                    )
                    best, tap = builder.select(takes, cell, best), builder.select(takes, number, tap)
            best = builder.fadd(best, bias)
            return _relu(b, best), builder.select(builder.fcmp_unordered("<=", best, b.zero), _number(b, DEAD), tap)

        def whole(at: Any) -> None:
            best, tap = pooled(lambda row, k: b.load(b.beyond(row, k * b.lanes)), at)
            b.store(best, b.beyond(results, at))
            b.store(tap, b.beyond(taps, at))

        def rest(at: Any, mask: Any) -> None:
            left = builder.sub(b.times(count, 2), b.times(at, 2))
            masks = [b.first_lanes(builder.sub(left, ir.Constant(left.type, k * b.lanes))) for k in (0, 1)]
            best, tap = pooled(lambda row, k: b.load_some(b.beyond(row, k * b.lanes), masks[k]), at)
            b.store_some(best, b.beyond(results, at), mask)
            b.store_some(tap, b.beyond(taps, at), mask)

        b.along(count, whole, rest)
        return context.get_dummy_value()

    return types.void(y, which, y_at, x, first, second, y.dtype, count), generate


@intrinsic  # type: ignore[untyped-decorator]
def _unpool(typing: Any, dx: Any, first: Any, second: Any, dy: Any, which: Any, y_at: Any, count: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        dx_, first, second, dy_, which_, y_at, count = arguments
        b = Block(context, builder, dx)
        rows = b.start(dx, dx_, first), b.start(dx, dx_, second)
        gradients, taps = b.start(dy, dy_, y_at), b.start(which, which_, y_at)

        def parted(gradient: Any, tap: Any, n: int) -> tuple[Any, Any]:
            cells = [
                builder.select(builder.icmp_unsigned("==", tap, _number(b, 2 * n + m)), gradient, b.zero) for m in (0, 1)
            ]
            return b.in_turn(*cells)

        def whole(at: Any) -> None:
            gradient, tap = b.load(b.beyond(gradients, at)), b.load(b.beyond(taps, at), b.bytes)
            for n, row in enumerate(rows):
                for k, half in enumerate(parted(gradient, tap, n)):
                    b.store(half, b.beyond(b.beyond(row, b.times(at, 2)), k * b.lanes))

        def rest(at: Any, mask: Any) -> None:
            gradient, tap = b.load_some(b.beyond(gradients, at), mask), b.load_some(b.beyond(taps, at), mask, b.bytes)
            left = builder.sub(b.times(count, 2), b.times(at, 2))
            for n, row in enumerate(rows):
                for k, half in enumerate(parted(gradient, tap, n)):
                    some = b.first_lanes(builder.sub(left, ir.Constant(left.type, k * b.lanes)))
                    b.store_some(half, b.beyond(b.beyond(row, b.times(at, 2)), k * b.lanes), some)

        b.along(count, whole, rest)
        return context.get_dummy_value()

    return types.void(dx, first, second, dy, which, y_at, count), generate


@njit(nogil=True)  # type: ignore[untyped-decorator]
def pool(y: Any, which: Any, y_at: int, x: Any, first: int, second: int, s: float, count: int) -> None:
    """Y = relu(the largest of two by two cells + s), the rows of x beginning at `first` and `second`; its tap, or DEAD."""
    _pool(y, which, y_at, x, first, second, s, count)


@njit(nogil=True)  # type: ignore[untyped-decorator]
def unpool(dx: Any, first: int, second: int, dy: Any, which: Any, y_at: int, count: int) -> None:
    """The gradient of `pool`: dY where the tap was largest, zero in the others."""
    _unpool(dx, first, second, dy, which, y_at, count)
