"""cuDNN's plans: against a stub in its place, which checks and computes; and, where it is installed, by itself."""

import gc
import json
import logging
import re
import threading
from dataclasses import fields, replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from cudnn_stub import Stub, driver
from library_stub import aligned
from xcnn_cupy.answers import promising
from xcnn_cupy.cudnn import Described, Handles, Layout, Library, Plans, Present, Question, constants, library, load
from xcnn_cupy.cudnn.choices import Chosen
from xcnn_cupy.cudnn.constants import DescriptorType
from xcnn_cupy.cudnn.description import A100, B200, H100
from xcnn_cupy.cudnn.library import SIGNATURES, CudnnError
from xcnn_cupy.cudnn.plan import MOST_PACKS
from xcnn_cupy.cudnn.question import cells_that_meet
from xcnn_cupy.shared_library import in_wheels

import xcnn
from xcnn.core import reference
from xcnn.errors import BackendError, BackendUnavailable, DeviceMemoryError, OptionError, ShapeError
from xcnn.layers import Conv2D, Dense
from xcnn.nets.recipes import RECIPES

MAPS = ("forward", "input", "kernel")
PRECISIONS = {
    "float32": {"dtype": "float32"},
    "tf32": {"dtype": "float32", "math": "tf32", "channels_last": True},
    "bfloat16": {"dtype": "bfloat16", "channels_last": True},
    "float16": {"dtype": "float16", "channels_last": True},
}
SMALL = ("forward", (2, 3, 6, 5), (4, 3, 3, 2))
TENSOR_CORE, DOWN_CONVERT, REDUCED, NONDETERMINISTIC = 0, 1, 2, 4


@pytest.fixture
def stub():
    """A stub that has proposed one engine; after the test no rule may be broken, and nothing be left over."""
    made = Stub()
    yield made
    check_over(made)


def check_over(stub):
    """No rule was broken, and nothing is left."""
    if stub.alive or stub.handles:
        gc.collect()  # an error that was caught leads back to its own frame
    assert stub.broken == []
    assert stub.alive == []
    assert stub.handles == {}


def plans_on(stub, **options):
    """Plans for a device that the stub has."""
    functions = Library(stub)
    return Plans(functions, Present("a stub, sm_90", Handles(functions)), **options)


# On the stub.

CASES = {
    "plain": ((2, 3, 6, 5), (4, 3, 3, 2), {}),
    "two sides": ((2, 3, 6, 5), (4, 3, 3, 2), {"padding": ((2, 0), (1, 3))}),
    "stride": ((2, 3, 8, 9), (4, 3, 3, 2), {"stride": (2, 3), "padding": ((1, 2), (0, 1))}),
    "dilation": ((1, 2, 9, 8), (3, 2, 3, 2), {"dilation": (2, 3), "stride": (2, 1)}),
    "groups": ((2, 6, 5, 5), (4, 3, 2, 2), {"padding": ((1, 0), (0, 1))}),
    "depthwise": ((2, 4, 5, 5), (4, 1, 3, 3), {}),
}


@pytest.mark.parametrize("channels_last", [False, True], ids=["as indexed", "channels last"])
@pytest.mark.parametrize("map_", MAPS)
@pytest.mark.parametrize("case", CASES)
def test_each_map_is_the_one_of_pytorch(stub, rng, case, map_, channels_last):
    torch = pytest.importorskip("torch")
    x_shape, kernel_shape, how = CASES[case]
    question = Question.dense(map_, x_shape, kernel_shape, channels_last, dtype="float64", **how)
    arrays = {name: aligned(getattr(question, name).shape, "float64", channels_last) for name in question.roles}
    for array in arrays.values():
        array[...] = rng.standard_normal(array.shape)
    computed = {"forward": "y", "input": "x", "kernel": "kernel"}[map_]
    expected = by_torch(torch, question, arrays)[computed]
    arrays[computed][...] = np.nan
    assert [array.strides for array in arrays.values()] == [
        tuple(8 * step for step in getattr(question, name).strides) for name in arrays
    ]
    run(stub, question, arrays)
    np.testing.assert_allclose(arrays[computed], expected, rtol=1e-13, atol=1e-13)


def run(stub, question, arrays, workspace=0):
    """Answer a question with the stub."""
    functions = Library(stub)
    handles = Handles(functions)
    plan = Plans(functions, Present("a stub", handles)).plan(question)
    plan.execute(handles.handle().on(5), {name: array.ctypes.data for name, array in arrays.items()}, workspace)
    assert stub.broken == []


def by_torch(torch, question, arrays):
    """The three results, by PyTorch's convolution and its automatic differentiation."""
    x, kernel, dy = (torch.tensor(arrays[name].copy(), requires_grad=True) for name in ("x", "kernel", "y"))
    (top, bottom), (left, right) = question.padding
    wide = torch.nn.functional.pad(x, (left, right, top, bottom))
    y = torch.nn.functional.conv2d(
        wide, kernel, stride=question.stride, dilation=question.dilation, groups=question.groups
    )
    dx, dkernel = torch.autograd.grad(y, (x, kernel), dy)
    return {"y": y.detach().numpy(), "x": dx.numpy(), "kernel": dkernel.numpy()}


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_bias_and_activation_come_last(stub, rng, dtype, activation, bias):
    torch = pytest.importorskip("torch")
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    question = Question.dense(*SMALL, True, dtype=dtype, bias=bias, activation=activation)
    arrays = {name: aligned(getattr(question, name).shape, dtype, True) for name in ("x", "kernel", "y")}
    arrays |= {"bias": aligned((4,), dtype)} if bias else {}
    for name, array in arrays.items():
        array[...] = np.nan if name == "y" else rng.standard_normal(array.shape)
    exact = {name: torch.tensor(array.astype("float64")) for name, array in arrays.items()}
    expected = torch.nn.functional.conv2d(exact["x"], exact["kernel"], exact.get("bias"))
    expected = torch.relu(expected) if activation else expected
    run(stub, question, arrays)
    rounding = {"float64": 1e-13, "float32": 1e-7, "float16": 1e-3, "bfloat16": 8e-3}[dtype]
    np.testing.assert_allclose(arrays["y"].astype("float64"), expected.numpy(), rtol=rounding, atol=rounding)


