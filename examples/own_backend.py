"""A backend of your own: NumPy, with correlation by `tensordot`.

A backend says how its arrays come and go, and overrides the primitives that it makes faster; all others it has from the
reference. See that it passes every check of primitives and layers, and how fast it is beside the reference on images of
one channel. To have it found by name, as `xcnn.backend("tensordot")`, a package declares it:

    [project.entry-points."xcnn.backends"]
    tensordot = "my_package:TensordotBackend"
"""

from dataclasses import dataclass
from timeit import repeat
from typing import ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

import xcnn
from xcnn.core import reference
from xcnn.testing import check_backend


@dataclass(frozen=True, repr=False)
class TensordotBackend(xcnn.Backend):
    """NumPy arrays. Windows are a view (N, C, H', W', h, w); their channels and cells are summed with the kernel's."""

    name: ClassVar[str] = "tensordot"
    library: ClassVar[str] = "numpy"

    @property
    def xp(self):
        return np

    def asarray(self, x, dtype=None):
        return np.asarray(x, dtype=dtype)

    def to_numpy(self, x):
        return np.asarray(x)

    def correlate(self, x, k, *, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1):
        spans = [(size - 1) * d + 1 for size, d in zip(k.shape[2:], dilation, strict=True)]
        windows = sliding_window_view(np.pad(x, ((0, 0), (0, 0), *padding)), spans, axis=(2, 3))
        windows = windows[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
        pairs = zip(np.split(windows, groups, axis=1), np.split(k, groups), strict=True)
        y = np.concatenate([np.tensordot(seen, kernel, ((1, 4, 5), (1, 2, 3))) for seen, kernel in pairs], axis=-1)
        return np.moveaxis(y, -1, 1)


backend = TensordotBackend()
rows = list(check_backend(backend))
for row in rows:
    if not row.ok:
        print(row)
print(f"{sum(row.ok for row in rows)} of {len(rows)} checks passed")
print(f"largest difference from the reference: {max(row.agreement or 0 for row in rows):.0e}")

x = np.random.default_rng(0).standard_normal((64, 1, 28, 28), dtype="float32")
k = np.random.default_rng(1).standard_normal((8, 1, 5, 5), dtype="float32")
for name, correlate in (("reference", reference.correlate), ("tensordot", backend.correlate)):
    print(f"{name}: {1000 * min(repeat(lambda run=correlate: run(x, k), number=1, repeat=5)):.1f} ms")
