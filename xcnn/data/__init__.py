"""Data: sets in memory, (samples, channels, height, width) of float32 in 0..1, and sources that are read as needed.

(x, y), (xt, yt) = xcnn.data.mnist01()
model.fit(xcnn.data.folder("photos"), validation_split=0.2)
"""

from xcnn.data.adapters import source
from xcnn.data.dataset import Dataset, Samples
from xcnn.data.folder import image_folder
from xcnn.data.idx import load_idx
from xcnn.data.photos import Folder, folder
from xcnn.data.published import fashion_mnist, mnist, mnist01
from xcnn.data.source import Batch, Numbered, Pass, Source
from xcnn.data.split import split
from xcnn.data.tar import Tar, tar

__all__ = [
    "Batch", "Dataset", "Folder", "Numbered", "Pass", "Samples", "Source", "Tar", "fashion_mnist", "folder",
    "image_folder", "load_idx", "mnist", "mnist01", "source", "split", "tar",
]  # fmt: skip
