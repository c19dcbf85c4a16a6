"""The bench: its statistics and counts, PyTorch's twins of the nets, what the command prints, its errors."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from importlib.util import find_spec

import numpy as np
import pytest
from threadpoolctl import threadpool_info

import xcnn
from xcnn import bench, cli, tree
from xcnn.bench import cases, comparison, timing
from xcnn.bench.cases import CORRELATIONS, MAPS, STEPS, CorrelationCase, picked
from xcnn.bench.comparison import Result
from xcnn.bench.timing import Times
from xcnn.layers import Dropout, Sequential
from xcnn.model import Model
from xcnn.summary import count

needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch, the other side, is not installed")


@pytest.fixture
def quick(monkeypatch):
    """Few and short calls, and a small matrix product as the ceiling."""
    monkeypatch.setattr(timing, "WARM_UP", 0.0)
    monkeypatch.setattr(timing, "SETTLE", 0.0)
    monkeypatch.setattr(timing, "TURN", 0.0)
    monkeypatch.setattr(comparison, "SIDE", 64)


@pytest.fixture
def run(capsys, monkeypatch, quick):
    """Run `xcnn bench` in this process for as short a time as may be: (exit code, stdout, stderr)."""
    monkeypatch.delenv("XCNN_BACKEND", raising=False)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["xcnn", "bench", "--seconds", "0", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return run


# Statistics.


def test_quantiles_of_known_times():
    times = Times(tuple(n / 1000 for n in range(101)))
    assert times.median == pytest.approx(0.05)
    assert times.best == 0
    assert times.to_dict() == pytest.approx({"median_ms": 50, "p10_ms": 10, "p90_ms": 90, "best_ms": 0, "calls": 101})


def test_ratio_rate_and_share_of_the_ceiling():
    result = Result(Times((0.1, 0.2, 9.0)), Times((0.3, 0.4, 0.5)), "NCHW", flop=6 * 10**9)
    assert result.ratio == pytest.approx(2)
    assert result.ratio_of_bests == pytest.approx(3)
    values = result.to_dict(ceiling=60)
    assert values["gflops"] == pytest.approx(30)
    assert values["of_ceiling"] == pytest.approx(0.5)
    assert values["torch"]["way"] == "NCHW"
    assert Result(Times((0.1,)), None, "", 1).ratio is None


def test_geometric_mean():
    assert timing.geometric_mean([0.5, 2]) == pytest.approx(1)
    assert timing.geometric_mean([1, 10, 100]) == pytest.approx(10)


def test_sides_take_turns_and_what_settles_them_does_not_count(quick):
    """Each side is slow in the first call of a turn; no such call may be among the times."""
    calls = []

    def side(name):
        def call():
            if not calls or calls[-1] != name:
                time.sleep(0.05)
            calls.append(name)
            time.sleep({"a": 0.001, "b": 0.004}[name])

        return call

    a, b = timing.alternate([side("a"), side("b")], 0.1)
    assert 0.001 <= a.best <= a.median < b.best <= b.median
    assert max(a.seconds + b.seconds) < 0.05
    assert len(a.seconds) >= timing.ROUNDS * timing.CALLS
    assert "".join(calls).count("ab") >= timing.ROUNDS  # in turns


# Counts.


def by_definition(case):
    """Multiplications of a correlation: with ones for all numbers, each product adds 1 to the output."""
    x = np.ones((case.batch, case.channels, case.size, case.size))
    y = xcnn.backend("numpy", algorithm="gemm").correlate(
        x, np.ones(case.k_shape), stride=(case.stride, case.stride), groups=case.groups
    )
    assert y.shape == case.y_shape
    return y.sum()


@pytest.mark.parametrize("case", CORRELATIONS, ids=str)
def test_operations_of_a_correlation(case):
    one = replace(case, batch=1)
    assert one.flop == 2 * by_definition(one)
    assert case.flop == case.batch * one.flop


def test_operations_of_a_step_in_closed_form():
    first, second = 28 * 28 * 6 * 25, 10 * 10 * 16 * 6 * 25
    dense = 400 * 120 + 120 * 84 + 84 * 10
    case = picked("lenet:5")
    model = case.model(xcnn.backend("numpy"))
    assert cases.step_flop(model, 5) == 2 * 5 * (2 * first + 3 * second + 3 * dense)


@needs_torch
@pytest.mark.parametrize("choice", STEPS)
def test_operations_of_a_step_as_pytorch_counts_them(choice):
    from torch.utils.flop_counter import FlopCounterMode

    from xcnn.bench import torch_side

    case = replace(picked(choice), batch=2)
    model = case.model(xcnn.backend("numpy"))
    step = torch_side.step_call(
        torch_side.twin(case.net, model.weights), case.loss, case.optimizer, *case.data(*model.output_shape),
        "NCHW", "plain",
    )  # fmt: skip
    with FlopCounterMode(display=False) as counter:
        step()
    assert cases.step_flop(model, 2) == counter.get_total_flops()


# PyTorch's twins.


def without_dropout(case):
    """The case with dropout's rates at zero: the masks of the two sides differ."""
    layers = {n: replace(layer, rate=0.0) if isinstance(layer, Dropout) else layer for n, layer in case.net.named}
    return replace(case, net=Sequential(**layers))


