"""Clothes of Fashion-MNIST, trained with several seeds: python fashion_mnist.py [DATA_DIR] [EPOCHS] [SEEDS] [IMAGES]

What `xcnn train fashion-mnist --model fashion` does, in Python and with more seeds than one. DATA_DIR is a folder of
its four files; without it, or with "find", they are those of Debian's package dataset-fashion-mnist or a download. See
the test accuracy of each seed, what a second, mirrored look at each image adds, and which classes are still mistaken.
"""

import sys
import time

import numpy as np

import xcnn

given = dict(enumerate(sys.argv))
data_dir = None if given.get(1, "find") == "find" else given[1]
seeds, images = int(given.get(3, 3)), int(given.get(4, 60_000))

data = xcnn.datasets.fashion_mnist(data_dir)
(x, y), (x_test, y_test) = data
x, y = x[:images], y[:images]

recipe = xcnn.nets.RECIPES["fashion"]  # its net, loss and rates; xcnn/nets/recipes.py
epochs = int(given.get(2, recipe.epochs))
augment = [xcnn.augment.Flip(), xcnn.augment.Translate(2, "reflect")]
views = [None, xcnn.augment.Flip(1)]

plain, mirrored = [], []
for seed in range(seeds):
    model = xcnn.Model(
        recipe.net(10),
        (1, 28, 28),
        loss=recipe.loss,
        optimizer=recipe.optimizer_for(len(x), epochs, recipe.batch_size),
        seed=seed,
    )
    begun = time.perf_counter()
    model.fit(x, y, epochs=epochs, batch_size=recipe.batch_size, augment=augment)
    seconds = time.perf_counter() - begun
    plain.append(model.evaluate(x_test, y_test)["accuracy"])
    mirrored.append(np.mean(model.predict(x_test, views=views).argmax(axis=1) == y_test))
    print(
        f"seed {seed}: test accuracy {plain[-1]:.2%}, mirrored too {mirrored[-1]:.2%}, after {seconds:.0f} s",
        flush=True,
    )

print(f"mean of {seeds}: {np.mean(plain):.2%}, mirrored too {np.mean(mirrored):.2%}")
for pair in model.report(x_test, y_test).confused[:3]:
    print(f"{data.classes[pair.true]} taken for {data.classes[pair.taken]}: {pair.share:.0%} of them")