def test_relu_keeps_nan(stub):
    question = Question.dense(*SMALL, activation="relu")
    arrays = {name: aligned(getattr(question, name).shape, "float32") for name in question.roles}
    arrays["x"][...], arrays["kernel"][...] = np.nan, 1
    run(stub, question, arrays)
    assert np.isnan(arrays["y"]).all()


def runs_with_nan(stub, tried):
    """What tells whether a NaN passes through a plan: on the stub's host memory."""

    def keeps_nan(plan):
        tried.append(plan.engine_number)
        question = plan.question
        arrays = {name: aligned(getattr(question, name).shape, "float32") for name in question.roles}
        arrays["kernel"][...], arrays["y"][...] = 1, 0
        handles = Handles(plan.library)
        plan.execute(handles.handle().on(5), {name: array.ctypes.data for name, array in arrays.items()})
        return np.isnan(arrays["y"]).sum() >= cells_that_meet(question)

    return keeps_nan


def test_a_plan_that_loses_nan_is_refused_and_no_other_is_tried():
    lossy, careful = Stub((7, {}, (), 0), (8, {}, (), 0)), Stub((7, {}, (), 0), (8, {}, (), 0))
    lossy.lossy = {7}
    tried = []
    for stub, expected in ((lossy, False), (careful, True)):
        plans = plans_on(stub, keeps_nan=runs_with_nan(stub, tried))
        assert plans.answers(Question.dense(*SMALL, activation="relu")) is expected
        assert plans.answers(Question.dense(*SMALL))  # without an activation there is nothing to ask
        if not expected:
            with pytest.raises(BackendError, match="refused engine 7: a NaN does not pass through it"):
                plans.plan(Question.dense(*SMALL, activation="relu"))
        del plans
        check_over(stub)
    assert tried == [7, 7]


def test_a_plan_that_can_not_be_tried_is_refused(stub):
    def fails(plan):
        raise DeviceMemoryError("X304", "the device has no memory left for this.")

    plans = plans_on(stub, keeps_nan=fails)
    assert not plans.answers(Question.dense(*SMALL, activation="relu"))
    assert plans.answers(Question.dense(*SMALL))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("around", [0, 2, 7])
def test_cells_that_nan_goes_into_are_counted(case, around):
    x_shape, kernel_shape, how = CASES[case]
    how = {**how, "padding": ((around, 1), (0, around))}
    question = Question.dense("forward", x_shape, kernel_shape, **how)
    y = reference.correlate(
        np.full(x_shape, np.nan), np.ones(kernel_shape), groups=question.groups, padding=how["padding"],
        stride=question.stride, dilation=question.dilation,
    )  # fmt: skip
    assert cells_that_meet(question) == np.isnan(y).sum()


def test_a_dense_layer_is_three_convolutions_without_a_transpose(stub, rng):
    count, features, units = 5, 7, 3
    x, dx = (aligned((count, features), "float64") for _ in range(2))
    w, dw = (aligned((features, units), "float64") for _ in range(2))
    dy, y = (aligned((count, units), "float64") for _ in range(2))
    x[...], w[...], dy[...] = (rng.standard_normal(array.shape) for array in (x, w, dy))
    shapes = (count, units, 1, 1), (features, units, 1, 1)
    for map_, arrays in (
        ("input", {"x": y, "kernel": w, "y": x}),
        ("forward", {"x": dy, "kernel": w, "y": dx}),
        ("kernel", {"x": dy, "kernel": dw, "y": x}),
    ):
        run(stub, Question.dense(map_, *shapes, dtype="float64"), arrays)
    np.testing.assert_allclose(y, x @ w, rtol=1e-14)
    np.testing.assert_allclose(dx, dy @ w.T, rtol=1e-14)
    np.testing.assert_allclose(dw, x.T @ dy, rtol=1e-14)


