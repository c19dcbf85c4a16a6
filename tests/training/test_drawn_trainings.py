"""Whole trainings beside a loop of PyTorch's, of nets, losses, optimizers and options that are drawn."""

from importlib.util import find_spec

import numpy as np
import pytest
from drawn_loop import Loop
from drawn_training import drawn, ours
from draws import draws

from xcnn.core import tree

pytestmark = pytest.mark.skipif(not find_spec("torch"), reason="PyTorch is the oracle; it is not installed")


def compared(seed, backend):
    """Weights, losses of the epochs and predictions of both, as far as they are apart."""
    training = drawn(seed)
    model, start = ours(training, backend)
    loop = Loop(training, start).run()
    from xcnn.bench.torch_side import tensors

    theirs = {path: tensor.numpy() for path, tensor in tensors(loop.net, start)}
    for path, w in tree.items(model.weights):
        if "running" not in path:
            w, told = model.backend.to_numpy(w), f"{path} of training {training}"
            np.testing.assert_allclose(w, theirs[path], rtol=1e-7, atol=1e-9, err_msg=told)
    np.testing.assert_allclose(model.history["loss"], loop.losses, rtol=1e-8, err_msg=str(training))
    if "running" not in " ".join(path for path, _ in tree.items(start)):
        predicted, said = loop.predicted(training.x), model.predict(training.x)
        said = np.concatenate([*said.values()], axis=1) if isinstance(said, dict) else said
        np.testing.assert_allclose(said, predicted, rtol=1e-6, atol=1e-8, err_msg=str(training))


@pytest.mark.parametrize("seed", range(draws(24)))
def test_weights_losses_and_predictions_are_pytorchs(seed):
    compared(seed, "numpy")
