"""Data sets: arrays (samples, channels, height, width) of float32 in 0..1, and whole-number labels.

(x, y), (xt, yt) = xcnn.datasets.mnist01()
"""

from xcnn.data.dataset import Dataset, Samples
from xcnn.data.folder import image_folder
from xcnn.data.idx import load_idx
from xcnn.data.published import fashion_mnist, mnist, mnist01
from xcnn.data.split import split

__all__ = ["Dataset", "Samples", "fashion_mnist", "image_folder", "load_idx", "mnist", "mnist01", "split"]
