"""One net on every backend that can be used here: the same seed, the same training, the same answers.

See the list of backends, each with its device or with the reason why it can't be used; then the accuracy on each, after
the same few steps of training with dropout, and the largest difference of its outputs from NumPy's. The last line moves
a trained model from one backend to another.
"""

import numpy as np

import xcnn

(x, y), (xt, yt) = xcnn.datasets.mnist01()


def shrink(images):
    """28x28 to 7x7, so that the slowest backend is quick enough."""
    return images.reshape(-1, 1, 7, 4, 7, 4).mean(axis=(3, 5), dtype="float32")


x, y, xt, yt = shrink(x[:256]), y[:256], shrink(xt[:200]), yt[:200]
net = xcnn.Sequential(xcnn.Conv2D(4, 3), xcnn.ReLU(), xcnn.Flatten(), xcnn.Dropout(0.25), xcnn.Dense(2))

print("backends:")
backends = xcnn.available_backends()
for info in backends.values():
    print(f"  {info}")

print("\ntrained on each:")
models = {}
for name, info in backends.items():
    if info.available:
        model = xcnn.Model(net, (1, 7, 7), optimizer=xcnn.Adam(0.01), backend=name, dtype="float64", seed=0)
        model.fit(x, y, epochs=3, batch_size=32, progress="none")
        models[name] = model

expected = models["numpy"].predict(xt)
for name, model in models.items():
    difference = np.abs(model.predict(xt) - expected).max()
    print(f"  {name}: accuracy {model.evaluate(xt, yt)['accuracy']:.1%}, largest difference {difference:.0e}")

moved = models["numpy"].to("strict" if "strict" in models else "numpy")
print(f"\nmoved to {moved.backend.spec}: largest difference {np.abs(moved.predict(xt) - expected).max():.0e}")
