"""What a classifier gets wrong: accuracy with an interval, what is taken for what, the samples that surprise it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xcnn.core import html
from xcnn.core.files import check_path, write_whole
from xcnn.data.source import Arrays, Source
from xcnn.errors import OptionError
from xcnn.model import report_page
from xcnn.model.feeding import Fed, known_targets, to_measure
from xcnn.model.held import numbered_names
from xcnn.model.report_counts import Counted, Surprise
from xcnn.training.loop import in_order

if TYPE_CHECKING:
    from xcnn.model.held import Held
    from xcnn.training.state import HostArray

BATCH = 256
"""Samples that are read at a time where labels come with them."""


@dataclass(frozen=True, eq=False, repr=False)
class Report(Counted):
    """What `model.report(x, y)` gives: it prints itself, shows itself in a notebook, and writes itself as a page."""

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<div>{html.note(self.headline)}{report_page.sections(self)}</div>"

    def write(self, path: str | Path) -> None:
        """Write a page that needs no network, whole or not at all.

        Parameters
        ----------
        path
            such as "report.html"
        """
        path = Path(path)
        check_path(path)
        write_whole(path, report_page.page(self).encode())


def report(model: Held, x: Any, y: Any, probabilities: Callable[[HostArray], HostArray], worst: int) -> Report:
    """Look at all samples, as `Model.report` says."""
    if model.trainer.threshold is None or len(model.output_shape) != 1:
        told = f"a report is of a classifier of whole samples; this model's output is {model.output_shape}"
        raise OptionError("X104", f"{told}, its loss {model.loss!r}.", hint="model.evaluate(x, y) measures any.")
    data = to_measure(model, x, y)
    p = probabilities(x)
    labels = labels_of(targets_in(data), p.shape[1])
    own = p[np.arange(len(p)), labels]
    losses = -np.log(np.maximum(own, np.finfo(np.float64).tiny))
    taken = p.argmax(axis=1)
    confusion = np.zeros((p.shape[1],) * 2, np.int64)
    np.add.at(confusion, (labels, taken), 1)
    order = np.argsort(-losses, kind="stable")[:worst]
    surprises = tuple(Surprise(int(n), int(labels[n]), int(taken[n]), float(own[n]), float(losses[n])) for n in order)
    pictures = len(model.input_shape) == 3 and model.input_shape[0] in (1, 3) and len(order) > 0
    images = data.batch(order).x if pictures and isinstance(data, Arrays | Fed) and data.samples else None
    classes = tuple(numbered_names(model, p.shape[1]))
    return Report(classes, confusion, float(losses.mean()), surprises, images)


def targets_in(data: Source) -> HostArray:
    """The targets of all samples: where they are known without the samples, these are not read."""
    known = known_targets(data)
    if known is not None:
        return known
    with closing(in_order(data, BATCH, 0)) as batches:
        return np.concatenate([batch.t for batch in batches])


def labels_of(targets: HostArray, classes: int) -> HostArray:
    """Whole-number labels (samples,) of labels, one-hot rows or a column."""
    if targets.ndim == 1:
        labels: HostArray = (targets > 0.5).astype(np.int64) if classes == 2 else targets.astype(np.int64)
        return labels
    return (targets[:, 0] > 0.5).astype(np.int64) if targets.shape[1] == 1 else targets.argmax(axis=1)
