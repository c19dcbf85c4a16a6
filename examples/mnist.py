"""A modern network on all ten digits of MNIST, or on any folder of images: python mnist.py [DATA_DIR] [EPOCHS]

Without the files of MNIST in DATA_DIR they are downloaded once. See the test accuracy pass 98 % in the first epoch.
"""

import sys

import xcnn

data_dir = sys.argv[1] if len(sys.argv) > 1 else None
epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 3

(x, y), (x_test, y_test) = xcnn.datasets.mnist(data_dir)

net = xcnn.Sequential(
    xcnn.Conv2D(16, 3),
    xcnn.ReLU(),
    xcnn.MaxPool2D(2),
    xcnn.Conv2D(32, 3, bias=False),
    xcnn.BatchNorm(),
    xcnn.ReLU(),
    xcnn.MaxPool2D(2),
    xcnn.Flatten(),
    xcnn.Dropout(0.25),
    xcnn.Dense(10),
)
steps = epochs * -(-len(x) // 64)
model = xcnn.Model(net, (1, 28, 28), optimizer=xcnn.AdamW(xcnn.schedules.OneCycle(0.005, steps)))
print(model.summary(batch_size=64))

history = model.fit(x, y, epochs=epochs, batch_size=64, validation_data=(x_test, y_test))
print(f"test accuracy {history['val_accuracy'][-1]:.2%}")
