"""The two innermost loops, written as vector instructions, for Numba to compile for the processor at hand.

Both work on a small block of results that stays in registers while a whole sum runs past it:

    multiply:  y[r, p] = sum over k of  w[k, r] x[offsets[k] + p]        for a few r, and p along whole vectors
    dot:       s[r, k] = sum over p of  y[r, p] x[offsets[k] + p]        for a few r and k, p along whole vectors

X is never copied into the columns of a matrix: each k, a kernel's tap or a row of a matrix, is an offset into it.
Where rows hold a whole number of half vectors, p can go through their cells alone, without those between two rows: then
a table says for each vector where both its halves lie in x, and where the vector lies in y. For
`dot` that would not pay: it has as many vectors of x as of y to put together, where `multiply` has numbers.
All arrays are flat; `at` is where a block begins, counted in cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from xcnn_numpy.caching import keep

WIDE = bool(llvmlite.binding.get_host_cpu_features().get("avx512f"))
VECTOR_BYTES = 64 if WIDE else 32
REGISTERS = 24 if WIDE else 12
"""How many vectors of results a block holds: the processor's registers, less those for its operands."""
MULTIPLY_ROWS, MULTIPLY_VECTORS = 8, 6
DOT_ROWS, DOT_COLUMNS = REGISTERS // 4, 4
CHAINS = 4
"""Additions that can go on side by side in a sum along a line."""
LONGEST = 2**12
"""Cells of a line that are summed in its own type: longer lines are cut, and their parts' sums added as doubles."""
SUMS = 2**5
"""Sums of lines that are added in their own type; what that gives is added as doubles."""
TERMS = 2**10
"""Products that a result of `multiply` sums in one go: of more, each such sum is added to those before it."""
MOST_IN_HALVES = 4
"""Vectors of a block that are put together from halves: more addresses do not fit into registers."""

without_errors = njit(nogil=True, error_model="numpy")  # which raises nothing


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function at its first call with arguments of some types, and keep that for other processes."""
    return keep(without_errors(function))


inlined = njit(nogil=True, error_model="numpy", inline="always")
"""Puts a function into each that calls it, so that its instructions are made once there and not on their own too."""

INDEX, LANE = ir.IntType(64), ir.IntType(32)


@intrinsic
def lanes(typing: Any, array: Any) -> Any:
    """How many cells of this array make a vector."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(INDEX, VECTOR_BYTES // (array.dtype.bitwidth // 8))

    return types.intp(array), generate


def _align(kind: Any) -> int:
    """Bytes of a cell: nothing is known of where a vector begins."""
    return {"float": 4, "double": 8, "i32": 4}.get(str(kind.element), 1)