def test_what_cudnn_is_told(stub):
    """Types and counts of a tensor, a window, a bias, an activation and a plan, as the header wants them."""
    question = Question.dense(
        *SMALL, dtype="float16", padding=((2, 0), (1, 3)), stride=(2, 1), dilation=(1, 2), bias=True,
        activation="relu",
    )  # fmt: skip
    plans = plans_on(stub)
    plan = plans.plan(question)
    told = {}
    for one in stub.made.values():
        values = {attribute.name: one.values[attribute] for attribute in one.types}
        types = {attribute.name: kind.name for attribute, kind in one.types.items()}
        told.setdefault(one.kind.name, []).append((values, types))
    tensors = {values["TENSOR_UNIQUE_ID"][0]: values for values, _ in told["TENSOR"]}
    assert sorted(tensors) == [1, 2, 3, 4, 5, 6]
    assert tensors[1] == {
        "TENSOR_UNIQUE_ID": [1],
        "TENSOR_DATA_TYPE": [2],
        "TENSOR_BYTE_ALIGNMENT": [16],
        "TENSOR_DIMENSIONS": [2, 3, 6, 5],
        "TENSOR_STRIDES": [90, 30, 5, 1],
    }
    assert [tensors[uid]["TENSOR_DATA_TYPE"] for uid in (2, 3, 4, 5, 6)] == [[2], [2], [2], [0], [0]]
    assert tensors[4]["TENSOR_DIMENSIONS"] == [1, 4, 1, 1]
    assert [tensors[uid].get("TENSOR_IS_VIRTUAL") for uid in (3, 5, 6)] == [None, [True], [True]]
    ((window, types),) = told["CONVOLUTION"]
    assert window == {
        "CONVOLUTION_SPATIAL_DIMS": [2],
        "CONVOLUTION_COMP_TYPE": [0],
        "CONVOLUTION_CONV_MODE": [1],
        "CONVOLUTION_PRE_PADDINGS": [2, 1],
        "CONVOLUTION_POST_PADDINGS": [0, 3],
        "CONVOLUTION_FILTER_STRIDES": [2, 1],
        "CONVOLUTION_DILATIONS": [1, 2],
    }
    assert types["CONVOLUTION_COMP_TYPE"] == "DATA_TYPE"
    assert types["CONVOLUTION_CONV_MODE"] == "CONVOLUTION_MODE"
    assert types["CONVOLUTION_PRE_PADDINGS"] == "INT64"
    ((forward, types),) = told["OPERATION_CONVOLUTION_FORWARD"]
    assert [forward[f"OPERATION_CONVOLUTION_FORWARD_{name}"] for name in ("ALPHA", "BETA")] == [[1.0], [0.0]]
    assert types["OPERATION_CONVOLUTION_FORWARD_ALPHA"] == "FLOAT"
    assert [values["POINTWISE_MODE"] for values, _ in told["POINTWISE"]] == [[0], [100]]
    assert [values["POINTWISE_MATH_PREC"] for values, _ in told["POINTWISE"]] == [[0], [0]]
    ((made, types),) = told["EXECUTION_PLAN"]
    assert types == {"EXECUTION_PLAN_ENGINE_CONFIG": "BACKEND_DESCRIPTOR", "EXECUTION_PLAN_HANDLE": "HANDLE"}
    assert made["EXECUTION_PLAN_HANDLE"] == list(stub.handles)
    assert plan.choice.engine == 7
    assert plan.choice.knobs == ((2, 5),)


def test_a_described_device_is_told_too(stub):
    plan = Plans(Library(stub), Described(H100)).plan(Question.dense(*SMALL))
    (described,) = (one for one in stub.made.values() if one.kind == DescriptorType.DEVICEPROP)
    (text,) = described.values.values()
    content = json.loads(text[0])
    assert content["deviceName"] == "NVIDIA H100 80GB HBM3"
    assert content["deviceVer"] == 900
    assert content["multiProcessorCount"] == 132
    users = [one.kind.name for one in stub.made.values() if described in map(stub.made.get, stub.references(one))]
    assert sorted(users) == ["ENGINEHEUR", "EXECUTION_PLAN"]
    del described, plan


def test_addresses_that_come_again_are_told_once(stub):
    question = Question.dense(*SMALL)
    functions = Library(stub)
    handles = Handles(functions)
    plan = Plans(functions, Present("a stub", handles)).plan(question)
    arrays = {name: aligned(getattr(question, name).shape, "float32") for name in question.roles}
    addresses = {name: array.ctypes.data for name, array in arrays.items()}
    plan.execute(handles.handle().on(3), addresses, 48)
    assert stub.executed == [({1: addresses["x"], 2: addresses["kernel"], 3: addresses["y"]}, 48, 3)]
    stub.calls.clear()
    plan.execute(handles.handle().on(3), addresses, 48)
    assert stub.calls == ["cudnnBackendExecute"]
    plan.execute(handles.handle().on(9), addresses, 64)
    assert stub.executed[-1][1:] == (64, 9)
    for n in range(3 * MOST_PACKS):
        plan.execute(handles.handle().on(9), addresses, 16 * n)
    assert stub.alive.count("VARIANT_PACK") <= MOST_PACKS


def test_an_array_that_is_not_aligned_is_refused(stub):
    plan = plans_on(stub).plan(Question.dense(*SMALL))
    with pytest.raises(OptionError, match=r"\[X104\] an array begins at 0x28, which 16 does not divide"):
        plan.execute(1, {"x": 32, "kernel": 40, "y": 64})
    assert stub.executed == []


@pytest.mark.parametrize("sooner", ["plan", "plans"])
def test_descriptors_live_as_long_as_their_plan(stub, sooner):
    plans = plans_on(stub)
    plan = plans.plan(Question.dense(*SMALL, bias=True))
    held = {"plan": plan, "plans": plans}
    del plan, plans
    del held[sooner]
    needed = {"EXECUTION_PLAN", "ENGINECFG", "ENGINEHEUR", "OPERATIONGRAPH", "CONVOLUTION", "POINTWISE", "TENSOR"}
    assert needed <= set(stub.alive)
    assert len(stub.handles) == 1  # also where the thread that made the plan is gone
    held.clear()
    assert stub.alive == []
    assert stub.calls.count("cudnnBackendCreateDescriptor") == stub.calls.count("cudnnBackendDestroyDescriptor")


