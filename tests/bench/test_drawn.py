"""Nets that the bench draws, and those it knows by name: what they are of, and that both sides compute the same."""

import json
from dataclasses import replace
from hashlib import sha256
from importlib.util import find_spec

import numpy as np
import pytest
from draws import draws

import xcnn
from xcnn.bench import agreement, cases, drawn, zoo
from xcnn.bench.agreement import alike, leaves
from xcnn.bench.cases import picked, written

needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch, the other side, is not installed")
ON_NUMPY = "--backend", "numpy", "--algorithm", "gemm", "--threads", "1"
SMALL = {
    "resnext": 16, "alexnet": 64, "mobilenet": 32, "convnext": 16, "unet": 16, "autoencoder": 8,
    "groupnorm": 8, "layernorm": 8, "silu": 8, "gelu": 8, "leaky-relu": 8, "average-pool": 8, "dilated": 8,
    "strided": 16,
}  # fmt: skip
"""Sides of images at which the nets of the zoo are tested: the smallest, or nearly."""


def cheap(count):
    """Nets that are drawn, of two images: as many as asked for whose steps are short then."""
    seed, found = 0, []
    while len(found) < count:
        case = drawn.drawn(seed)
        case = replace(case, batch=min(case.batch, 2))
        if drawn.seconds(case) < (0.004 if count < 10 else 1):
            found.append(case)
        seed += 1
    return found


@pytest.fixture(scope="module")
def forty():
    return [drawn.drawn(seed) for seed in range(40)]


# What is drawn.


def test_a_seed_gives_one_net_everywhere(forty):
    sources = "\n".join(f"{case} {case.source}" for case in forty[:10])
    assert sha256(sources.encode()).hexdigest()[:16] == "b77fc937a662e311"
    assert str(forty[7]) == f"drawn-7:{forty[7].batch}"
    assert len({case.source for case in forty}) == 40


def test_drawn_nets_are_of_all_kinds(forty):
    kinds = {type(layer).__name__ for case in forty for layer in leaves(case.net)}
    assert kinds >= {
        "Conv2D", "DepthwiseConv2D", "Conv2DTranspose", "UpSampling2D", "Dense", "BatchNorm", "GroupNorm", "LayerNorm",
        "MaxPool2D", "AveragePool2D", "GlobalAveragePool2D", "GlobalMaxPool2D", "Dropout", "SpatialDropout2D",
        "ReLU", "LeakyReLU", "ELU", "SiLU", "GELU", "Tanh", "Sigmoid", "Softplus", "Flatten",
    }  # fmt: skip
    convolutions = [layer for case in forty for layer in leaves(case.net) if isinstance(layer, xcnn.Conv2D)]
    assert {layer.groups for layer in convolutions} == {1, 2, 4}
    assert {layer.dilation for layer in convolutions} == {1, 2}
    assert {layer.stride for layer in convolutions} == {1, 2, 4}
    pools = [layer for case in forty for layer in leaves(case.net) if isinstance(layer, xcnn.MaxPool2D)]
    assert {layer.pool_size for layer in pools} == {2, 3}
    assert {case.loss for case in forty} == {"cross_entropy", "mse"}
    assert {case.input_shape[0] for case in forty} == {1, 2, 3}


def test_drawn_nets_are_sensible(forty):
    for case in forty:
        assert 1 <= case.batch <= 128
        assert all(16 <= side <= 128 for side in case.input_shape[1:])
        assert drawn.FASTEST <= drawn.seconds(case) <= drawn.SLOWEST
        assert alike(case.net)
        for layer, before, _ in cases.Ledger(case.net, case.input_shape).rows:
            if isinstance(layer, xcnn.BatchNorm | xcnn.GroupNorm | xcnn.LayerNorm):
                assert np.prod(before[1:]) >= 16  # of one cell nothing is left


def test_a_net_is_written_so_that_python_makes_the_same_of_it(forty):
    known = [picked(f"{name}:{batch}") for name, net in zoo.NETS.items() for batch in net.batches[:1]]
    for case in [*forty, *known]:
        net, input_shape, options = eval(
            case.source, {**vars(xcnn), "Model": lambda net, shape, **options: (net, shape, options)}
        )
        assert (net, input_shape) == (case.net, case.input_shape)
        assert options == {"loss": case.loss, "optimizer": case.optimizer}


def test_options_and_names_that_are_usual_are_not_written():
    net = xcnn.Sequential(
        xcnn.Residual(xcnn.Conv2D(4, 3, padding=1, bias=False), shortcut=xcnn.Conv2D(4, 1)), head=xcnn.MaxPool2D(2, 1)
    )
    assert written(net) == (
        "Sequential(Residual(Conv2D(4, 3, padding=1, bias=False), shortcut=Conv2D(4, 1)), head=MaxPool2D(stride=1))"
    )


