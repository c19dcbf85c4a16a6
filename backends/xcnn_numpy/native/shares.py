"""A batch norm's sums where several processes have the batch, in the order of xcnn.layers.BatchNorm.

Each is called between two kernels, when nothing of Python lies in a core's cache: so there are few operations in them.
"""

from __future__ import annotations

import numpy as np

from xcnn.core.types import Array
from xcnn.layers.layer import Run


def whole_statistics(run: Run, statistics: Array, cells: int, count: int) -> None:
    """Put the means and variances of a whole batch in the place of those of so many of its cells.

    Parameters
    ----------
    statistics
        (2 or more, channels), means and variances before others
    """
    means, variances = statistics[0], statistics[1]
    whole = run.sum_over_batch(means * cells) / count
    means -= whole
    means *= means
    means += variances
    means *= cells
    np.divide(run.sum_over_batch(means), count, out=variances)
    means[:] = whole


def whole_slopes(run: Run, back: Array, statistics: Array, count: int) -> None:
    """Write v and w of dx = u dz + x v + w of a whole batch of so many cells a channel.

    Parameters
    ----------
    back
        (5, channels), u, v and w, of which u is there, then dscale and dbias of the samples that this process has
    statistics
        (3, channels), the means, the variances, and 1 / sqrt(variance + epsilon)
    """
    whole = run.sum_over_batch(back[3:].astype(np.float64))
    whole = whole * np.multiply(back[0], -1 / count, dtype=np.float64)
    slope, shift = whole[0], whole[1]
    slope *= statistics[2]
    back[1] = slope
    slope *= statistics[0]
    np.subtract(shift, slope, out=back[2], casting="same_kind")
