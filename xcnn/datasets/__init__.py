"""Data sets: arrays (samples, channels, height, width) of float32 in 0..1, and whole-number labels.

(x, y), (xt, yt) = xcnn.datasets.mnist01()
"""

from xcnn.datasets.dataset import Dataset, Samples
from xcnn.datasets.folder import image_folder
from xcnn.datasets.idx import load_idx
from xcnn.datasets.published import fashion_mnist, mnist, mnist01

__all__ = ["Dataset", "Samples", "fashion_mnist", "image_folder", "load_idx", "mnist", "mnist01"]
