"""The zoo beside torchvision's own models with the same random weights: outputs, gradients, state dicts there and back.

Images are small, and norms' statistics are nobody's defaults. What is random in training is left out.
"""

import numpy as np
import pytest
from torchvision_models import models, torch

import xcnn
from xcnn.core import tree
from xcnn.exchange.pytorch.names import twins

ZOO = {
    "resnet18": (3, 64, 64),
    "resnet34": (3, 40, 48),
    "resnet50": (3, 40, 40),
}
CLASSES = 7


def theirs(name):
    """Torchvision's, with weights and statistics that are drawn."""
    torch.manual_seed(3)
    net = getattr(models, name)(weights=None, num_classes=CLASSES)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.1)
        elif type(module).__name__ == "CNBlock":
            torch.nn.init.uniform_(module.layer_scale, 0.5, 1)
    return net.eval()


def apart(mine, other):
    """The largest difference by the largest value."""
    return np.abs(np.asarray(mine) - other).max() / np.abs(other).max()


@pytest.fixture(scope="module", params=ZOO)
def pair(request):
    name = request.param
    twin, shape = theirs(name), ZOO[name]
    model = xcnn.Model(getattr(xcnn.nets, name)(CLASSES), shape, backend="numpy")
    loaded = model.load_weights(twin.state_dict())
    assert not loaded.missing
    assert not loaded.unexpected
    return name, twin, model


def test_state_dicts_go_in_and_out_bit_for_bit(pair):
    _, twin, model = pair
    state, back = twin.state_dict(), model.state_dict()
    assert [*back] == [name for name in state if not name.endswith("num_batches_tracked")]
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
