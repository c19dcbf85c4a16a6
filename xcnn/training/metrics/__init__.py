"""Metrics as values: what `fit` and `evaluate` measure beside the loss, over an epoch or a data set as a whole."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from xcnn.core.names import unknown
from xcnn.errors import OptionError, short
from xcnn.training.history import COLUMNS
from xcnn.training.metrics.classes import F1, ConfusionMatrix, IoU, OfClasses, OfPairs, Precision, Recall, TopK
from xcnn.training.metrics.metric import Metric, counts_of, directions, merged, results
from xcnn.training.metrics.numbers import MAE, MSE, R2, RMSE, OfNumbers
from xcnn.training.metrics.own import Own, is_own, own

BY_ITSELF = "classifiers measure their accuracy by themselves: leave it out."
METRICS: dict[str, type[Metric]] = {
    "confusion": ConfusionMatrix,
    "f1": F1,
    "iou": IoU,
    "mae": MAE,
    "mse": MSE,
    "precision": Precision,
    "r2": R2,
    "recall": Recall,
    "rmse": RMSE,
}
"""Metrics by name; "top5" is TopK(5), "f1_macro" F1("macro")."""


def metric(choice: Any) -> Metric:
    """A metric by name, "f1", "f1_macro" or "top5"; a Metric stands for itself, and a user's own as Own.

    Parameters
    ----------
    choice
        a name, a Metric, a function (y, t) -> value, or an object with update(y, t) and result()

    Raises
    ------
    OptionError
        X104

    Examples
    --------
    >>> xcnn.metrics.metric("f1_macro")
    F1(name=None, threshold=None, ignore_index=None, average='macro', multilabel=False)
    """
    if isinstance(choice, Metric):
        return choice
    if isinstance(choice, str):
        name, _, average = choice.lower().partition("_")
        if top := re.fullmatch(r"top[-_]?(\d{1,9})", choice.lower()):
            return TopK(int(top[1]))
        cls = METRICS.get(choice.lower()) or METRICS.get(name)
        if cls is not None and (not average or issubclass(cls, OfPairs)):
            return cls(average) if average else cls()  # type: ignore[call-arg]
        if "acc" in choice.lower():
            raise OptionError("X104", f"there is no metric {short(choice)}.", hint=BY_ITSELF)
        raise unknown("metric", choice, (*METRICS, "top5"))
    if is_own(choice):
        return own(choice)
    raise OptionError(
        "X104",
        f"metrics are names, values of xcnn.metrics, functions (y, t) or objects with update and result; got "
        f"{short(choice)}.",
        hint=f"call it: {choice.__name__}()." if isinstance(choice, type) else "",
    )


def check_metrics(given: Any) -> tuple[Metric, ...]:
    """The metrics that a user gave, one alone as well.

    Parameters
    ----------
    given
        a metric as `metric` takes it, or several

    Raises
    ------
    OptionError
        X104, for what is none, and for two of one column.
    """
    several = isinstance(given, Iterable) and not isinstance(given, str | Metric)
    chosen = tuple(metric(each) for each in (given if several else (given,)))
    columns = [each.column for each in chosen]
    for n, name in enumerate(columns):
        if "/" in name or not name.isprintable() or not 0 < len(name) <= 60:
            whole = f"a metric's name must be printable, without a slash, and of 1 to 60 characters; got {short(name)}."
            raise OptionError("X104", whole)
        if name in columns[:n] or name in COLUMNS or name.startswith("val_"):
            taken = "two metrics are" if name in columns[:n] else "no metric of yours can be"
            hint = "give one another name: xcnn.metrics.F1(name=...)."
            if name == "accuracy":
                hint = BY_ITSELF
            raise OptionError("X104", f"{taken} named {short(name)}.", hint=hint)
    return chosen


__all__ = [
    "F1",
    "MAE",
    "METRICS",
    "MSE",
    "R2",
    "RMSE",
    "ConfusionMatrix",
    "IoU",
    "Metric",
    "OfClasses",
    "OfNumbers",
    "OfPairs",
    "Own",
    "Precision",
    "Recall",
    "TopK",
    "check_metrics",
    "counts_of",
    "directions",
    "merged",
    "metric",
    "results",
]