def two_steps(case, layout, walk, dtype="float64"):
    """Both sides' losses and weights after two steps from the same weights: (ours, theirs)."""
    from xcnn.bench import torch_side
    from xcnn.bench.torch_side import torch

    model = Model(case.net, case.input_shape, loss=case.loss, optimizer=case.optimizer, backend="numpy", dtype=dtype)
    assert model.output_shape in {(2,), (10,)}
    x, t = case.data(*model.output_shape)
    x, t = x.astype(dtype), t if case.loss == "cross_entropy" else t.astype(dtype)
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        twin = torch_side.twin(case.net, model.weights)
        theirs = torch_side.step_call(twin, case.loss, case.optimizer, x, t, layout, walk)
    finally:
        torch.set_default_dtype(torch.float32)
    ours = cases.step_call(model, x, t)
    losses = [ours(), ours()], [theirs(), theirs()]
    after = {path: tensor.numpy() for path, tensor in torch_side.tensors(twin, model.weights)}
    return (losses[0], dict(tree.items(model.weights))), (losses[1], after)


def assert_same(ours, theirs):
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-12)
    assert ours[1].keys() == theirs[1].keys()
    for path, weight in ours[1].items():
        np.testing.assert_allclose(weight, theirs[1][path], rtol=1e-9, atol=1e-12, err_msg=path)


@needs_torch
@pytest.mark.parametrize("name", ["article", "lenet", "mnist-net", "small-resnet"])
def test_twins_take_the_same_steps(name):
    """In float64: the losses, and every weight after a second step, running means and variances too."""
    case = without_dropout(picked(f"{name}:4"))
    if name == "small-resnet":
        case = replace(case, input_shape=(3, 33, 33))  # "same" pads both sides alike here, as PyTorch's layers do
    ours, theirs = two_steps(case, "channels_last", "fused")
    assert_same(ours, theirs)
    assert ours[0][0] != ours[0][1]


@needs_torch
@pytest.mark.parametrize("layout", ["NCHW", "channels_last"])
@pytest.mark.parametrize("walk", ["plain", "foreach", "fused"])
def test_pytorchs_ways_are_all_the_same_step(layout, walk):
    assert_same(*two_steps(picked("lenet:3"), layout, walk))