@pytest.mark.parametrize(
    ("fails", "attempted"),
    [
        ("cudnnCreate", "make a handle for this GPU"),
        ("cudnnBackendCreateDescriptor", "create a descriptor OPERATIONGRAPH"),
        ("cudnnBackendSetAttribute", "set TENSOR_UNIQUE_ID"),
        ("cudnnBackendGetAttribute", "read ENGINEHEUR_RESULTS"),
        (DescriptorType.CONVOLUTION, "finalize CONVOLUTION"),
        (DescriptorType.OPERATIONGRAPH, "finalize OPERATIONGRAPH"),
    ],
)
def test_a_status_becomes_an_error(stub, fails, attempted):
    stub.fail[fails] = 2000
    with pytest.raises(CudnnError) as caught:
        plans_on(stub).plan(Question.dense(*SMALL))
    assert str(caught.value) == f"[X306] cuDNN could not {attempted}.\n  status 2000, STATUS_2000\n  what the stub says"
    assert caught.value.status == 2000
    assert isinstance(caught.value, BackendError)


def test_a_failure_while_running_names_engine_and_question(stub):
    question = Question.dense(*SMALL)
    plan = plans_on(stub).plan(question)
    stub.fail["cudnnBackendExecute"] = 5000
    with pytest.raises(CudnnError) as caught:
        plan.execute(0, {"x": 16, "kernel": 32, "y": 48})
    assert caught.value.message == "cuDNN could not run engine 7."
    assert caught.value.details == ("status 5000, STATUS_5000", "what the stub says", question.key)


def test_a_library_that_is_missing_beside_cudnn_has_a_hint(stub):
    stub.fail["cudnnBackendCreateDescriptor"] = 1008
    with pytest.raises(CudnnError, match=r"hint: cuDNN's libraries need NVIDIA's driver"):
        plans_on(stub).plan(Question.dense(*SMALL))


def test_a_missing_cudnn_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(library, "FILE", "libcudnn-that-is-not-there.so.9")
    with pytest.raises(BackendUnavailable) as caught:
        load.__wrapped__()
    assert str(caught.value) == (
        "[X302] cuDNN 9 is not installed: there is no libcudnn-that-is-not-there.so.9.\n"
        '  hint: pip install "xcnn[cuda13]", or "xcnn[cuda12]" for a driver of CUDA 12.'
    )


# Which engine.


@pytest.fixture
def choosy():
    """A stub with an engine for each reason to refuse one."""
    made = Stub(
        (1, {}, (TENSOR_CORE,), 0),
        (2, {}, (DOWN_CONVERT,), 0),
        (3, {}, (REDUCED,), 0),
        (4, {}, (NONDETERMINISTIC,), 0),
        (5, {}, (), 1000),
        (6, {}, (), 10),
    )
    yield made
    check_over(made)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [4, 5, 6]),
        ({"math": "tf32"}, [1, 2, 4, 5, 6]),
        ({"dtype": "bfloat16"}, [1, 2, 4, 5, 6]),
        ({"dtype": "float64"}, [1, 2, 4, 5, 6]),
        ({"deterministic": True}, [5, 6]),
        ({"workspace": 999}, [4, 6]),
        ({"workspace": 10, "deterministic": True, "dtype": "float16"}, [1, 2, 6]),
    ],
)
def test_engines_are_left_out_by_their_notes_and_workspace(choosy, options, expected):
    plans = plans_on(choosy)
    question = Question.dense(*SMALL, **options)
    assert [plan.choice.engine for plan in plans.candidates(question)] == expected
    assert plans.plan(question).choice.engine == expected[0]


@pytest.mark.parametrize(
    ("fallback", "compiled", "expected"),
    [
        ({1, 4}, set(), [5, 6, 1, 4]),
        ({1, 4}, {4, 5}, [5, 6, 1]),
        ({1, 4, 5, 6}, {1, 4}, [1, 5, 6]),
    ],
)
def test_a_fallback_is_not_compiled_where_others_will_do(choosy, fallback, compiled, expected):
    choosy.fallback, choosy.compiled = fallback, compiled
    del choosy.engines[2]
    found = plans_on(choosy).candidates(Question.dense(*SMALL, math="tf32"))
    assert [plan.choice.engine for plan in found] == expected


def test_no_plan_is_an_error_with_every_reason(choosy):
    plans = plans_on(choosy)
    question = Question.dense(*SMALL, deterministic=True, workspace=9)
    assert not plans.answers(question)
    choosy.calls.clear()
    for _ in range(2):
        with pytest.raises(BackendError) as caught:
            plans.plan(question)
    assert str(caught.value).splitlines() == [
        "[X305] cuDNN has no plan for this forward map in float32.",
        f"  {question.key}",
        "  refused engine 1: it multiplies float32 on tensor cores",
        "  refused engine 2: it rounds float32 to fewer bits",
        "  refused engine 3: it sums in less than float32",
        "  refused engine 4: it is not deterministic",
        "  refused engines 5, 6: it wants more than 9 bytes of workspace",
        '  hint: use algorithm "gemm", or allow what was refused.',
    ]
    assert choosy.calls == []  # the answer was kept


@pytest.mark.parametrize(
    "kind", [DescriptorType.OPERATIONGRAPH, DescriptorType.ENGINEHEUR, DescriptorType.EXECUTION_PLAN]
)
def test_not_supported_is_an_answer(stub, kind):
    stub.fail[kind] = 3002
    plans = plans_on(stub)
    assert not plans.answers(Question.dense(*SMALL))
    with pytest.raises(BackendError, match=r"X305.*\n.*\n.*cuDNN's answer was STATUS_3002"):
        plans.plan(Question.dense(*SMALL))


def test_an_engine_that_fails_is_passed_over(choosy):
    plans = plans_on(choosy)
    choosy.fail[DescriptorType.EXECUTION_PLAN] = 4000  # some engines fail within
    assert not plans.answers(Question.dense(*SMALL))
    del choosy.fail[DescriptorType.EXECUTION_PLAN]
    assert plans.answers(Question.dense(*SMALL, math="tf32"))


