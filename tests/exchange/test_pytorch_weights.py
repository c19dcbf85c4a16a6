"""Weights by PyTorch's names: what they are called, how they are laid out, and what is told where they do not fit."""

import numpy as np
import pytest

import xcnn
from xcnn.core import tree
from xcnn.errors import BusyError, DataError, ExchangeError, OptionError
from xcnn.exchange.pytorch.names import twins

torch = pytest.importorskip("torch", reason="PyTorch is what is agreed with")
nn = torch.nn


def model(net, shape, **how):
    return xcnn.Model(net, shape, loss="mse", **{"backend": "numpy", **how})


def numpy(state):
    return {name: value.numpy() for name, value in state.items()}


def drawn(module, seed=0):
    """The module with weights and statistics that are nobody's defaults."""
    torch.manual_seed(seed)
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape) + 0.1 if "var" in name else torch.randn(value.shape) * 0.3)
    return module.eval()


TWINS = {
    "convolutions": (
        xcnn.Sequential(xcnn.Conv2D(4, 3, padding=1, groups=2), xcnn.ReLU(), xcnn.DepthwiseConv2D((3, 1), stride=2)),
        nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, groups=2), nn.ReLU(), nn.Conv2d(4, 4, (3, 1), stride=2, groups=4)),
        (2, 7, 6),
    ),
    "norms": (
        xcnn.Sequential(
            xcnn.BatchNorm(epsilon=1e-5), xcnn.GroupNorm(2, epsilon=1e-5), xcnn.LayerNorm(epsilon=1e-5)
        ),
        nn.Sequential(nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.LayerNorm([4, 5, 5])),
        (4, 5, 5),
    ),
    "learned slopes and factors": (
        xcnn.Sequential(xcnn.InstanceNorm(epsilon=1e-5), xcnn.PReLU(), xcnn.PReLU(shared=True)),
        nn.Sequential(nn.InstanceNorm2d(4, affine=True), nn.PReLU(4), nn.PReLU()),
        (4, 5, 5),
    ),
    "transposed": (
        xcnn.Sequential(xcnn.Conv2DTranspose(4, 3, stride=2, padding=1, groups=2, output_padding=1)),
        nn.Sequential(nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, groups=2, output_padding=1)),
        (6, 4, 3),
    ),
    "a square kernel": (xcnn.Dense(4), nn.Linear(4, 4), (4,)),
    "dense": (
        xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(5, bias=False), xcnn.Dense(5), xcnn.Dense(3)),
        nn.Sequential(nn.Flatten(), nn.Linear(12, 5, bias=False), nn.Linear(5, 5), nn.Linear(5, 3)),
        (3, 2, 2),
    ),
    "signals": (
        xcnn.Sequential(xcnn.Conv1D(4, 2, dilation=2), xcnn.Conv1DTranspose(2, 3, stride=2, groups=2)),
        nn.Sequential(nn.Conv1d(2, 4, 2, dilation=2), nn.ConvTranspose1d(4, 2, 3, stride=2, groups=2)),
        (2, 8),
    ),
    "within each other": (
        xcnn.Sequential(xcnn.Sequential(xcnn.Sequential(), xcnn.Conv2D(2, 1)), xcnn.ReLU(), xcnn.Conv2D(2, 2)),
        nn.Sequential(nn.Sequential(nn.Sequential(), nn.Conv2d(1, 2, 1)), nn.ReLU(), nn.Conv2d(2, 2, 2)),
        (1, 4, 4),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TWINS)
