"""The zoo beside torchvision's own models with the same random weights: outputs, gradients, state dicts there and back.

Images are small, and norms' statistics are nobody's defaults. What is random in training is left out.
"""

import numpy as np
import pytest
from torchvision_models import models, theirs, torch

import xcnn
from xcnn.core import tree
from xcnn.core.random import Planner
from xcnn.exchange.pytorch.names import twins

ZOO = {
    "resnet18": (3, 64, 64),
    "resnet50": (3, 40, 40),
    "mobilenet_v2": (3, 64, 48),
    "efficientnet_b0": (3, 64, 48),
    "convnext_tiny": (3, 32, 32),
    "unet": (3, 32, 48),
    "vgg11_bn": (3, 40, 32),
}
PUBLISHED = ["resnet34", "vgg11", "vgg16", "vgg16_bn"]
"""Of these the names and shapes alone: they are built as the others are."""
CLASSES = 7


def with_small_head(net, twin):
    """A VGG without its hundred million weights of dense layers."""
    small = xcnn.Sequential(xcnn.Dense(8), xcnn.ReLU(), xcnn.Dropout(0.5), xcnn.Dense(CLASSES))
    mine = xcnn.Sequential(**{**net.layers, "classifier": small})
    nn = torch.nn
    return mine, nn.Sequential(nn.Linear(512 * 49, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, CLASSES)).eval()


def apart(mine, other):
    """The largest difference by the largest value."""
    return np.abs(np.asarray(mine) - other).max() / np.abs(other).max()


@pytest.fixture(scope="module", params=ZOO)
def pair(request):
    name = request.param
    twin, shape = theirs(name, CLASSES), ZOO[name]
    made = getattr(xcnn.nets, name)(CLASSES, **({"features": 8} if name == "unet" else {}))
    if name.startswith("vgg"):
        made, twin.classifier = with_small_head(made, twin)
    model = xcnn.Model(made, shape, loss="mse", backend="numpy")
    loaded = model.load_weights(twin.state_dict())
    assert not loaded.missing
    assert not loaded.unexpected
    return name, twin, model


def test_state_dicts_go_in_and_out_bit_for_bit(pair):
    _, twin, model = pair
    state, back = twin.state_dict(), model.state_dict()
    assert sorted(back) == sorted(name for name in state if not name.endswith("num_batches_tracked"))
    assert all(
        state[name].shape == value.shape and (state[name].numpy() == value).all() for name, value in back.items()
    )
    twin.load_state_dict({name: torch.from_numpy(value) for name, value in back.items()})


def test_outputs_and_gradients_are_torchvisions(pair):
    _, twin, model = pair
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *model.input_shape)).astype("float32")
    given = torch.from_numpy(x).requires_grad_()
    y = twin(given)
    assert apart(model.predict(x), y.detach().numpy()) < 1e-5
    dy = rng.normal(size=y.shape).astype("float32")
    twin.zero_grad()
    y.backward(torch.from_numpy(dy))
    with model.backend.active():
        _, backward = model.net(model.state.weights, x, xcnn.Run(model.backend))
        dx, grads = backward(dy)
    assert apart(dx, given.grad.numpy()) < 1e-5
    names, parameters = twins(model.net, model.state.weights), dict(twin.named_parameters())
    for path, grad in tree.items(grads):
        if path in names and names[path].name in parameters:
            found = names[path].turned(np.asarray(grad)).reshape(names[path].shape)
            assert apart(found, parameters[names[path].name].grad.numpy()) < 1e-5, path


@pytest.mark.parametrize("name", [name for name in ZOO if name != "unet"] + PUBLISHED)
def test_names_and_shapes_are_torchvisions(name):
    """Of the nets as they are published, for a thousand classes and 224x224 pixels; nothing of their size is made."""
    with torch.device("meta"):
        state = getattr(models, name)(weights=None).state_dict()
    net = getattr(xcnn.nets, name)()
    weights, output = net.init(Planner(), (3, 224, 224))
    expected = {key: tuple(value.shape) for key, value in state.items() if not key.endswith("num_batches_tracked")}
    assert {twin.name: twin.shape for twin in twins(net, weights).values()} == expected
    assert output == (1000,)


def test_a_head_is_replaced_the_rest_frozen_and_the_net_fine_tuned():
    """As the README has it: what is loaded stays, bit for bit, and the head learns."""
    state = theirs("resnet18", CLASSES).state_dict()
    model = xcnn.Model(xcnn.nets.resnet18(classes=2), (3, 32, 32), backend="numpy")
    loaded = model.load_weights(state, without="fc")
    assert loaded.missing == ("fc.weight", "fc.bias")
    groups = xcnn.optimizers.Group("fc/*"), xcnn.optimizers.Group("*", frozen=True)
    model.optimizer = xcnn.optimizers.Groups(xcnn.AdamW(0.02), groups)
    x = np.random.default_rng(0).normal(size=(16, 3, 32, 32)).astype("float32")
    y = np.arange(16) % 2
    losses = [model.step(x, y) for _ in range(8)]
    assert losses[-1] < 0.5 * losses[0]
    after = model.state_dict()
    assert all((after[name] == state[name].numpy()).all() for name in after if not name.startswith("fc"))