def test_measured_plans_are_the_fastest(choosy):
    seconds = {2: 2e-3, 4: 1e-3, 6: 1e-3}
    measured = []

    def measure(plan):
        measured.append(plan.choice.engine)
        if plan.choice.engine == 5:
            raise CudnnError(5000, "CUDNN_STATUS_EXECUTION_FAILED", "run engine 5")
        if plan.choice.engine == 1:
            raise DeviceMemoryError("X304", "the device has no memory left for a workspace.")
        return seconds[plan.choice.engine]

    plans = plans_on(choosy, measure=measure)
    question = Question.dense(*SMALL, math="tf32")
    assert plans.plan(question).choice.engine == 4
    assert plans.plan(question) is plans.plan(question)
    assert measured == [1, 2, 4, 5, 6]


def test_only_plans_that_a_glance_finds_promising_are_measured(choosy):
    """At the glance engine 2 is thrice as slow as the fastest, and 6 more than that; engine 1 does not run."""
    glances, measured = {2: 3e-3, 4: 1e-3, 5: 1.5e-3, 6: 3.1e-3}, []

    def glance(plan):
        if plan.choice.engine == 1:
            raise DeviceMemoryError("X304", "the device has no memory left for a workspace.")
        return glances[plan.choice.engine]

    def measure(plan):
        measured.append(plan.choice.engine)
        return {2: 1.0, 4: 3.0, 5: 2.0}[plan.choice.engine]

    plans = plans_on(choosy, measure=measure, glance=glance)
    assert plans.plan(Question.dense(*SMALL, math="tf32")).choice.engine == 2
    assert measured == [2, 4, 5]


def test_at_most_ten_plans_are_measured():
    timed = [(n, 1.0 + (7 * n % 15) / 15) for n in range(15)]
    fastest = sorted(range(15), key=lambda n: timed[n][1])[:10]
    assert promising(timed) == sorted(fastest)
    assert promising([]) == []


def test_threads_share_one_answer(stub):
    measured = []

    def measure(plan):
        measured.append(plan)
        return 1.0

    plans = plans_on(stub, measure=measure)
    questions = [Question.dense(*SMALL, workspace=2**n) for n in range(10)]
    start, found = threading.Barrier(8), [{} for _ in range(8)]

    def ask(mine):
        start.wait()
        for question in questions:
            mine[question] = plans.plan(question)

    threads = [threading.Thread(target=ask, args=(mine,)) for mine in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(measured) == len(questions)
    assert all(mine == found[0] for mine in found)


def test_each_thread_has_its_handle(stub):
    handles, found = Handles(Library(stub)), []

    def ask():
        handle = handles.handle()
        found.append((handle.address, handle.on(4), handle is handles.handle()))

    for _ in range(2):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    mine = handles.handle().address
    assert [row[0] == row[1] and row[2] for row in found] == [True, True]
    assert len({mine, *(row[0] for row in found)}) == 3
    assert list(stub.handles) == [mine]  # those of threads that ended are destroyed


def test_the_stream_is_set_when_it_changes(stub):
    handle = Handles(Library(stub)).handle()
    for stream in (0, 5, 5, 0, 7):
        handle.on(stream)
        assert stub.handles[handle.address] == stream
    assert stub.calls.count("cudnnSetStream") == 3


# Questions.


def test_a_key_stays_the_same_in_files():
    question = Question.dense(
        "forward", (64, 3, 32, 31), (16, 3, 3, 5), True, dtype="bfloat16", math="tf32", deterministic=True,
        padding=((1, 0), (2, 3)), stride=(2, 1), dilation=(1, 2), bias=True, activation="relu", workspace=4096,
    )  # fmt: skip
    assert question.key == (
        "forward map of bfloat16 in tf32, deterministic; x 64,3,32,31 in steps 2976,1,93,3; "
        "kernel 16,3,3,5 in steps 45,1,15,3; y 64,16,16,28 in steps 7168,1,448,16; padding 1,0,2,3; stride 2,1; "
        "dilation 1,2; bias yes; activation relu; workspace 4096; alignment 16"
    )


def test_every_field_is_in_the_key():
    question = Question.dense("forward", (4, 4, 9, 9), (4, 4, 3, 3), padding=((1, 1), (1, 1)))
    others = {
        "map": "kernel",
        "x": Layout.dense((4, 4, 9, 9), True),
        "kernel": Layout.dense((4, 4, 3, 3), True),
        "y": Layout.dense((4, 4, 9, 9), True),
        "dtype": "float16",
        "math": "tf32",
        "deterministic": True,
        "padding": ((2, 0), (1, 1)),
        "stride": None,
        "dilation": None,
        "bias": True,
        "activation": "relu",
        "workspace": 1,
        "alignment": 8,
    }
    assert set(others) == {field.name for field in fields(Question) if field.init}
    varied = [replace(question, **{name: value}) for name, value in others.items() if value is not None]
    varied += [
        Question.dense("forward", (4, 4, 9, 9), (4, 4, 3, 3), padding=((1, 1), (1, 1)), **how)
        for how in ({"stride": (2, 2)}, {"dilation": (2, 2)})
    ]
    assert len({one.key for one in [question, *varied]}) == len(varied) + 1
    assert question == replace(question)
    assert hash(question) == hash(replace(question))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int8"}, "dtype must be one of"),
        ({"math": "fast"}, "math must be one of 'float32', 'tf32'; got 'fast'"),
        ({"map": "backward"}, "map must be one of"),
        ({"activation": "gelu"}, "activation must be one of None, 'relu'; got 'gelu'"),
        ({"map": "input", "bias": True}, "bias and activation belong to the forward map; got the map 'input'"),
        ({"map": "kernel", "activation": "relu"}, "belong to the forward map"),
    ],
)
def test_questions_that_make_no_sense(options, message):
    with pytest.raises(OptionError, match=re.escape(message)):
        replace(Question.dense(*SMALL), **options)