def test_a_sequential_twin_computes_the_same(case):
    net, twin, shape = TWINS[case]
    state, mine = drawn(twin).state_dict(), model(net, shape)
    assert not mine.load_weights(state).missing
    x = np.random.default_rng(0).normal(size=(3, *shape)).astype("float32")
    with torch.no_grad():
        np.testing.assert_allclose(mine.predict(x), twin(torch.from_numpy(x)).numpy(), rtol=2e-5, atol=2e-6)
    back = mine.state_dict()
    assert {*back} == {name for name in state if not name.endswith("num_batches_tracked")}
    assert all((state[name].numpy() == back[name]).all() for name in back)
    assert not any(np.shares_memory(each, w) for each in back.values() for w in tree.leaves(mine.state.weights))
    twin.load_state_dict({name: torch.from_numpy(value) for name, value in back.items()})


def test_names_of_every_kind():
    block = xcnn.Residual(xcnn.Conv2D(2, 1), xcnn.ReLU(), xcnn.Conv2D(2, 1), shortcut=xcnn.Conv2D(2, 1))
    named = xcnn.Residual(conv=xcnn.Conv2D(2, 1), bn=xcnn.BatchNorm(), shortcut=xcnn.Sequential(xcnn.Conv2D(2, 1)))
    net = xcnn.Sequential(
        conv1=xcnn.Conv2D(2, 1, bias=False),
        _4=xcnn.Conv2D(2, 1, bias=False),
        _=xcnn.Sequential(inner=xcnn.Conv2D(2, 1, bias=False)),
        stage=xcnn.Sequential(block, named),
        both=xcnn.Concatenate(xcnn.Sequential(), xcnn.Conv2D(1, 1, bias=False)),
    )
    weights, _ = net.init(np.random.default_rng(0), (2, 3, 3))
    assert [twin.name for twin in twins(net, weights).values()] == [
        "conv1.weight", "4.weight", "inner.weight",
        "stage.0.0.weight", "stage.0.0.bias", "stage.0.2.weight", "stage.0.2.bias",
        "stage.0.downsample.weight", "stage.0.downsample.bias",
        "stage.1.conv.weight", "stage.1.conv.bias", "stage.1.bn.weight", "stage.1.bn.bias",
        "stage.1.bn.running_mean", "stage.1.bn.running_var",
        "stage.1.downsample.0.weight", "stage.1.downsample.0.bias",
        "both.1.weight",
    ]  # fmt: skip


def test_two_weights_of_one_name_are_not_written():
    net = xcnn.Sequential(a=xcnn.Dense(2), _=xcnn.Sequential(a=xcnn.Dense(2), b=xcnn.Dense(2)))
    with pytest.raises(ExchangeError, match="one name"):
        model(net, (2,)).state_dict()


NET = xcnn.Sequential(body=xcnn.Sequential(xcnn.Dense(3), xcnn.BatchNorm()), fc=xcnn.Dense(2))


def state(classes=2):
    twin = nn.Module()
    twin.body, twin.fc = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), nn.Linear(3, classes)
    return drawn(twin).state_dict()


def unchanged(mine, call, error, words):
    before = mine.state_dict()
    with pytest.raises(error, match=words) as told:
        call()
    assert all((before[name] == value).all() for name, value in mine.state_dict().items())
    return told.value


def test_all_that_does_not_fit_is_told_at_once_and_nothing_changes():
    mine, theirs = model(NET, (4,)), state(classes=5)
    theirs["head.bias"], theirs["head.weight"] = theirs["fc.bias"], theirs["fc.bias"]
    del theirs["body.0.bias"], theirs["body.1.weight"]
    told = unchanged(mine, lambda: mine.load_weights(theirs), ExchangeError, "2 missing, 2 unexpected, 2 misshapen")
    assert told.missing == ("body.0.bias", "body.1.weight")
    assert told.unexpected == ("head.bias", "head.weight")
    assert told.misshapen == {"fc.weight": ((5, 3), (2, 3)), "fc.bias": ((5,), (2,))}
    assert len(str(told).splitlines()) == 5
    for name in (*told.missing, *told.unexpected, *told.misshapen, "(5, 3), not (2, 3)"):
        assert name in str(told)
    unchanged(mine, lambda: mine.load_weights(theirs, strict=False), ExchangeError, "2 misshapen")


