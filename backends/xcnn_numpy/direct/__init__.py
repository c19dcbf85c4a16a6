"""Correlation without the columns of a matrix, in registers, by functions that Numba compiles (the extra `fast`)."""

from pathlib import Path


def forget_stale(folder: Path) -> None:
    """Remove what Numba kept of compiled functions, where any source file is newer.

    Numba itself looks at the file of a function alone, not at those of the functions that were compiled into it.
    """
    newest = max(file.stat().st_mtime for file in folder.glob("*.py"))
    for kept in (folder / "__pycache__").glob("*.nbi"):
        try:
            if kept.stat().st_mtime < newest:
                kept.unlink()
        except OSError:  # another process was faster, or the folder is not ours to write
            continue


forget_stale(Path(__file__).parent)

from xcnn_numpy.direct import addition, average, convolution, dense, dropout, flatten, normalisation  # noqa: E402
from xcnn_numpy.direct.algorithm import Direct  # noqa: E402

FUSES = (convolution.fuse, dense.fuse, normalisation.fuse, dropout.fuse, addition.fuse, average.fuse, flatten.fuse)
"""What knows runs of layers to fuse, in the order in which they are asked."""

__all__ = ["FUSES", "Direct"]
