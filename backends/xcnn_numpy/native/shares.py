"""What a batch norm asks of the other processes that have its batch, as xcnn.layers.BatchNorm asks it.

Each is called between two kernels, when nothing of Python lies in a core's cache: so there are few operations in them.
"""

from __future__ import annotations

import numpy as np
from xcnn_native.library import address, call

from xcnn.core.types import Array
from xcnn.layers.layer import Run

WIDE = np.dtype(np.float64)


def rows(table: Array) -> list[int]:
    """Where the rows of a table lie, for as long as it is kept."""
    first, step = address(table), table.strides[0]
    return [first + n * step for n in range(len(table))]


def whole_statistics(run: Run, statistics: Array, cells: int) -> None:
    """Put the means and variances of a whole batch in the place of those of so many of its cells.

    Parameters
    ----------
    statistics
        (3, channels), means, variances, and room for numbers of cells
    """
    statistics[2] = cells
    table = run.each_of_batch(statistics)
    call("whole_moments", WIDE, len(table), statistics.shape[1], table, *rows(statistics)[:2])


def whole_slopes(run: Run, back: Array, statistics: Array, count: int) -> None:
    """Write v and w of dx = u dz + x v + w of a whole batch of so many cells a channel.

    Parameters
    ----------
    back
        (5, channels), u, v and w, of which u is there, then dscale and dbias of the samples that this process has
    statistics
        (3, channels), the means, the variances, and 1 / sqrt(variance + epsilon)
    """
    sums = run.sum_over_batch(back[3:].astype(WIDE))
    means, _, inverses = rows(statistics)
    call("whole_slopes", back.dtype, back.shape[1], count, sums, means, inverses, *rows(back)[:3])