def test_a_head_of_other_classes_stays_as_it_is():
    mine, theirs = model(NET, (4,)), state(classes=5)
    before = mine.state_dict()
    loaded = mine.load_weights(theirs, without="fc")
    assert loaded.missing == ("fc.weight", "fc.bias")
    assert loaded.unexpected == ()
    assert "left as they were: fc.weight, fc.bias" in str(loaded)
    after = mine.state_dict()
    assert (after["fc.weight"] == before["fc.weight"]).all()
    assert (after["body.0.weight"] == theirs["body.0.weight"].numpy()).all()
    unchanged(mine, lambda: mine.load_weights(theirs, without="f"), OptionError, "no part of the net's")


def test_what_is_there_is_taken_where_it_need_not_be_all():
    mine, theirs = model(NET, (4,)), state()
    theirs = {"other": theirs["fc.bias"], "fc.bias": theirs["fc.bias"]}
    loaded = mine.load_weights(theirs, strict=False)
    assert (loaded.taken, loaded.unexpected, len(loaded.missing)) == (("fc.bias",), ("other",), 7)
    assert (theirs["fc.bias"].numpy() == mine.weights["fc"]["bias"]).all()
    unchanged(mine, lambda: mine.load_weights({"x": theirs["other"]}, strict=False), ExchangeError, "X417")


WRAPPED = {
    "a training's": (lambda s: {"epoch": 3, "optimizer": {"state": {}}, "state_dict": s}, ("state_dict",), ""),
    "one of another name": (lambda s: {"epoch": 3, "generator_7": s}, ("generator_7",), ""),
    "two deep": (lambda s: {"model": {"state_dict": s}}, ("model", "state_dict"), ""),
    "data parallel": (lambda s: {f"module.{name}": value for name, value in s.items()}, (), "module."),
    "both": (
        lambda s: {"model": {f"model._orig_mod.{name}": value for name, value in s.items()}, "ema": s},
        ("model",),
        "model._orig_mod.",
    ),
}


@pytest.mark.parametrize("case", WRAPPED)
def test_what_is_wrapped_is_unwrapped_and_told(case):
    wrap, within, prefix = WRAPPED[case]
    mine, theirs = model(NET, (4,)), state()
    loaded = mine.load_weights(wrap(theirs))
    assert (loaded.within, loaded.prefix, loaded.missing) == (within, prefix, ())
    assert all(repr(each) in str(loaded) for each in (*within, *([prefix] if prefix else ())))
    assert (mine.state_dict()["fc.weight"] == theirs["fc.weight"].numpy()).all()


def test_a_part_that_all_names_share_and_the_net_has_too_stays():
    mine = model(xcnn.Sequential(module=xcnn.Dense(2)), (2,))
    assert mine.load_weights({"module.weight": torch.ones(2, 2), "module.bias": torch.ones(2)}).prefix == ""


def test_one_of_several_is_asked_for():
    mine, theirs = model(NET, (4,)), state()
    other = {name: value + 1 for name, value in theirs.items()}
    mine.load_weights({"state_dict": theirs, "ema": other}, key="ema")
    assert (mine.state_dict()["fc.bias"] == other["fc.bias"].numpy()).all()
    unchanged(mine, lambda: mine.load_weights({"a": theirs, "b": other}), ExchangeError, "several dicts: 'a', 'b'")
    unchanged(mine, lambda: mine.load_weights({"a": theirs}, key="c"), ExchangeError, "no dict 'c'; there are 'a'")
    unchanged(mine, lambda: mine.load_weights({"epoch": 3}), ExchangeError, "none of its 1 entries")


