"""The article's own network and training loop, one image at a time, on MNIST's digits 0 and 1.

See the error fall as it does in the article, and most of the test digits recognised after a handful of images.
"""

import numpy as np

import xcnn
from xcnn import article

backend = xcnn.get_backend()  # what XCNN_BACKEND names, else CuPy where a CUDA device answers, else NumPy

(x, y), (x_test, y_test) = xcnn.datasets.mnist01()
order = np.random.default_rng(0).permutation(len(x))[:100]


def sample(image, label):
    """An image (1, 28, 28), and its label as the column [[1], [0]] or [[0], [1]]."""
    return backend.asarray(image, "float64"), backend.asarray(np.eye(2)[label].reshape(2, 1))


train = [sample(x[n], y[n]) for n in order]
test = [sample(x_test[n], y_test[n]) for n in range(0, len(x_test), 7)]

rng = np.random.default_rng(1)
network = [
    article.Convolutional((1, 28, 28), 3, 5, rng=rng),
    article.Sigmoid(),
    article.Reshape((5, 26, 26), (5 * 26 * 26, 1)),
    article.Dense(5 * 26 * 26, 100, rng=rng),
    article.Sigmoid(),
    article.Dense(100, 2, rng=rng),
    article.Sigmoid(),
]

article.train(
    network,
    article.binary_cross_entropy,
    article.binary_cross_entropy_prime,
    [image for image, _ in train],
    [label for _, label in train],
    epochs=20,
    learning_rate=0.1,
)

right = sum(
    int(np.argmax(backend.to_numpy(article.predict(network, image))) == np.argmax(backend.to_numpy(label)))
    for image, label in test
)
print(f"{right} of {len(test)} test digits are recognised on {backend.spec}")
