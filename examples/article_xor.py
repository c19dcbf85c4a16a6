"""The article's first network: two dense layers learn XOR, a function that no single one can.

See how the error falls, then what the network has made of the plane: its output at every point of the square, `#` where
it is above one half. The two corners that are equal lie on one side of the line, or band, the other two on the other.
"""

import numpy as np

from xcnn.article import Dense, Tanh, mse, mse_prime, predict, train
from xcnn.backends import get_backend

X = np.reshape([[0, 0], [0, 1], [1, 0], [1, 1]], (4, 2, 1))
Y = np.reshape([[0], [1], [1], [0]], (4, 1, 1))

rng = np.random.default_rng(1)
network = [Dense(2, 3, rng=rng), Tanh(), Dense(3, 1, rng=rng), Tanh()]


def output(a: float, b: float) -> float:
    """The network's answer to (a, b)."""
    return float(get_backend().to_numpy(predict(network, [[a], [b]]))[0, 0])


errors = train(network, mse, mse_prime, X, Y, epochs=1000, learning_rate=0.1, verbose=False)
for epoch in (1, 10, 100, 1000):
    print(f"{epoch}/1000, error={errors[epoch - 1]:.6f}")

print()
for (a,), (b,) in X:
    print(f"{a} xor {b} = {output(a, b):5.2f}")

print()
for b in np.linspace(1, 0, 11):
    print("".join("#" if output(a, b) > 0.5 else "." for a in np.linspace(0, 1, 31)))
