"""Metrics of a user's own that are no Metric: functions, and objects with `update` and `result`."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np

from xcnn.core.checks import is_number, plain
from xcnn.errors import OptionError, short
from xcnn.training.metrics.metric import Metric, Result
from xcnn.training.state import Counts, HostArray


@dataclass(frozen=True)
class Own(Metric):
    """A function (y, t) -> value, or an object with update(y, t) and result(): asked once, of the epoch as a whole.

    A value of a batch says little of one of the epoch, and no more is known of it: so the outputs and targets of all
    batches are kept until the epoch is over. That takes their memory; a Metric of your own does not.

    Parameters
    ----------
    of
        the function or the object; of an object a copy is asked each time
    name
        of the column: the function's or the class's
    higher_is_better
        what `of` says by an attribute of this name
    """

    of: Any
    name: str
    higher_is_better: bool | None = None

    def counts(self, y: HostArray, t: HostArray) -> Counts:
        return {"y": (np.array(y),), "t": (np.array(t),)}

    def arrays(self, counts: Counts) -> Counts:
        return {name: np.concatenate(pieces) for name, pieces in counts.items()}

    def restored(self, arrays: Counts) -> Counts:
        return {name: (array,) for name, array in arrays.items()}

    def result(self, counts: Counts) -> Result:
        whole = self.arrays(counts)
        if hasattr(self.of, "update"):
            asked = deepcopy(self.of)
            getattr(asked, "reset", lambda: None)()
            asked.update(whole["y"], whole["t"])
            value = asked.result()
        else:
            value = self.of(whole["y"], whole["t"])
        given: Any = plain(value.tolist() if isinstance(value, np.ndarray) else value)
        if not is_number(given) and not isinstance(given, list):
            raise OptionError(
                "X104",
                f"the metric {self.name} must give a number, or a list of them; got {short(value)}.",
                hint="it is called with all outputs and all targets of an epoch: metric(y, t).",
            )
        result: Result = given if isinstance(given, list) else float(given)
        return result


def is_own(given: Any) -> bool:
    """Whether it can be asked so."""
    both = all(callable(getattr(given, name, None)) for name in ("update", "result"))
    return not isinstance(given, type) and (both or callable(given))


def own(given: Any) -> Own:
    """The metric that asks it, named as it is."""
    name = getattr(given, "name", None) or getattr(given, "__name__", None) or type(given).__name__.lower()
    way = getattr(given, "higher_is_better", None)
    return Own(given, str(name), way if isinstance(way, bool) else None)
