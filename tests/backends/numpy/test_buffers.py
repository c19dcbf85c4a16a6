"""Recycled memory: never shared while it is held, used again once it is not, and bounded."""

import gc
import os
import pickle
import random
import signal
import sys
import threading
import time

import numpy as np
import pytest
from draws import draws
from xcnn_host import buffers, metering, threads
from xcnn_host.buffers import SMALLEST, Buffer, Recycler

import xcnn
from xcnn.core import process
from xcnn.core.memory import Round
from xcnn.model.memory import Course

CELLS = SMALLEST // 4  # of float32, the smallest that is recycled


def address(array):
    return array.__array_interface__["data"][0]


def remembered(recycler):
    """The parts of its buffers that arrays live in."""
    return [
        buffer.memory[buffer.first : buffer.first + size]
        for size, shelf in recycler.shelves.items()
        for buffer in shelf
    ]


@pytest.mark.parametrize("shape", [(), (0,), (3, 5), (CELLS,), (7, CELLS), (2, 3, CELLS // 2), (CELLS, 0, 4)])
@pytest.mark.parametrize("dtype", ["float32", np.float64, "int8", np.dtype(">f4"), "complex128"])
def test_it_is_an_array_as_any_other(shape, dtype):
    array, expected = buffers.empty(shape, dtype), np.empty(shape, dtype)
    assert (array.shape, array.dtype, type(array)) == (expected.shape, expected.dtype, np.ndarray)
    assert array.flags.carray or not array.dtype.isnative
    assert array.strides == expected.strides
    array[...] = 1
    assert np.all(array == 1)


def test_objects_are_not_recycled():
    assert all(cell is None for cell in buffers.empty((CELLS,), object))


def test_memory_that_was_let_go_of_is_used_again():
    recycler = Recycler()
    array = recycler.empty((CELLS,), "float32")
    before = address(array)
    del array
    again = recycler.empty((CELLS // 8, 4), "float64")  # another shape and type of the same size
    assert address(again) == before
    assert address(recycler.empty((CELLS,), "float32")) != before
    assert len(remembered(recycler)) == 2


def test_arrays_begin_at_cache_lines_and_not_all_alike_within_a_page():
    arrays = [Recycler().empty((CELLS + n,), "float32") for n in range(3)]
    assert all(address(array) % 64 == 0 for array in arrays)
    recycler = Recycler()
    pages = [address(recycler.empty((n * 2**20,), "uint8")) % 4096 for n in range(1, 9)]
    assert len(set(pages)) > 4


def test_small_arrays_are_not_remembered():
    recycler = Recycler()
    recycler.empty((CELLS - 1,), "float32")
    assert not remembered(recycler)


VIEWS = {
    "itself": lambda a: a,
    "slice": lambda a: a[5:6],
    "view of a view": lambda a: a[::2].reshape(-1, 2).T[0].view("int32"),
    "scalar view": lambda a: a[3, ...],
    "memoryview": memoryview,
    "buffer": lambda a: np.frombuffer(a, "uint8"),
    "iterator": lambda a: a.flat,
    "bound method": lambda a: a.sum,
    "closure": lambda a: lambda: a,
    "cycle": lambda a: (lambda box: box.append(box) or box)([a]),
    "base": lambda a: a.base,
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_whatever_holds_it_keeps_it(view):
    recycler = Recycler()
    array = recycler.empty((CELLS,), "float32")
    before, held = address(array), view(array)
    del array
    others = [recycler.empty((CELLS,), "float32") for _ in range(3)]
    assert before not in map(address, others)
    del held
    gc.collect(1)  # for the cycle, which is young: all that PyTorch and JAX made takes a second
    assert address(recycler.empty((CELLS,), "float32")) == before


def test_pytorch_holds_it():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    recycler = Recycler()
    array = recycler.empty((CELLS,), "float32")
    before, tensor = address(array), torch.from_numpy(array)[1:]
    del array
    other = recycler.empty((CELLS,), "float32")
    assert address(other) != before
    del tensor
    assert address(recycler.empty((CELLS,), "float32")) == before


def test_bytes_are_bounded_and_what_lies_longest_goes_first():
    recycler = Recycler(most_bytes=5 * SMALLEST)
    sizes = [1, 2, 1, 2]
    arrays = [recycler.empty((n * CELLS,), "float32") for n in sizes]
    kept = remembered(recycler)
    assert sum(memory.nbytes for memory in kept) == 5 * SMALLEST
    assert {address(memory) for memory in kept} == {address(array) for array in arrays[1:]}
    arrays[0][:] = 7.0  # forgotten, not freed
    recycler.empty((6 * CELLS,), "float32")[:] = 1.0  # larger than all that may be remembered
    assert not remembered(recycler)
    assert np.all(arrays[0] == 7.0)


def test_the_number_of_buffers_is_bounded():
    recycler = Recycler(most_buffers=3)
    arrays = [recycler.empty((CELLS + n,), "float32") for n in range(10)]
    assert sorted(address(memory) for memory in remembered(recycler)) == sorted(map(address, arrays[-3:]))


def test_what_is_unused_for_long_is_forgotten():
    recycler = Recycler(idle=10)
    recycler.empty((3 * CELLS,), "float32")
    for _ in range(25):
        recycler.empty((CELLS,), "float32")
    assert [memory.nbytes for memory in remembered(recycler)] == [SMALLEST]


def test_arrays_of_all_sizes_keep_about_twice_what_the_largest_needs():
    """As a model does that predicts batches of 1 to 64 images: not 64 sizes, each with its own."""
    recycler, rng = Recycler(), random.Random(0)
    sizes = [*range(1, 65), *range(64, 0, -1), *(rng.randrange(1, 65) for _ in range(200))]
    for n in sizes:
        held = [recycler.empty((n * CELLS,), "float32") for _ in range(2)]
        held.clear()
    kept = sum(memory.nbytes for memory in remembered(recycler))
    assert 2 * 64 * SMALLEST <= kept <= 2 * 2 * 64 * SMALLEST


def test_steps_that_repeat_take_no_new_memory(monkeypatch):
    """After the first few, whatever sizes a step asks for and however long it holds them."""
    made = []
    monkeypatch.setattr(buffers, "Buffer", lambda *args: made.append(args) or Buffer(*args))
    for seed in range(draws(20)):
        rng = random.Random(seed)
        step = [(rng.randrange(1, 40), rng.randrange(1, 6)) for _ in range(12)]
        recycler, held, counts = Recycler(), [], []
        for _ in range(30):
            made.clear()
            for at, (n, stays) in enumerate(step):
                held = [(last, array) for last, array in held if last > at]
                held.append((at + stays, recycler.empty((n * CELLS,), "float32")))
            held = []
            counts.append(len(made))
        assert counts[-10:] == [0] * 10, step


@pytest.mark.parametrize("cells", [CELLS, CELLS + 1, 5 * CELLS - 1, 7 * CELLS, 10**6])
def test_memory_serves_what_is_not_much_smaller(cells):
    recycler = Recycler()
    before = address(recycler.empty((cells,), "float32"))
    (size,) = recycler.shelves
    assert cells * 4 <= size < 1.25 * cells * 4
    assert address(recycler.empty((max(cells * 2 // 3, CELLS),), "float32")) == before
    if cells > 3 * CELLS:
        assert address(recycler.empty((cells * 2 // 5,), "float32")) != before


def test_a_limit_that_is_lowered_holds_at_once():
    recycler = Recycler()
    arrays = [recycler.empty((4 * CELLS,), "float32") for _ in range(16)]
    recycler.limit(2)
    assert sorted(address(memory) for memory in remembered(recycler)) == sorted(map(address, arrays[-8:]))
    recycler.limit(0)
    assert not remembered(recycler)


def test_without_a_limit_what_is_needed_again_is_kept():
    """Of what is larger than `most_bytes`: from the second time on it is there, and nothing beyond it is."""
    recycler, rounds = Recycler(most_bytes=4 * SMALLEST, grows=True), []
    for _ in range(4):
        arrays = [recycler.empty((2 * CELLS,), "float32") for _ in range(6)]
        rounds.append(sorted(map(address, arrays)))
        del arrays
    assert len(set(rounds[0])) == 6
    assert rounds[2] == rounds[3]
    assert len(remembered(recycler)) == 6
    other = recycler.empty((9 * CELLS,), "float32")  # beside it less need be kept
    assert sum(memory.nbytes for memory in remembered(recycler)) < 1.1 * 14 * SMALLEST
    del other
    recycler.limit(0)
    assert not remembered(recycler)


def test_what_is_needed_once_is_not_kept():
    recycler = Recycler(most_bytes=4 * SMALLEST, grows=True)
    arrays = [recycler.empty((2 * CELLS,), "float32") for _ in range(6)]
    assert sum(memory.nbytes for memory in remembered(recycler)) < 1.1 * 4 * SMALLEST
    del arrays


def test_what_was_in_use_long_ago_does_not_count():
    recycler = Recycler(most_bytes=4 * SMALLEST, grows=True, idle=8)
    del [recycler.empty((2 * CELLS,), "float32") for _ in range(6)][:]
    for _ in range(20):
        recycler.empty((CELLS,), "float32")
    assert sum(memory.nbytes for memory in remembered(recycler)) < 4 * SMALLEST


def kept():
    return sum(memory.nbytes for memory in remembered(buffers.recycler))


def used(backend):
    """A model that has predicted, and so left memory."""
    net = xcnn.Sequential(xcnn.Conv2D(8, 3), xcnn.ReLU(), xcnn.Conv2D(8, 3), xcnn.ReLU(), xcnn.Flatten(), xcnn.Dense(2))
    model = xcnn.Model(net, (1, 64, 64), backend=backend)
    model.predict(np.ones((64, 1, 64, 64), "float32"))
    return model


@pytest.fixture
def alone(monkeypatch):
    """As if other tests had left no model."""
    gc.collect()
    monkeypatch.setattr(process, "at_work", set())
    monkeypatch.setattr(buffers.recycler, "most_bytes", buffers.recycler.most_bytes)
    monkeypatch.setattr(buffers.recycler, "grows", buffers.recycler.grows)
    buffers.recycler.let_go()


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_what_is_kept_goes_with_the_last_model(name, alone):
    if name == "torch":
        pytest.importorskip("torch", reason="PyTorch is not installed")
    one = used(xcnn.backend(name))
    other, copied = used(xcnn.backend(name)), pickle.loads(pickle.dumps(one))
    del one, other
    assert kept() > 2**20
    del copied
    assert kept() == 0


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_a_backend_s_limit_holds_while_it_computes(name, alone):
    if name == "torch":
        pytest.importorskip("torch", reason="PyTorch is not installed")
    models = [used(xcnn.backend(name, kept_memory=limit)) for limit in (0, 20)]
    assert 0 < kept() <= 20 * 2**20
    models[0].predict(np.ones((1, 1, 64, 64), "float32"))
    assert kept() == 0
    for wrong in (-1, 0.5, True, "all"):
        with pytest.raises(xcnn.errors.OptionError, match=r"X104.*kept_memory"):
            xcnn.backend(name, kept_memory=wrong)


def test_a_collection_in_the_midst_of_taking_memory_is_no_deadlock(monkeypatch):
    recycler = Recycler(most_bytes=8 * SMALLEST)
    arrays = [recycler.empty((n * CELLS,), "float32") for n in (1, 2, 3)]
    monkeypatch.setattr(buffers, "Buffer", lambda *args: recycler.let_go() or Buffer(*args))
    assert recycler.empty((8 * CELLS,), "float32").size == 8 * CELLS
    assert len({address(array) for array in arrays}) == 3


def test_threads_never_share():
    recycler, faults, stop = Recycler(most_bytes=40 * SMALLEST, idle=50), [], time.monotonic() + 1.0
    interval = sys.getswitchinterval()

    def hammer(mark):
        choose, held = random.Random(mark), []
        while time.monotonic() < stop and not faults:
            array = recycler.empty((choose.choice([1, 1, 1, 2]) * CELLS,), "float32")
            array[:: CELLS // 8] = mark
            held.append(array[CELLS // 2 :])
            if len(held) > choose.randrange(6):
                held.pop(choose.randrange(len(held)))
            faults.extend(mark for view in held if np.any(view[:: CELLS // 8] != mark))

    threads = [threading.Thread(target=hammer, args=(n,)) for n in range(1, 9)]
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not faults
    assert recycler.clock > 1000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # this process has had threads
@pytest.mark.filterwarnings("ignore:.*fork.*:RuntimeWarning")  # and JAX, where other tests have used it
def test_a_forked_process_begins_anew(monkeypatch):
    """Even where another thread was about to take memory when the process was forked."""
    held = buffers.empty((CELLS,), "float32")
    held[:] = 3.0
    with buffers.recycler.lock:
        child = os.fork()
        if child == 0:
            fine = False
            signal.alarm(200)  # rather than wait for ever
            try:
                array = buffers.empty((CELLS,), "float32")
                array[:] = 5.0
                fine = bool(np.all(held == 3.0)) and len(remembered(buffers.recycler)) == 1
            finally:
                os._exit(0 if fine else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert np.all(held == 3.0)


@pytest.mark.parametrize("seed", range(draws(20)))
def test_a_rehearsal_holds_what_a_recycler_does(seed):
    """In three rounds of the same requests, the arrays that one leaves alive going at the end of the next."""
    rng, requests, living = random.Random(seed), [], []
    for number in range(60):
        requests.append((number, rng.choice([4, 5, 6, 7]) << rng.randrange(14, 18)))
        living.append(number)
        while living and rng.random() < 0.45:
            requests.append((living.pop(rng.randrange(len(living))), -1))
    most, before, recycler = 0, {}, Recycler(most_bytes=2**40)
    for _ in range(3):
        arrays = {}
        for number, size in requests:
            if size < 0:
                del arrays[number]
            else:
                arrays[number] = recycler.empty((size,), "uint8")
                bound = {id(buffer): size for size, shelf in recycler.shelves.items() for buffer in shelf}
                most = max(most, sum(bound.values()))
        before = arrays
    del before
    assert metering.held(2**40, False, [Round(requests)] * 3) == most


def test_a_rehearsal_of_memory_that_is_not_kept_holds_what_is_alive():
    requests = [(0, 2**20), (1, 2**20), (0, -1), (2, 2**19)]
    assert metering.held(0, False, [Round(requests)]) == 2 * 2**20
    assert metering.held(0, False, [Round(requests)] * 2) == 2 * 2**20 + 2**20 + 2**19  # what the first round left


def test_a_trial_ends_with_nothing_but_what_was_there_before():
    state, work = Round([(0, 2**20)]), [(0, 2**22), (1, 2**22), (0, -1), (2, 2**21)]
    by_layers, trial = metering.held(2**40, False, [state, Round(work)]), [state, Round(work, beside=5, trial=True)]
    assert by_layers == 2**20 + 2**22 + 2**22
    assert metering.held(2**40, False, trial) == by_layers + 5
    # the state of the first round is still there, and nothing else
    assert metering.held(2**40, False, [*trial, Round([(0, 2**24)])]) == 2**20 + 2**24


def test_arrays_that_grow_otherwise_than_the_batch_are_noted_so():
    with metering.metered() as meter:
        even = buffers.empty((2**20,), "float32")
        with buffers.growing(lambda times: min(times, 3)):
            at_most = buffers.empty((2**20,), "float32")
            with buffers.growing(lambda times: 1):
                always = buffers.empty((2**20,), "float32")
        meter.mark()
    assert not buffers.growths
    assert [growth(8) for _, growth in sorted(meter.growths.items())] == [3, 1]
    assert [*Course(1, 2, meter, meter).requests(16)] == [(0, 2**22), (1, 3 * 2**22), (2, 2**22)]
    assert even.size == at_most.size == always.size


def test_requests_are_noted_and_their_end_too():
    with metering.metered() as meter:
        array = buffers.empty((2**20,), "float32")
        view = array[4:].reshape(4, -1)[:, ::2]
        buffers.empty((10,), "float32")
        del array
        meter.mark()
        del view
    assert meter.requests == [[(0, 2**22)], [(0, -1)]]
    assert meter.peaks[0] < 2**18


def test_what_helping_threads_ask_for_is_noted_too():
    who = []

    def work(first, last):
        who.append(threading.get_ident())
        return buffers.empty((2**20,), "float32")

    before = threads.share(work, 2, 2)  # of the recycler, which has them now
    del before
    with metering.metered() as meter:
        kept = threads.share(work, 2, 2)
        assert sorted(size for _, size in meter.requests[0]) == [2**22, 2**22]
        del kept
    assert sorted(size for _, size in meter.requests[0]) == [-1, -1, 2**22, 2**22]
    assert len(set(who)) == 2
    assert not threads.beside
    assert not {*who} & {*buffers.elsewhere}
