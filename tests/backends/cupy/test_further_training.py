"""On CUDA's kernels, as the tests rehearse them: optimizers that have none, groups whose parts have, weights, parts."""

import numpy as np
import pytest
from cuda_on_host.emulator import COMPILER
from cuda_on_host.rehearsal import RehearsedGpu

import xcnn
from xcnn.core import tree
from xcnn.training import optimizers as o

pytestmark = pytest.mark.skipif(not COMPILER, reason="there is no C++ compiler to run CUDA kernels with")

CASES = {
    "nadam": (o.NAdam(0.01), {}),
    "muon": (o.Muon(0.02), {}),
    "groups": (
        o.EMA(
            o.Groups(o.AdamW(0.01), (o.Group("*bias", weight_decay=0.0), o.Group("conv1/*", frozen=True))), decay=0.5
        ),
        {"metrics": "f1"},
    ),
    "parts": (o.Lookahead(o.SGD(0.1, momentum=0.9), k=2), {"accumulate": 3}),
    "weights": (o.Adam(0.01), {"class_weight": "balanced"}),
}


@pytest.mark.parametrize("name", CASES)
def test_training_is_that_of_the_reference(name, rng):
    optimizer, how = CASES[name]
    how = {"batch_size": 8, "epochs": 2, "progress": "none", **how}
    metrics = how.pop("metrics", ())
    x, y = rng.normal(size=(20, 1, 6, 6)), rng.integers(0, 3, 20)
    models = []
    for backend in (RehearsedGpu(), "strict"):
        net = xcnn.Sequential(xcnn.Conv2D(2, 3), xcnn.ReLU(), xcnn.Flatten(), xcnn.Dense(3))
        model = xcnn.Model(net, (1, 6, 6), backend=backend, dtype="float64", optimizer=optimizer, metrics=metrics)
        model.fit(x, y, **how)
        models.append(model)
    ours, reference = models
    pairs = zip(tree.leaves(ours.weights), tree.leaves(reference.weights), strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(ours.backend.to_numpy(one), reference.backend.to_numpy(other), rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(ours.predict(x), reference.predict(x), rtol=1e-7, atol=1e-10)
    for row, other in zip(ours.history.reproducible(), reference.history.reproducible(), strict=True):
        assert row == pytest.approx(other)
