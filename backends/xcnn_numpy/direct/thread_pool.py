"""Compiled work shared out among threads without waking any: workers wait in compiled code, looking at a mailbox.

A thread asleep takes tens of microseconds to wake, as long as a small layer takes in all. So a worker that has done a
piece of work looks for the next for a while (LOOKS) before it goes to sleep. A piece is a compiled function, its
arguments and a range; both are written into the worker's mailbox, and a number that grows by one says that they are
there. Whoever raises a second number first takes the piece: the worker, or the one who posted it and has done its own
part before the worker came, as on a machine that has other things to do.
"""

from __future__ import annotations

import os
import platform
import threading
from types import FunctionType
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from xcnn_host.threads import ranges

from xcnn_numpy.direct.blocks import INDEX, LANE, compiled

LOOKS = 12_000
"""How often a worker looks for work before it sleeps: about a third of a millisecond."""
MOST = 256
"""Threads."""
POSTED, TAKEN, DONE, ASLEEP, CLAIMED, FUNCTION, FAILED, ARGUMENTS, CELLS = 0, 8, 16, 24, 32, 40, 47, 48, 512
"""Where a mailbox, an array of 64-bit integers, holds what; numbers that two threads write lie apart."""
BYTE = ir.IntType(8)


def _cell(context: Any, builder: Any, kind: Any, boxes: Any, n: Any, at: int) -> Any:
    """The address of a cell of the n-th mailbox."""
    data = context.make_array(kind)(context, builder, boxes).data
    return builder.gep(data, [builder.add(builder.mul(n, ir.Constant(INDEX, CELLS)), ir.Constant(INDEX, at))])