@pytest.mark.parametrize(
    "shapes",
    [
        {"y": (2, 4, 4, 3)},
        {"y": (2, 3, 4, 4)},
        {"kernel": (4, 2, 3, 2)},
        {"x": (1, 3, 6, 5)},
        {"x": (2, 6, 6, 5), "kernel": (5, 3, 3, 2), "y": (2, 5, 4, 4)},
        {"x": (0, 3, 6, 5), "y": (0, 4, 4, 4)},
        {"kernel": (4, 3, 7, 2), "y": (2, 4, 0, 4)},
    ],
)
def test_shapes_that_are_no_correlation(shapes):
    layouts = {name: Layout(shape, (1,) * 4) for name, shape in shapes.items()}
    with pytest.raises(ShapeError, match="X101"):
        replace(Question.dense(*SMALL), **layouts)


# Files.


@pytest.fixture
def path(tmp_path):
    return tmp_path / "plans.json"


def test_choices_last_from_run_to_run(choosy, path):
    question = Question.dense(*SMALL, math="tf32")
    plans = plans_on(choosy, measure=lambda plan: {4: 1.0}.get(plan.choice.engine, 2.0))
    assert plans.plan(question).choice.engine == 4
    plans.save(path)

    def never(plan):
        raise AssertionError("measured again")

    for options in ({"measure": never}, {}):
        again = plans_on(choosy, **options)
        again.load(path)
        assert again.plan(question).choice == plans.plan(question).choice
    assert json.loads(path.read_text()) == {
        "format": 1,
        "cudnn": 92801,
        "device": "a stub, sm_90",
        "plans": {question.key: {"engine": 4, "knobs": [], "measured": True}},
    }


def test_a_guess_from_a_file_is_measured(choosy, path):
    question = Question.dense(*SMALL)
    plans = plans_on(choosy)
    assert plans.plan(question).choice.engine == 4
    plans.save(path)
    measuring = plans_on(choosy, measure=lambda plan: -plan.choice.engine)
    measuring.load(path)
    assert measuring.plan(question).choice.engine == 6


def test_a_file_that_is_not_there_yet(stub, path):
    plans = plans_on(stub)
    plans.load(path)
    assert plans.answers(Question.dense(*SMALL))


@pytest.mark.parametrize("change", [{"cudnn": 91000}, {"device": "NVIDIA A100, sm_80"}, {"format": 2}])
def test_choices_for_something_else_are_passed_over(choosy, path, caplog, change):
    question = Question.dense(*SMALL)
    plans = plans_on(choosy, measure=lambda plan: -plan.choice.engine)
    assert plans.plan(question).choice.engine == 6
    plans.save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    again = plans_on(choosy)
    with caplog.at_level(logging.WARNING, "xcnn"):
        again.load(path)
    assert "are passed over: they are for" in caplog.text
    assert str(next(iter(change.values()))) in caplog.text
    assert again.plan(question).choice.engine == 4


