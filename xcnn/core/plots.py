"""Empty figures, where matplotlib is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xcnn.errors import MissingDependency

if TYPE_CHECKING:
    from xcnn.core.figure import Figure


def new_figure(width: float, height: float, what: str) -> Figure:
    """A figure of this size, in inches; `what` wants it, as "history.plot() needs".

    Raises
    ------
    MissingDependency
        X601, without matplotlib.
    """
    try:
        from xcnn.core.figure import Figure
    except ImportError as error:
        raise MissingDependency("X601", f"{what} matplotlib.", hint='pip install "xcnn[plot]"') from error
    return Figure(figsize=(width, height), layout="constrained")
