"""A batch norm's sums where several processes have the batch, in the order of xcnn.layers.BatchNorm."""

from __future__ import annotations

from xcnn.core.types import Array
from xcnn.layers.layer import Run


def whole_statistics(run: Run, statistics: Array, cells: int, count: int) -> None:
    """Put the means and variances of a whole batch, (2, channels), in the place of those of so many of its cells."""
    means, variances = statistics
    whole = run.sum_over_batch(means * cells) / count
    variances[:] = run.sum_over_batch((variances + (means - whole) ** 2) * cells) / count
    means[:] = whole


def whole_slopes(
    run: Run, back: Array, sums: Array, scale: Array, statistics: Array, inverses: Array, lines: Array, count: int
) -> None:
    """Write u, v and w of dx = u dz + x v + w, (3, channels), of a whole batch of so many cells a channel.

    Parameters
    ----------
    sums
        (images, channels, 2), of dz and of dz (x - m)
    statistics, inverses, lines
        the means and variances, 1 / sqrt(variance + epsilon), and m, the mean rounded, before others
    """
    means, m = statistics[0], lines[0]
    plain, product = sums.sum(axis=0).T
    dscale, dbias = run.sums_over_batch((product + (m - means) * plain) * inverses, plain)
    slope = -scale * dscale / count * inverses**2
    back[:] = scale * inverses, slope, -slope * means - scale * dbias / count * inverses