@needs_torch
@pytest.mark.parametrize("choice", STEPS)
def test_twins_have_as_many_parameters_and_drop_as_much(choice):
    from xcnn.bench import torch_side
    from xcnn.bench.torch_side import torch

    case = picked(choice)
    weights, _ = case.net.init(xcnn.random.generator(0), case.input_shape)
    twin = torch_side.twin(case.net, weights)
    state = {name: tensor for name, tensor in twin.state_dict().items() if not name.endswith("num_batches_tracked")}
    assert sum(tensor.numel() for tensor in state.values()) == count(weights)
    rates = [module.p for module in twin.modules() if isinstance(module, torch.nn.Dropout)]
    assert rates == [layer.rate for layer in case.net if isinstance(layer, Dropout)]
    assert twin.training


@needs_torch
def test_a_layer_without_a_twin_is_named():
    from xcnn.bench import torch_side

    with pytest.raises(xcnn.errors.OptionError, match="PyTorch module for a Softmax"):
        torch_side.twin(xcnn.Softmax(), {})


@needs_torch
@pytest.mark.parametrize("layout", ["NCHW", "channels_last"])
@pytest.mark.parametrize(
    "case",
    [
        CorrelationCase(2, 3, 9, 4, 3),
        CorrelationCase(2, 4, 10, 6, 3, stride=2, groups=2),
        CorrelationCase(3, 4, 6, 4, 1),
    ],
    ids=str,
)
def test_correlations_are_the_same_on_both_sides(case, layout):
    from xcnn.bench import torch_side

    ours = cases.correlation_calls(case, xcnn.backend("numpy"))
    theirs = torch_side.correlation_calls(case, layout)
    assert [*ours] == [*theirs] == [*MAPS]
    for name, shape in zip(
        MAPS, (case.y_shape, (case.batch, case.channels, case.size, case.size), case.k_shape), strict=True
    ):
        expected = theirs[name]().numpy()
        assert expected.shape == shape
        np.testing.assert_allclose(ours[name](), expected, rtol=1e-4, atol=1e-5)


# The command.


def test_table_on_stdout_and_progress_on_stderr(run):
    code, out, err = run("--net", "article:2", "--backend", "numpy")
    assert code == 0
    assert err.splitlines() == ["timing a matrix product", "timing article:2"]
    *_, header, row = out.splitlines()
    assert header.split() == ["net:batch", "xcnn,", "ms", "GFLOP/s", "of", "ceiling"]
    assert row.startswith("article:2 ")
    assert len(row) == len(header)
    assert run("--net", "article:2", "--quiet")[2] == ""