def test_names_are_changed_as_asked():
    mine, theirs = model(NET, (4,)), state()
    others = {name.replace("body.", "backbone.layers."): value for name, value in theirs.items()}
    others["classifier.weight"], others["classifier.b"] = others.pop("fc.weight"), others.pop("fc.bias")
    others["temperature"] = torch.ones(1)
    rename = {
        "backbone.layers.": "body.", "classifier.": "fc.", "classifier.b": "fc.bias", "temperature": None,
    }  # fmt: skip
    mine.load_weights(others, rename=rename)
    assert all((theirs[name].numpy() == value).all() for name, value in mine.state_dict().items())
    wrong = {**rename, "classifer.": "fc."}
    unchanged(mine, lambda: mine.load_weights(others, rename=wrong), OptionError, "'classifer.'")
    twice = {**rename, "temperature": "fc.bias"}
    unchanged(mine, lambda: mine.load_weights(others, rename=twice), OptionError, "two weights")
    unchanged(mine, lambda: mine.load_weights(others, rename={3: "a"}), OptionError, "X104")


def test_numbers_that_are_none_in_the_nets_type():
    mine, theirs = model(NET, (4,)), {name: value.double() for name, value in state().items()}
    theirs["fc.bias"][0] = 1e300
    unchanged(mine, lambda: mine.load_weights(theirs), DataError, "X203")


def test_statistics_that_are_loaded_move_as_pytorchs_do():
    """The first batch does not take their place, and what they count is not looked at."""
    twin = nn.Sequential(nn.BatchNorm2d(2, momentum=0.2))
    mine = model(xcnn.Sequential(xcnn.BatchNorm(momentum=0.8, epsilon=1e-5)), (2, 3, 3), optimizer=xcnn.SGD(0.0))
    mine.load_weights(twin.state_dict())
    x = np.random.default_rng(0).normal(2, 3, (4, 2, 3, 3)).astype("float32")
    for _ in range(3):
        mine.step(x, x)
        twin.train()(torch.from_numpy(x))
    for name, value in mine.state_dict().items():
        np.testing.assert_allclose(value, twin.state_dict()[name].numpy(), rtol=1e-5)


def test_parameters_themselves_and_half_precision_are_taken():
    mine, twin = model(xcnn.Sequential(xcnn.Dense(3)), (2,)), drawn(nn.Sequential(nn.Linear(2, 3)))
    mine.load_weights(dict(twin.named_parameters()))
    assert (mine.state_dict()["0.weight"] == twin[0].weight.detach().numpy()).all()
    mine.load_weights(twin.bfloat16().state_dict())
    assert (mine.state_dict()["0.weight"] == twin[0].weight.detach().float().numpy()).all()
    unchanged(mine, lambda: mine.load_weights(twin), OptionError, "net.state_dict")


def test_axes_of_one_cell_are_no_difference():
    mine = model(xcnn.Sequential(xcnn.Conv2D(3, 1)), (2, 4, 4))
    weight = torch.randn(3, 2)
    mine.load_weights({"0.weight": weight, "0.bias": torch.zeros(3)})
    assert (weight.numpy() == mine.weights["conv1"]["kernel"][:, :, 0, 0]).all()
    with pytest.raises(ExchangeError, match="misshapen"):
        mine.load_weights({"0.weight": weight.T.contiguous(), "0.bias": torch.zeros(3)})


def test_a_model_that_is_being_trained_takes_none_within_a_step():
    mine, told = model(NET, (4,)), []

    def loads(model, history):
        told.append(model.load_weights(state()))

    mine.fit(np.ones((4, 4), "float32"), np.ones((4, 2), "float32"), callbacks=loads, progress="none")
    assert len(told) == 1
    assert BusyError is not None


@pytest.mark.parametrize("name", ["torch", "jax", "strict"])
def test_on_other_backends(name):
    try:
        backend = xcnn.backend(name)
    except xcnn.errors.BackendUnavailable as error:
        pytest.skip(str(error))
    mine, theirs = model(NET, (4,), backend=backend), state()
    mine.load_weights(theirs)
    assert all((theirs[key].numpy() == value).all() for key, value in mine.state_dict().items())