class Block:
    """Builds the instructions of one block: vectors of the arrays' own type, loads, products, loops."""

    def __init__(self, context: Any, builder: Any, array: Any) -> None:
        self.context, self.builder = context, builder
        self.bits = array.dtype.bitwidth
        self.cell = ir.FloatType() if self.bits == 32 else ir.DoubleType()
        self.lanes = VECTOR_BYTES // (self.bits // 8)
        self.vector = ir.VectorType(self.cell, self.lanes)
        self.zero = ir.Constant(self.vector, [0.0] * self.lanes)
        self.bytes = ir.VectorType(ir.IntType(8), self.lanes)

    def intrinsic(self, name: str, result: Any, arguments: list[Any]) -> Any:
        signature = ir.FunctionType(result, arguments)
        return cgutils.get_or_insert_function(self.builder.module, signature, f"llvm.{name}.v{self.lanes}f{self.bits}")

    def start(self, array: Any, value: Any, at: Any) -> Any:
        """The address of an array's cell."""
        data = self.context.make_array(array)(self.context, self.builder, value).data
        return self.builder.gep(data, [at])

    def beyond(self, address: Any, cells: Any) -> Any:
        return self.builder.gep(address, [cells if not isinstance(cells, int) else ir.Constant(INDEX, cells)])

    def times(self, a: Any, b: int) -> Any:
        return self.builder.mul(a, ir.Constant(INDEX, b))

    def load(self, address: Any, kind: Any = None) -> Any:
        kind = kind or self.vector
        return self.builder.load(self.builder.bitcast(address, kind.as_pointer()), align=_align(kind))

    def load_halves(self, first: Any, second: Any) -> Any:
        """A vector whose halves lie at two addresses."""
        kind = ir.VectorType(self.cell, self.lanes // 2)
        order = ir.Constant(ir.VectorType(LANE, self.lanes), list(range(self.lanes)))
        return self.builder.shuffle_vector(self.load(first, kind), self.load(second, kind), order)

    def table(self, array: Any, value: Any, at: Any, vectors: int) -> list[list[Any]]:
        """The next lines of a table of places, each with those of two halves and of the whole vector."""
        line = self.start(array, value, at)
        return [[self.builder.load(self.beyond(line, 3 * v + n)) for n in range(3)] for v in range(vectors)]

    def store(self, value: Any, address: Any) -> None:
        self.builder.store(value, self.builder.bitcast(address, value.type.as_pointer()), align=_align(value.type))

    def load_some(self, address: Any, mask: Any, kind: Any = None) -> Any:
        """The lanes that the mask allows, zero for the others: their memory is not touched."""
        kind = kind or self.vector
        pointer = self.builder.bitcast(address, kind.as_pointer())
        zero = ir.Constant(kind, [0] * self.lanes) if kind != self.vector else self.zero
        load = self._masked("load", kind, [pointer.type, LANE, mask.type, kind])
        return self.builder.call(load, [pointer, ir.Constant(LANE, _align(kind)), mask, zero])

    def store_some(self, value: Any, address: Any, mask: Any) -> None:
        """The lanes that the mask allows."""
        pointer = self.builder.bitcast(address, value.type.as_pointer())
        store = self._masked("store", value.type, [value.type, pointer.type, LANE, mask.type])
        self.builder.call(store, [value, pointer, ir.Constant(LANE, _align(value.type)), mask])

    def _masked(self, what: str, kind: Any, arguments: list[Any]) -> Any:
        cell = f"i{kind.element.width}" if isinstance(kind.element, ir.IntType) else f"f{self.bits}"
        signature = ir.FunctionType(kind if what == "load" else ir.VoidType(), arguments)
        name = f"llvm.masked.{what}.v{self.lanes}{cell}.p0"
        return cgutils.get_or_insert_function(self.builder.module, signature, name)

    def everywhere(self, scalar: Any) -> Any:
        """A vector of one number."""
        undefined = ir.Constant(ir.VectorType(scalar.type, self.lanes), ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, ir.Constant(LANE, 0))
        return self._shuffled(first, undefined, [0] * self.lanes)

    def constant(self, number: float) -> Any:
        """A vector of one number that is known now."""
        return ir.Constant(self.vector, [number] * self.lanes)

    def constants(self, kinds: Any, values: Any) -> list[Any]:
        """Vectors of a tuple's numbers, in the type of the block."""
        cell = types.float32 if self.bits == 32 else types.float64
        scalars = cgutils.unpack_tuple(self.builder, values) if len(kinds) else []
        return [
            self.everywhere(self.context.cast(self.builder, scalar, kind, cell))
            for scalar, kind in zip(scalars, kinds, strict=True)
        ]

    def exp(self, x: Any) -> Any:
        """The exponential of x <= 0, as 2^n times the Taylor series of e to the x - n log 2, n being whole."""
        builder, terms = self.builder, (8 if self.bits == 32 else 14)
        least = self.constant(-104.0 if self.bits == 32 else -746.0)
        x = builder.select(builder.fcmp_ordered("<", x, least), least, x)
        n = builder.call(
            self.intrinsic("rint", self.vector, [self.vector]), [builder.fmul(x, self.constant(1 / math.log(2)))]
        )
        # log 2 in two parts, the first with few enough digits that n times it is exact
        digits = 12 if self.bits == 32 else 32
        high = round(math.log(2) * 2**digits) / 2**digits
        low = float(Fraction("0.693147180559945309417232121458176568") - Fraction(high))
        r = self.add_product(n, self.constant(-low), self.add_product(n, self.constant(-high), x))
        series = self.constant(1 / math.factorial(terms))
        for k in reversed(range(terms)):
            series = self.add_product(series, r, self.constant(1 / math.factorial(k)))
        whole = ir.VectorType(ir.IntType(self.bits), self.lanes)
        name = f"llvm.fptosi.sat.v{self.lanes}i{self.bits}.v{self.lanes}f{self.bits}"
        convert = cgutils.get_or_insert_function(builder.module, ir.FunctionType(whole, [self.vector]), name)
        power = builder.call(convert, [n])
        half = builder.ashr(power, ir.Constant(whole, [1] * self.lanes))
        for part in (half, builder.sub(power, half)):  # in two steps, since 2^n alone may be below the type's range
            mantissa, bias = (23, 127) if self.bits == 32 else (52, 1023)
            bits = builder.add(part, ir.Constant(whole, [bias] * self.lanes))
            bits = builder.shl(bits, ir.Constant(whole, [mantissa] * self.lanes))
            series = builder.fmul(series, builder.bitcast(bits, self.vector))
        return series

    def add_product(self, a: Any, b: Any, total: Any) -> Any:
        fma = self.intrinsic("fma", self.vector, [self.vector] * 3)
        return self.builder.call(fma, [a, b, total])

    def sum(self, value: Any) -> Any:
        """The sum of a vector's lanes, pairwise."""
        reduce = self.intrinsic("vector.reduce.fadd", self.cell, [self.cell, self.vector])
        return self.builder.call(reduce, [ir.Constant(self.cell, -0.0), value], fastmath=("reassoc",))

    def four_sums(self, a: Any, b: Any, c: Any, d: Any) -> Any:
        """The sums of four vectors' lanes, as a vector of four: fewer steps than one after another."""
        n, add = self.lanes, self.builder.fadd

        def paired(a: Any, b: Any) -> Any:
            lanes = [(m, n + m) for m in range(0, n, 2)]
            return add(*(self._shuffled(a, b, [x + k for pair in lanes for x in pair]) for k in (0, 1)))

        first, second = paired(a, b), paired(c, d)
        quads = [(m, m + 1, n + m, n + m + 1) for m in range(0, n, 4)]
        total = add(*(self._shuffled(first, second, [x + k for quad in quads for x in quad]) for k in (0, 2)))
        while n > 4:
            n //= 2
            halves = (ir.Constant(ir.VectorType(LANE, n), list(range(k, k + n))) for k in (0, n))
            total = add(*(self.builder.shuffle_vector(total, total, half) for half in halves))
        return total

    def first_lanes(self, count: Any) -> Any:
        """A mask of the first `count` lanes; none where it is negative."""
        kind = ir.VectorType(INDEX, self.lanes)
        numbers = ir.Constant(kind, list(range(self.lanes)))
        return self.builder.icmp_signed("<", numbers, self.everywhere(count))

    def evens_and_odds(self, a: Any, b: Any) -> tuple[Any, Any]:
        """Of a run of cells in two vectors those with even and those with odd numbers."""
        return self._shuffled(a, b, range(0, 2 * self.lanes, 2)), self._shuffled(a, b, range(1, 2 * self.lanes, 2))

    def evens_then_odds(self, a: Any, b: Any) -> Any:
        """A's cells with even numbers and b's with odd ones."""
        return self._shuffled(a, b, [*range(0, self.lanes, 2), *range(self.lanes + 1, 2 * self.lanes, 2)])

    def in_turn(self, a: Any, b: Any) -> tuple[Any, Any]:
        """A's and b's cells in turn, as a run in two vectors."""
        turn = [n for pair in zip(range(self.lanes), range(self.lanes, 2 * self.lanes), strict=True) for n in pair]
        return self._shuffled(a, b, turn[: self.lanes]), self._shuffled(a, b, turn[self.lanes :])

    def _shuffled(self, a: Any, b: Any, lanes: Iterable[int]) -> Any:
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(LANE, self.lanes), list(lanes)))

    def two_masks(self, columns: Any, at: Any, less: int = 0) -> list[Any]:
        """Masks for the two vectors that hold the pairs of cells from `at` to the end of `columns`, `less` apart."""
        left = self.builder.sub(self.times(self.builder.sub(columns, at), 2), ir.Constant(INDEX, less))
        return [self.first_lanes(self.builder.sub(left, ir.Constant(INDEX, k * self.lanes))) for k in (0, 1)]

    def each(self, count: Any, step: Callable[[Any], None]) -> None:
        """Step(0), step(1), ..., step(count - 1)."""

        def run(n: Any, _: list[Any]) -> list[Any]:
            step(n)
            return []

        self.loop(count, [], run)

    def along(self, count: Any, whole: Callable[[Any], None], rest: Callable[[Any, Any], None]) -> None:
        """whole(at) for each whole vector of `count` cells, then rest(at, mask) for the last few, if any."""
        vectors = self.builder.sdiv(count, ir.Constant(INDEX, self.lanes))
        done = self.times(vectors, self.lanes)
        left = self.builder.sub(count, done)
        self.each(vectors, lambda n: whole(self.times(n, self.lanes)))
        some = self.builder.zext(self.builder.icmp_signed(">", left, ir.Constant(INDEX, 0)), INDEX)
        self.each(some, lambda n: rest(done, self.first_lanes(left)))

    def loop(self, count: Any, totals: list[Any], step: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
        """Totals after step(0, totals), step(1, totals), ..., step(count - 1, totals); count may be zero."""
        builder = self.builder
        before = builder.block
        body, after = builder.append_basic_block("sum"), builder.append_basic_block("summed")
        builder.cbranch(builder.icmp_signed(">", count, ir.Constant(INDEX, 0)), body, after)
        builder.position_at_end(body)
        n = builder.phi(INDEX)
        running = [builder.phi(total.type) for total in totals]
        new = step(n, running)
        following = builder.add(n, ir.Constant(INDEX, 1))
        n.add_incoming(ir.Constant(INDEX, 0), before)
        n.add_incoming(following, builder.block)
        for phi, start, result in zip(running, totals, new, strict=True):
            phi.add_incoming(start, before)
            phi.add_incoming(result, builder.block)
        last = builder.block
        again = builder.cbranch(builder.icmp_signed("<", following, count), body, after)
        again.set_metadata("llvm.loop", self.as_written())
        builder.position_at_end(after)
        results = []
        for start, result in zip(totals, new, strict=True):
            phi = builder.phi(start.type)
            phi.add_incoming(start, before)
            phi.add_incoming(result, last)
            results.append(phi)
        return results

    def as_written(self) -> Any:
        """Tells LLVM not to unroll a loop: these are as long as registers allow, and more takes longer to compile."""
        module = self.builder.module
        flag = module.add_metadata(["llvm.loop.unroll.disable"])
        loop = module.add_metadata([flag, ir.Constant(INDEX, len(module.metadata))])
        loop.operands = (loop, flag)  # a loop's data names itself
        return loop

    def sums_along(self, count: Any, terms: Callable[[Callable[[Any], Any], Any], list[Any]], number: int) -> list[Any]:
        """The sums of each of so many terms(load, at) over vectors of `count` cells; `load` knows which are whole.

        Each is begun CHAINS times, since an addition waits for the one before it in the same sum.
        """
        builder = self.builder
        vectors = builder.sdiv(count, ir.Constant(INDEX, self.lanes))
        quads = builder.sdiv(vectors, ir.Constant(INDEX, CHAINS))
        done = self.times(vectors, self.lanes)
        left = builder.sub(count, done)
        mask = self.first_lanes(left)

        def four(n: Any, totals: list[Any]) -> list[Any]:
            first = self.times(n, CHAINS * self.lanes)
            new = []
            for chain in range(CHAINS):
                at = builder.add(first, ir.Constant(INDEX, chain * self.lanes))
                some = totals[chain * number : (chain + 1) * number]
                new += [builder.fadd(total, term) for total, term in zip(some, terms(self.load, at), strict=True)]
            return new

        def whole(n: Any, totals: list[Any]) -> list[Any]:
            at = self.times(builder.add(n, self.times(quads, CHAINS)), self.lanes)
            return [builder.fadd(total, term) for total, term in zip(totals, terms(self.load, at), strict=True)]

        def rest(n: Any, totals: list[Any]) -> list[Any]:
            last = terms(lambda address: self.load_some(address, mask), done)
            return [
                builder.fadd(total, builder.select(mask, term, self.zero))
                for total, term in zip(totals, last, strict=True)
            ]

        chains = self.loop(quads, [self.zero] * (CHAINS * number), four)
        totals = chains[:number]
        for chain in range(1, CHAINS):
            some = chains[chain * number : (chain + 1) * number]
            totals = [builder.fadd(total, more) for total, more in zip(totals, some, strict=True)]
        totals = self.loop(builder.sub(vectors, self.times(quads, CHAINS)), totals, whole)
        some = builder.zext(builder.icmp_signed(">", left, ir.Constant(INDEX, 0)), INDEX)
        return [self.sum(total) for total in self.loop(some, totals, rest)]

    def choose(self, sizes: list[tuple[int, int]], first: Any, second: Any, emit: Callable[[int, int], None]) -> None:
        """Run `emit(a, b)`'s instructions for the one of these sizes that (first, second) is."""
        builder = self.builder
        number = builder.add(self.times(first, 16), second)
        after = builder.append_basic_block("chosen")
        switch = builder.switch(number, after)
        for a, b in sizes:
            case = builder.append_basic_block(f"block{a}x{b}")
            switch.add_case(ir.Constant(INDEX, 16 * a + b), case)
            builder.position_at_end(case)
            emit(a, b)
            builder.branch(after)
        builder.position_at_end(after)


def vectors_for(rows: int) -> int:
    """How many vectors a block of `multiply` with so many rows has at most."""
    return min(MULTIPLY_VECTORS, REGISTERS // rows)


MULTIPLY_SIZES = [(r, v) for r in range(1, MULTIPLY_ROWS + 1) for v in range(1, vectors_for(r) + 1)]
HALVES_SIZES = [(r, v) for r, v in MULTIPLY_SIZES if v <= MOST_IN_HALVES]
DOT_SIZES = [(r, c) for r in range(1, DOT_ROWS + 1) for c in range(1, DOT_COLUMNS + 1)]


def _sums(
    b: Block, rows: int, vectors: int, see: Callable[[Any], list[Any]], weights: Any, w_step: Any, images: Any,
    places: Any, count: Any,
) -> list[Any]:  # fmt: skip
    """The sums over k of w[k, r] times each of the vectors that `see` loads at offset k, row by row."""
    builder = b.builder

    def step(k: Any, totals: list[Any]) -> list[Any]:
        seen = see(b.beyond(images, builder.load(b.beyond(places, k))))
        weight = b.beyond(weights, builder.mul(k, w_step))
        new = []
        for r in range(rows):
            scale = b.everywhere(builder.load(b.beyond(weight, r)))
            new += [b.add_product(scale, x, totals[r * len(seen) + v]) for v, x in enumerate(seen)]
        return new

    return b.loop(count, [b.zero] * (rows * vectors), step)


def _keep(b: Block, add: Any, totals: list[Any], cells: list[Any]) -> None:
    """Store totals at these addresses, or with `add` add them to what lies there."""
    with b.builder.if_else(add, likely=False) as (more, anew):
        with more:
            for total, cell in zip(totals, cells, strict=True):
                b.store(b.builder.fadd(b.load(cell), total), cell)
        with anew:
            for total, cell in zip(totals, cells, strict=True):
                b.store(total, cell)


@intrinsic
def _multiply(
    typing: Any, rows: Any, vectors: Any, y: Any, y_at: Any, y_pitch: Any, w: Any, w_at: Any, w_step: Any, x: Any,
    x_at: Any, offsets: Any, o_at: Any, count: Any, add: Any,
) -> Any:  # fmt: skip
    signature = types.void(rows, vectors, y, y_at, y_pitch, w, w_at, w_step, x, x_at, offsets, o_at, count, add)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        some_rows, some_vectors, y_, y_at, y_pitch, w_, w_at, w_step, x_, x_at, offsets_, o_at, count, add = arguments
        b = Block(context, builder, y)
        weights, images = b.start(w, w_, w_at), b.start(x, x_, x_at)
        places, results = b.start(offsets, offsets_, o_at), b.start(y, y_, y_at)

        def emit(rows: int, vectors: int) -> None:
            lines = [b.beyond(results, b.times(y_pitch, r)) for r in range(rows)]
            cells = [b.beyond(line, v * b.lanes) for line in lines for v in range(vectors)]

            def see(here: Any) -> list[Any]:
                return [b.load(b.beyond(here, v * b.lanes)) for v in range(vectors)]

            totals = _sums(b, rows, vectors, see, weights, w_step, images, places, count)
            _keep(b, add, totals, cells)

        b.choose(MULTIPLY_SIZES, some_rows, some_vectors, emit)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _multiply_halves(
    typing: Any, rows: Any, vectors: Any, y: Any, y_at: Any, y_pitch: Any, w: Any, w_at: Any, x: Any, x_at: Any,
    offsets: Any, o_at: Any, count: Any, table: Any, t_at: Any, add: Any,
) -> Any:  # fmt: skip
    signature = types.void(rows, vectors, y, y_at, y_pitch, w, w_at, x, x_at, offsets, o_at, count, table, t_at, add)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (
            some_rows, some_vectors, y_, y_at, y_pitch, w_, w_at, x_, x_at, offsets_, o_at, count, table_, t_at, add,
        ) = arguments  # fmt: skip
        b = Block(context, builder, y)
        weights, images = b.start(w, w_, w_at), b.start(x, x_, x_at)
        places, results = b.start(offsets, offsets_, o_at), b.start(y, y_, y_at)

        def emit(rows: int, vectors: int) -> None:
            where = b.table(table, table_, t_at, vectors)
            lines = [b.beyond(results, b.times(y_pitch, r)) for r in range(rows)]

            def see(here: Any) -> list[Any]:
                return [b.load_halves(b.beyond(here, first), b.beyond(here, second)) for first, second, _ in where]

            totals = _sums(b, rows, vectors, see, weights, ir.Constant(INDEX, rows), images, places, count)
            cells = [b.beyond(line, place) for line in lines for _, _, place in where]
            _keep(b, add, totals, cells)

        b.choose(HALVES_SIZES, some_rows, some_vectors, emit)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _dot(
    typing: Any, rows: Any, columns: Any, s: Any, s_at: Any, s_pitch: Any, y: Any, y_at: Any, y_pitch: Any, x: Any,
    x_at: Any, offsets: Any, o_at: Any, length: Any,
) -> Any:  # fmt: skip
    signature = types.void(rows, columns, s, s_at, s_pitch, y, y_at, y_pitch, x, x_at, offsets, o_at, length)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        some_rows, some_columns, s_, s_at, s_pitch, y_, y_at, y_pitch, x_, x_at, offsets_, o_at, length = arguments
        b = Block(context, builder, s)
        sums, gradients, images = b.start(s, s_, s_at), b.start(y, y_, y_at), b.start(x, x_, x_at)
        places = b.start(offsets, offsets_, o_at)
        whole = builder.udiv(length, ir.Constant(INDEX, b.lanes))
        done = b.times(whole, b.lanes)
        rest = builder.sub(length, done)
        mask = b.first_lanes(rest)
        has_rest = builder.zext(builder.icmp_signed(">", rest, ir.Constant(INDEX, 0)), INDEX)

        def emit(rows: int, columns: int) -> None:
            seen = [b.beyond(images, builder.load(b.beyond(places, k))) for k in range(columns)]
            lines = [b.beyond(gradients, b.times(y_pitch, r)) for r in range(rows)]

            def products(load: Callable[[Any], Any], at: Any, totals: list[Any]) -> list[Any]:
                left = [load(b.beyond(line, at)) for line in lines]
                new = []
                for k in range(columns):
                    right = load(b.beyond(seen[k], at))
                    new += [b.add_product(left[r], right, totals[k * rows + r]) for r in range(rows)]
                return new

            totals = [b.zero] * (rows * columns)
            totals = b.loop(whole, totals, lambda n, totals: products(b.load, b.times(n, b.lanes), totals))
            totals = b.loop(has_rest, totals, lambda n, totals: products(lambda a: b.load_some(a, mask), done, totals))
            for r in range(rows):
                line, row = b.beyond(sums, b.times(s_pitch, r)), totals[r::rows]
                if columns == 4:
                    four = b.four_sums(*row)
                    b.store(builder.fadd(b.load(line, four.type), four), line)
                    continue
                for k in range(columns):
                    cell = b.beyond(line, k)
                    builder.store(builder.fadd(builder.load(cell), b.sum(row[k])), cell)

        b.choose(DOT_SIZES, some_rows, some_columns, emit)
        return context.get_dummy_value()

    return signature, generate


@inlined
def multiply(
    rows: int, vectors: int, y: Any, y_at: int, y_pitch: int, w: Any, w_at: int, w_step: int, x: Any, x_at: int,
    offsets: Any, o_at: int, count: int, add: bool,
) -> None:  # fmt: skip
    """One of MULTIPLY_SIZES: y[y_at + r y_pitch + p] = sum over k < count of w[w_at + k w_step + r] x[x_at + ...].

    With `add` the sums are added to what y holds.
    """
    _multiply(rows, vectors, y, y_at, y_pitch, w, w_at, w_step, x, x_at, offsets, o_at, count, add)


@inlined
def multiply_halves(
    rows: int, vectors: int, y: Any, y_at: int, y_pitch: int, w: Any, w_at: int, x: Any, x_at: int, offsets: Any,
    o_at: int, count: int, table: Any, t_at: int, add: bool,
) -> None:  # fmt: skip
    """One of HALVES_SIZES: as `multiply`, on the vectors of the table from its cell t_at on.

    The weights are w[w_at + k rows + r].
    """
    _multiply_halves(rows, vectors, y, y_at, y_pitch, w, w_at, x, x_at, offsets, o_at, count, table, t_at, add)


@inlined
def dot(
    rows: int, columns: int, s: Any, s_at: int, s_pitch: int, y: Any, y_at: int, y_pitch: int, x: Any, x_at: int,
    offsets: Any, o_at: int, length: int,
) -> None:  # fmt: skip
    """One of DOT_SIZES: s[s_at + r s_pitch + k] += sum over p < length of y[y_at + r y_pitch + p] x[x_at + ...].

    The length need not fill whole vectors; nothing beyond it is read.
    """
    _dot(rows, columns, s, s_at, s_pitch, y, y_at, y_pitch, x, x_at, offsets, o_at, length)