@intrinsic
def _post(typing: Any, boxes: Any, n: Any, kernel: Any, arguments: Any) -> Any:
    """Write a piece of work into the n-th mailbox: kernel(*arguments)."""
    kernel.get_call_type(typing, arguments.types, {})

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        boxes_, n, _, tuple_ = values
        compiled = kernel.dispatcher.overloads[arguments.types]
        context.active_code_library.add_linking_library(compiled.library)

        byte_pointer = BYTE.as_pointer()
        name = f"xcnn.piece.{compiled.fndesc.mangled_name}"
        piece = ir.Function(builder.module, ir.FunctionType(ir.VoidType(), [byte_pointer]), name)
        piece.linkage = "internal"
        inner = ir.IRBuilder(piece.append_basic_block())
        whole = inner.load(inner.bitcast(piece.args[0], tuple_.type.as_pointer()), align=8)
        status, _ = context.call_internal_no_propagate(
            inner, compiled.fndesc, compiled.signature, cgutils.unpack_tuple(inner, whole)
        )
        before = inner.gep(inner.bitcast(piece.args[0], INDEX.as_pointer()), [ir.Constant(INDEX, FAILED - ARGUMENTS)])
        inner.store(inner.zext(status.is_error, INDEX), before)
        inner.ret_void()

        into = builder.bitcast(_cell(context, builder, boxes, boxes_, n, ARGUMENTS), tuple_.type.as_pointer())
        builder.store(tuple_, into, align=8)
        builder.store(builder.ptrtoint(piece, INDEX), _cell(context, builder, boxes, boxes_, n, FUNCTION))
        posted = _cell(context, builder, boxes, boxes_, n, POSTED)
        builder.store_atomic(builder.add(builder.load(posted), ir.Constant(INDEX, 1)), posted, "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(boxes, n, kernel, arguments), generate


@intrinsic
def _do(typing: Any, boxes: Any, n: Any) -> Any:
    """Do the piece of work in the n-th mailbox."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [BYTE.as_pointer()]).as_pointer()
        boxes_, n = values
        piece = builder.inttoptr(builder.load(_cell(context, builder, boxes, boxes_, n, FUNCTION)), kind)
        arguments = _cell(context, builder, boxes, boxes_, n, ARGUMENTS)
        builder.call(piece, [builder.bitcast(arguments, BYTE.as_pointer())])
        return context.get_dummy_value()

    return types.void(boxes, n), generate


@intrinsic
def _read(typing: Any, boxes: Any, n: Any, at: Any) -> Any:
    """A number that another thread writes."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        boxes_, n, at = values
        address = builder.gep(_cell(context, builder, boxes, boxes_, n, 0), [at])
        return builder.load_atomic(address, "seq_cst", 8)

    return types.int64(boxes, n, at), generate


@intrinsic
def _write(typing: Any, boxes: Any, n: Any, at: Any, number: Any) -> Any:
    """Write a number that another thread reads."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        boxes_, n, at, number = values
        address = builder.gep(_cell(context, builder, boxes, boxes_, n, 0), [at])
        builder.store_atomic(number, address, "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(boxes, n, at, types.int64), generate


@intrinsic
def _takes(typing: Any, boxes: Any, n: Any, piece: Any) -> Any:
    """Whether this thread is the first to take a piece, a number, of the n-th mailbox."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        boxes_, n, piece = values
        address = _cell(context, builder, boxes, boxes_, n, TAKEN)
        before = builder.sub(piece, ir.Constant(INDEX, 1))
        swapped = builder.cmpxchg(address, before, piece, "seq_cst", "seq_cst")
        return builder.extract_value(swapped, 1)

    return types.boolean(boxes, n, types.int64), generate


@intrinsic
def _pause(typing: Any) -> Any:
    """Tell the processor that this is a loop that waits."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        if platform.machine() in ("x86_64", "AMD64"):
            pause = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, pause, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def _yield(typing: Any) -> Any:
    """Let another thread have the processor."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        if os.name == "posix":
            other = ir.FunctionType(LANE, [])
            builder.call(cgutils.get_or_insert_function(builder.module, other, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), generate


@compiled
def serve(boxes: Any, n: int, looks: int) -> None:
    """Do what is posted to the n-th mailbox, until nothing came for so many looks; then mark it asleep."""
    seen = _read(boxes, n, TAKEN)
    look = 0
    while look < looks:
        piece = _read(boxes, n, POSTED)
        if piece != seen:
            if _takes(boxes, n, piece):
                _do(boxes, n)
                _write(boxes, n, DONE, piece)
            seen = piece
            look = 0
            continue
        look += 1
        _pause()
        if look == looks:
            _write(boxes, n, ASLEEP, 1)
            if _read(boxes, n, CLAIMED):  # by one who may not have seen the mark
                _write(boxes, n, ASLEEP, 0)
                look = 0


@compiled
def claim(boxes: Any) -> bool:
    """Keep workers from going to sleep; whether one sleeps already."""
    sleeps = False
    for n in range(len(boxes)):
        _write(boxes, n, CLAIMED, 1)
        sleeps |= _read(boxes, n, ASLEEP) != 0
    return sleeps


kernel: Any = None
"""In a copy of `_template` the function that it runs."""


def _template(cuts: Any, boxes: Any, looks: int, arguments: Any) -> bool:
    for n in range(len(boxes)):
        _post(boxes, n, kernel, (*arguments, n, cuts[n], cuts[n + 1]))
    for n in range(len(boxes)):  # the first is this thread's own; then what no worker has begun
        piece = _read(boxes, n, POSTED)
        if _takes(boxes, n, piece):
            _do(boxes, n)
            _write(boxes, n, DONE, piece)
    failed = False
    for n in range(len(boxes)):  # before returning: what the arguments refer to lives as long as this call
        look = 0
        while _read(boxes, n, DONE) != _read(boxes, n, POSTED):
            look += 1
            _pause()
            if look > looks:
                _yield()
        _write(boxes, n, CLAIMED, 0)
        failed |= _read(boxes, n, FAILED) != 0
    return failed


class Shared:
    """A compiled function that can run on several threads at once.

    Its last three arguments are the number of a part, its first thing and the one after its last. What a part computes
    must depend on these alone, and nothing but memory may fail it.
    """

    def __init__(self, function: Any) -> None:
        self.kernel = compiled(function)
        name = f"shared_{function.__name__}"
        code = _template.__code__.replace(co_filename=function.__code__.co_filename, co_name=name, co_qualname=name)
        scope = {**globals(), "kernel": self.kernel, "__name__": function.__module__}
        self.together = compiled(FunctionType(code, scope, name))

    def __call__(self, threads: int, count: int, *arguments: Any) -> None:
        """Run it on ranges of `count` things; one after another where the workers are busy for another thread."""
        cuts = ranges(count, min(threads, MOST))
        if len(cuts) == 1 or not team.busy.acquire(blocking=False):
            for part, (first, last) in enumerate(cuts):
                self.kernel(*arguments, part, first, last)
            return
        try:
            edges = np.array([0, *(last for _, last in cuts)])
            if self.together(edges, team.awake(len(cuts)), LOOKS, arguments):
                raise MemoryError("a thread found no memory for its part of the work")
        except BaseException:  # interrupted before anything was posted
            team.boxes[:, CLAIMED] = 0
            raise
        finally:
            team.busy.release()


class ThreadPool:
    """The workers of this process: threads, each with a mailbox, and a bell for when it sleeps."""

    def __init__(self) -> None:
        self.busy = threading.Lock()
        self.boxes = np.zeros((MOST, CELLS), dtype=np.int64)
        self.bells = [threading.Semaphore(0)]  # the first mailbox is of whoever calls, and wakes nobody

    def awake(self, count: int) -> Any:
        """The mailboxes of so many threads: the caller's own, and those of workers, which look for work."""
        for n in range(len(self.bells), count):
            self.boxes[n, ASLEEP] = 1
            self.bells.append(threading.Semaphore(0))
            threading.Thread(target=self.work, args=(n, self.bells[n]), name=f"xcnn-{n}", daemon=True).start()
        boxes = self.boxes[:count]
        if claim(boxes):
            for n in range(1, count):
                if boxes[n, ASLEEP]:
                    boxes[n, ASLEEP] = 0
                    self.bells[n].release()
        return boxes

    def work(self, n: int, bell: threading.Semaphore) -> None:
        """What a worker does for ever."""
        boxes = self.boxes
        while True:
            bell.acquire()
            serve(boxes, n, LOOKS)


def _forget() -> None:
    """In a forked child no worker runs: start anew."""
    global team
    team = ThreadPool()


team = ThreadPool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