GOOD = {"format": 1, "cudnn": 92801, "device": "a stub, sm_90"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '"plans"',
        "[" * 100_000,
        b"\xff\xfe",
        json.dumps(GOOD),
        json.dumps(GOOD | {"plans": []}),
        json.dumps(GOOD | {"plans": {"a": 1}}),
        json.dumps(GOOD | {"plans": {"a": {"engine": 1, "knobs": []}}}),
        json.dumps(GOOD | {"plans": {"a": {"engine": "1", "knobs": [], "measured": True}}}),
        json.dumps(GOOD | {"plans": {"a": {"engine": 1, "knobs": [[1]], "measured": True}}}),
        json.dumps(GOOD | {"plans": {"a": {"engine": 1, "knobs": [[1, 2.5]], "measured": True}}}),
        json.dumps(GOOD | {"plans": {"a": {"engine": 1, "knobs": [], "measured": 1}}}),
        json.dumps(GOOD | {"plans": {"a": {"engine": 2**70, "knobs": [], "measured": True}}}),
    ],
    ids=str,
)
def test_a_damaged_file_is_an_error(stub, path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    plans = plans_on(stub)
    with pytest.raises(BackendError) as caught:
        plans.load(path)
    assert caught.value.message == f"{path} is damaged, or no file of cuDNN's plans."
    assert caught.value.code == "X307"
    assert caught.value.hint == "delete it: it is written anew."


def test_a_choice_that_no_longer_holds_is_made_anew(choosy, path, caplog):
    """As of a file that was edited: a deterministic question must not get an engine that is not."""
    question = Question.dense(*SMALL, deterministic=True)
    plans = plans_on(choosy)
    assert plans.plan(question).choice.engine == 5
    plans.save(path)
    path.write_text(path.read_text().replace('"engine": 5', '"engine": 4'))
    again = plans_on(choosy)
    again.load(path)
    with caplog.at_level(logging.WARNING, "xcnn"):
        assert again.plan(question).choice.engine == 5
    assert f"a plan that was kept is chosen anew, for the {question.key}: " in caplog.text
    assert caplog.text.endswith("refused engine 4: it is not deterministic\n")


# The library itself.


@pytest.fixture(scope="module")
def cudnn():
    """Installed cuDNN."""
    try:
        found = load()
    except BackendUnavailable as error:
        pytest.skip(error.summary)
    if missing := driver():
        pytest.skip(missing)
    return found


@pytest.fixture(scope="module")
def on_h100(cudnn):
    """Plans for an H100."""
    return Plans(cudnn, Described(H100))


def layers_of(name, batch):
    """A known net's convolutions, each as (x shape, kernel shape, how), and its dense layers as (N, in, out)."""
    convolutions, dense = [], []
    convolve, multiply = Conv2D.__call__, Dense.__call__

    def convolution(layer, weights, x, run):
        convolutions.append(((batch, *x.shape[1:]), weights["kernel"].shape, layer.window(x.shape[2:])))
        return convolve(layer, weights, x, run)

    def product(layer, weights, x, run):
        dense.append((batch, *weights["kernel"].shape))
        return multiply(layer, weights, x, run)

    recipe, shape = RECIPES[name], (3, 32, 32) if name == "small-resnet" else (1, 28, 28)
    model = xcnn.Model(recipe.net(10), shape, loss=recipe.loss, backend="numpy", seed=0)
    with mock.patch.object(Conv2D, "__call__", convolution), mock.patch.object(Dense, "__call__", product):
        backend = xcnn.backend("numpy", fuse=False)
        model.net(model.weights, np.zeros((1, *model.input_shape), "float32"), xcnn.Run(backend))
    return convolutions, dense


def image(batch, channels, size, filters, kernel, stride=1):
    """A convolution of ResNet, as `layers_of` gives them."""
    around = (kernel // 2, kernel // 2)
    how = {"stride": (stride, stride), "padding": (around, around), "dilation": (1, 1)}
    return (batch, channels, size, size), (filters, channels, kernel, kernel), how


RESNET18 = [
    (3, 224, 64, 7, 2), (64, 56, 64, 3), (64, 56, 128, 3, 2), (64, 56, 128, 1, 2), (128, 28, 128, 3),
    (128, 28, 256, 3, 2), (128, 28, 256, 1, 2), (256, 14, 256, 3), (256, 14, 512, 3, 2), (256, 14, 512, 1, 2),
    (512, 7, 512, 3),
]  # fmt: skip
RESNET50 = [
    (64, 56, 64, 1), (64, 56, 256, 1), (256, 56, 64, 1), (256, 56, 128, 1), (128, 56, 128, 3, 2), (128, 28, 512, 1),
    (256, 56, 512, 1, 2), (512, 28, 128, 1), (512, 28, 256, 1), (256, 28, 256, 3, 2), (256, 14, 1024, 1),
    (512, 28, 1024, 1, 2), (1024, 14, 256, 1), (1024, 14, 512, 1), (512, 14, 512, 3, 2), (512, 7, 2048, 1),
    (1024, 14, 2048, 1, 2), (2048, 7, 512, 1),
]  # fmt: skip
"""What ResNet-50 has beside ResNet-18's: channels, size, filters, kernel, stride."""


def questions_of(convolutions, dense, **options):
    """The three maps of convolutions and of dense layers."""
    for x_shape, kernel_shape, how in convolutions:
        for map_ in MAPS:
            yield Question.dense(map_, x_shape, kernel_shape, **how, **options)
    for batch, features, units in dense:
        for map_ in MAPS:
            yield Question.dense(map_, (batch, units, 1, 1), (features, units, 1, 1), **options)


def fused_of(convolutions, activations=("relu",), **options):
    """The forward maps with bias, and each of these activations."""
    for x_shape, kernel_shape, how in convolutions:
        for activation in activations:
            yield Question.dense("forward", x_shape, kernel_shape, **how, **options, bias=True, activation=activation)


def unanswered(plans, questions):
    """The keys of those that have no plan."""
    return [question.key for question in questions if not plans.answers(question)]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", RECIPES)
def test_there_are_plans_for_every_layer_of_the_nets(on_h100, name, precision):
    convolutions, dense = layers_of(name, batch=64)
    assert convolutions
    assert dense
    options = PRECISIONS[precision]
    assert unanswered(on_h100, questions_of(convolutions, dense, **options)) == []
    assert unanswered(on_h100, fused_of(convolutions, **options)) == []


@pytest.mark.parametrize("precision", PRECISIONS)
def test_there_are_plans_for_resnets(on_h100, precision):
    some = [image(32, *row) for row in [*RESNET18[::3], *RESNET50[::5]]]
    dense, options = [(32, 512, 1000)], PRECISIONS[precision]
    assert unanswered(on_h100, questions_of(some, dense, **options)) == []
    assert unanswered(on_h100, fused_of(some, **options)) == []
    assert unanswered(on_h100, questions_of(some[:2], dense, deterministic=True, **options)) == []


@pytest.mark.parametrize("gpu", [A100, B200], ids=["A100", "B200"])
def test_there_are_plans_for_other_gpus(cudnn, gpu):
    plans = Plans(cudnn, Described(gpu))
    some = [image(32, *row) for row in (RESNET18[1], RESNET18[3], RESNET50[0])]
    for options in PRECISIONS.values():
        assert unanswered(plans, questions_of(some, [(64, 400, 120)], **options)) == []


def test_float64_has_plans(on_h100):
    some = [image(8, *row) for row in RESNET18[:4]]
    assert unanswered(on_h100, questions_of(some, [(64, 400, 120)], dtype="float64", deterministic=True)) == []


@pytest.fixture(scope="module")
def on_a100(cudnn):
    """Plans for an A100, of which none has to be compiled for the questions below."""
    return Plans(cudnn, Described(A100))


def gradient(**options):
    """The question for the gradient of a layer's input, channels last."""
    x_shape, kernel_shape, how = image(32, *RESNET18[1])
    return Question.dense("input", x_shape, kernel_shape, True, **how, **options)


def test_plans_keep_to_what_was_asked(on_a100):
    """Strict float32 has other engines than TF32, deterministic maps fewer than others."""
    engines = {}
    for math in ("float32", "tf32"):
        for deterministic in (False, True):
            found = [plan.engine for plan in on_a100.candidates(gradient(math=math, deterministic=deterministic))]
            engines[math, deterministic] = {engine.choice.engine for engine in found}
            noted = frozenset().union(*(engine.numerical for engine in found))
            assert (TENSOR_CORE in noted) == (math == "tf32")
            assert (NONDETERMINISTIC in noted) == (not deterministic)
    assert engines["float32", False] < engines["tf32", False]
    assert engines["tf32", True] < engines["tf32", False]


def test_an_engine_that_is_proposed_twice_is_tried_once(on_a100):
    """Among strict float32's few engines are some that cuDNN also falls back to."""
    choices = [plan.choice for plan in on_a100.candidates(gradient())]
    assert len(choices) == len(set(choices)) > 2


def test_the_workspace_is_bounded(on_a100):
    question, limit = gradient(math="tf32"), 2**24
    wanted = [plan.workspace for plan in on_a100.candidates(question)]
    assert min(wanted) <= limit < max(wanted)
    found = [plan.workspace for plan in on_a100.candidates(replace(question, workspace=limit))]
    assert found == [size for size in wanted if size <= limit]


def test_no_plan_of_cudnn_itself_is_an_error(on_a100):
    question = gradient(workspace=-1)
    with pytest.raises(
        BackendError, match=r"(?s)X305.*\n  refused engines? \d.*: it wants more than -1 bytes of workspace"
    ):
        on_a100.plan(question)


def test_the_same_engine_is_built_again(cudnn, on_a100, path):
    """The seventh that is proposed, with its knobs: a first one may be found by accident."""
    questions = [gradient(dtype="bfloat16"), gradient(dtype="float32", math="tf32")]
    wanted = [list(on_a100.candidates(question))[6].choice for question in questions]
    assert all(choice.knobs for choice in wanted)
    choosing = Plans(cudnn, Described(A100), measure=lambda plan: 0.0 if plan.choice in wanted else 1.0)
    assert [choosing.plan(question).choice for question in questions] == wanted
    choosing.save(path)
    again = Plans(cudnn, Described(A100))
    assert [again.plan(question).choice for question in questions] != wanted
    again = Plans(cudnn, Described(A100))
    again.load(path)
    for question in questions:
        before, after = choosing.plan(question), again.plan(question)
        assert after.choice == before.choice
        assert after.engine.numerical == before.engine.numerical
        assert after.workspace == before.workspace


def test_an_engine_that_this_cudnn_does_not_have_is_chosen_anew(on_h100, cudnn, caplog):
    question = Question.dense("forward", (32, 64, 56, 56), (64, 64, 3, 3))
    plans = Plans(cudnn, Described(H100))
    plans._chosen[question.key] = Chosen(replace(on_h100.plan(question).choice, engine=987654), measured=False)
    with caplog.at_level(logging.WARNING, "xcnn"):
        assert plans.plan(question).choice == on_h100.plan(question).choice
    assert "is chosen anew" in caplog.text
    assert "refused engine 987654: cuDNN could not" in caplog.text


def test_cudnn_finds_fault_with_a_wrong_description(cudnn):
    with pytest.raises(CudnnError, match=r"X306.*could not finalize DEVICEPROP"):
        Plans(cudnn, Described(replace(H100, capability="ninety")))


# The header that comes with it.


@pytest.fixture(scope="module")
def header(cudnn):
    """The text of cudnn_graph.h."""
    for place in in_wheels("cudnn", library.FILE):
        path = Path(place).parent.parent / "include" / "cudnn_graph.h"
        if path.is_file():
            return re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return pytest.skip("cudnn_graph.h is not installed")


PREFIXES = {
    "DataType": "CUDNN_DATA_{}",
    "DescriptorType": "CUDNN_BACKEND_{}_DESCRIPTOR",
    "AttributeType": "CUDNN_TYPE_{}",
    "Attribute": "CUDNN_ATTR_{}",
    "ConvolutionMode": "CUDNN_{}",
    "PointwiseMode": "CUDNN_POINTWISE_{}",
    "NanPropagation": "CUDNN_{}",
    "HeurMode": "CUDNN_HEUR_MODE_{}",
    "NumericalNote": "CUDNN_NUMERICAL_NOTE_{}",
    "BehaviorNote": "CUDNN_BEHAVIOR_NOTE_{}",
}


@pytest.mark.parametrize("name", PREFIXES)
def test_constants_are_the_headers(header, name):
    values = {
        key: int(value) for key, value in re.findall(r"\b(CUDNN_\w+)(?:\s+CUDNN_DEPRECATED_ENUM)?\s*=\s*(\d+)", header)
    }
    for member in getattr(constants, name):
        assert values[PREFIXES[name].format(member.name)] == member


def test_signatures_are_the_headers(header):
    for name, (_, arguments) in SIGNATURES.items():
        found = re.search(rf"\b{name}\(([^)]*)\)", header)
        given = [] if found[1].strip() in ("", "void") else found[1].split(",")
        assert len(given) == len(arguments), name
        for text, kind in zip(given, arguments, strict=True):
            pointer = "*" in text or "Descriptor_t " in text or "Handle_t " in text or "Stream_t " in text
            expected = "P" if pointer else "l" if "int64_t" in text else "L" if "size_t" in text else "i"
            got = {"z": "P", "P": "P", "q": "l", "Q": "L"}.get(kind._type_, kind._type_)
            assert got == expected, (name, text)