def test_json_of_ours_alone(run):
    code, out, _ = run("--net", "article:2", "--net", "article:1", "--backend", "numpy", "--threads", "1", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["schema"] == "xcnn.bench.1"
    assert found["threads"] == 1
    assert {library["threads"] for library in found["blas"] if library["name"] == "openblas"} <= {1}
    assert [(row["net"], row["batch"]) for row in found["steps"]] == [("article", 2), ("article", 1)]
    for row in found["steps"]:
        assert row["torch"] is row["ratio"] is None
        assert 0 < row["ours"]["p10_ms"] <= row["ours"]["median_ms"] <= row["ours"]["p90_ms"]
        assert row["gflops"] == pytest.approx(row["gflop"] / row["ours"]["median_ms"] * 1e3)
        assert row["of_ceiling"] == pytest.approx(row["gflops"] / found["ceilings"]["numpy"])
    assert "correlations" not in found
    assert found["geometric_means"] == {}


@needs_torch
def test_json_against_pytorch(run):
    code, out, _ = run("--net", "article:2", "--net", "article:3", "--against", "torch", "--backend", "numpy", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["ceilings"].keys() == {"numpy", "torch"}
    assert found["versions"].keys() >= {"python", "numpy", "torch"}
    for row in found["steps"]:
        assert row["ratio"] == pytest.approx(row["torch"]["median_ms"] / row["ours"]["median_ms"])
        layout, walk, _ = row["torch"]["way"].replace(",", "").split()
        assert layout in {"NCHW", "channels_last"}
        assert walk in {"plain", "foreach", "fused"}
        assert row["parameters"] == 5 * 9 + 5 * 26 * 26 * 101 + 100 + 2 * 101
    first, second = found["steps"]
    for name, mean in found["geometric_means"]["steps"].items():
        assert mean == pytest.approx((first[name] * second[name]) ** 0.5)


@needs_torch
def test_table_against_pytorch(run):
    code, out, _ = run("--net", "article:2", "--against", "torch", "--backend", "numpy")
    *_, header, row, mean = out.splitlines()
    assert code == 0
    assert header.endswith("torch / xcnn  of bests  GFLOP/s  of ceiling  torch as")
    ends = [header.index(title) + len(title) for title in ("torch / xcnn", "of bests")]
    assert [row[:end].split()[-1] for end in ends] == [mean[:end].split()[-1] for end in ends]  # the mean of one


def test_correlations_on_the_reference(run, monkeypatch):
    """Any backend will do; the strict one has no threads of its own."""
    pytest.importorskip("array_api_strict", reason="the strict backend is what runs here")
    monkeypatch.setattr(cases, "CORRELATIONS", (CorrelationCase(2, 2, 6, 4, 3, groups=2),))
    code, out, _ = run("--only", "correlations", "--backend", "strict", "--json")
    found = json.loads(out)
    assert code == 0
    assert [row["map"] for row in found["correlations"]] == [*MAPS]
    assert found["correlations"][0].items() >= {"batch": 2, "channels": 2, "size": 6, "filters": 4, "groups": 2}.items()
    assert "steps" not in found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--net", "alexnet:8"), "there is no net 'alexnet'"),
        (("--net", "lenet"), "a net is given as NAME:BATCH; got 'lenet'"),
        (("--net", "lenet:many"), "a net is given as NAME:BATCH; got 'lenet:many'"),
        (("--net", "lenet:0"), "batch must be a whole number of at least 1; got 0"),
        (("--net", "lenet:-4"), "a net is given as NAME:BATCH; got 'lenet:-4'"),
        (("--only", "nets"), "--only takes steps or correlations; got 'nets'"),
        (("--against", "jax"), "--against takes torch; got 'jax'"),
        (("--only", "correlations", "--net", "lenet:4"), "--net asks for steps, --only correlations for none"),
        (("--backend", "numpy", "--algorithm", "magic"), "has no algorithm 'magic'"),
    ],
)
def test_errors(run, arguments, message):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("OptionError[X104]: ")
    assert message in err


def test_without_pytorch_the_package_is_named(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "xcnn.bench.torch_side", raising=False)
    monkeypatch.delattr(bench, "torch_side", raising=False)
    code, out, err = run("--net", "article:1", "--against", "torch")
    assert (code, out) == (3, "")
    assert err.splitlines() == [
        "MissingDependency[X601]: the bench against PyTorch needs torch.",
        "  hint: pip install torch",
    ]


# Threads and imports.


@needs_torch
def test_threads_of_both_sides_are_limited_within_the_block():
    import torch

    before = torch.get_num_threads()
    with comparison.limited(1, against_torch=True):
        assert torch.get_num_threads() == 1
        assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {1}
    assert torch.get_num_threads() == before


def test_a_backend_with_threads_of_its_own_is_told():
    @dataclass(frozen=True, repr=False)
    class Threaded(xcnn.Backend):
        threads: int | None = None

    assert comparison.bench_backend(Threaded(), None, 3).threads == 3
    assert not hasattr(comparison.bench_backend("strict", None, 3), "threads")
    assert 1 <= comparison.available_threads() <= 4096


def test_neither_the_package_nor_the_command_line_loads_the_bench_or_pytorch():
    code = "import sys, xcnn, xcnn.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "xcnn.cli.bench" in loaded
    assert not {"torch", "xcnn.bench", "xcnn.bench.cases"} & {*loaded}