# Both sides.


@needs_torch
def test_drawn_nets_compute_what_pytorch_computes():
    """In float64, on NumPy: the output and the gradient of every weight."""
    for case in cheap(draws(4)):
        found = agreement.agreement(case, xcnn.backend("numpy", algorithm="gemm"), "float64")
        assert found.holds, f"{case}: {found}\n{case.source}"


@needs_torch
@pytest.mark.parametrize("name", SMALL)
def test_nets_of_the_zoo_compute_what_pytorch_computes(name):
    case = replace(picked(f"{name}:2"), input_shape=(3, SMALL[name], SMALL[name]))
    found = agreement.agreement(case, xcnn.backend("numpy", algorithm="gemm"), "float64")
    assert found.holds, found


@needs_torch
@pytest.mark.parametrize("factor", [1.001, float("nan")])
@pytest.mark.parametrize("where", ["y", "conv2/kernel"])
def test_what_differs_is_found_and_named(monkeypatch, where, factor):
    from xcnn.bench import torch_side

    right = torch_side.passes

    def wrong(*given):
        y, grads = right(*given)
        return (y * factor, grads) if where == "y" else (y, {**grads, where: factor * grads[where]})

    case, backend = picked("lenet:2"), xcnn.backend("numpy", algorithm="gemm")
    assert agreement.agreement(case, backend, "float64").holds
    monkeypatch.setattr(torch_side, "passes", wrong)
    found = agreement.agreement(case, backend, "float64")
    assert not found.holds
    assert where == "y" or found.weight == where


@needs_torch
def test_a_relu_is_in_place_only_where_nothing_needs_what_was_there():
    """A shortcut and another branch read the same x; PyTorch's Sigmoid needs its y."""
    net = xcnn.Sequential(
        xcnn.Conv2D(4, 3), xcnn.Sigmoid(), xcnn.ReLU(),
        xcnn.Residual(xcnn.ReLU(), xcnn.Conv2D(4, 1), shortcut=xcnn.LeakyReLU()),
        xcnn.Concatenate(xcnn.ReLU(), xcnn.Sequential()), xcnn.BatchNorm(), xcnn.ReLU(),
        xcnn.Flatten(), xcnn.ReLU(), xcnn.Dense(3, bias=False),
    )  # fmt: skip
    case = replace(picked("lenet:3"), net=net, input_shape=(2, 6, 5))
    assert agreement.agreement(case, xcnn.backend("numpy", algorithm="gemm"), "float64").holds


# The command.


@needs_torch
def test_drawn_nets_are_timed_and_printed(run, monkeypatch):
    asked = []

    def draw(seed):
        asked.append(seed)
        return replace(picked("article:2"), name=f"drawn-{seed}")

    monkeypatch.setattr(drawn, "drawn", draw)
    how = "--nets", "drawn", "--seed", "5", "--count", "2", "--against", "torch", *ON_NUMPY
    code, out, _ = run(*how)
    lines = out.splitlines()
    assert (code, asked) == (0, [5, 6])
    at = next(n for n, line in enumerate(lines) if line.startswith("drawn-5:2 "))
    assert lines[at + 1].startswith("    Model(Sequential(Conv2D(5, 3, bias='untied'), Sigmoid(), Flatten(), ")
    assert "geometric mean" in out
    worst = lines[next(n for n, line in enumerate(lines) if line.startswith("least ")) :]
    ratios = [float(line.split()[1]) for line in worst if line.startswith("drawn-")]
    assert ratios == sorted(ratios)
    assert worst[0] == f"least {ratios[0]:.2f}; the 2 worst:"
    rows = json.loads(run(*how, "--json")[1])["steps"]
    assert [(row["net"], row["batch"], row["differs"]) for row in rows] == [("drawn-5", 2, ""), ("drawn-6", 2, "")]
    assert rows[0]["source"] == draw(0).source


@needs_torch
def test_the_zoo_is_timed_and_what_differs_is_told(run, monkeypatch):
    monkeypatch.setattr(zoo, "ZOO", ("article:1",))
    monkeypatch.setitem(agreement.OUTPUT, "float32", -1.0)
    code, out, _ = run("--nets", "zoo", "--against", "torch", *ON_NUMPY)
    assert code == 1
    assert "\n    both sides differ: y by " in out


def test_the_zoo_has_each_known_net_at_its_batches():
    assert {choice.partition(":")[0] for choice in zoo.ZOO} == set(zoo.NETS)
    assert {"article:1", "resnet18:8", "vgg:64", "convnext:16"} <= set(zoo.ZOO)
    assert len(zoo.ZOO) == sum(len(net.batches) for net in zoo.NETS.values())
