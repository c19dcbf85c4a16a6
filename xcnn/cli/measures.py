"""What `xcnn train` is told to measure and to weigh, and the learning rate that it looks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from xcnn.errors import OptionError

if TYPE_CHECKING:
    from xcnn.cli.data import Data
    from xcnn.model.model import Model


def listed(names: str | None) -> tuple[str, ...]:
    """Names with commas between them."""
    return tuple(name.strip() for name in (names or "").split(",") if name.strip())


def weights_of_classes(given: object) -> str | dict[object, float] | None:
    """What classes weigh, as `fit` takes it: "balanced", or names or numbers with =.

    Raises
    ------
    OptionError
        X104, for another text.
    """
    if given is None or given == "balanced":
        return None if given is None else "balanced"
    found: dict[object, float] = {}
    for part in listed(str(given)):
        name, _, weight = part.rpartition("=")
        try:
            found[int(name) if name.isdecimal() else name] = float(weight)
        except ValueError:
            name = ""
        if not name:
            hint = '"cat=1,dog=2.5", by the names of classes or their numbers; others weigh 1.'
            raise OptionError(
                "X104", f'--class-weights is balanced, or has a weight behind each =; got "{part}".', hint=hint
            )
    return found


def rate_found(model: Model, data: Data) -> tuple[str, float | None]:
    """What a search for a learning rate came to, in words, and the rate; None where none was found."""
    found = model.find_learning_rate(*data.train, batch_size=int(model.info["batch_size"]))
    return str(found), found.suggestion


def further(model: Model, result: Mapping[str, Any]) -> str:
    """What a model's metrics came to, those that are single numbers, as the rest of a sentence."""
    single = ((metric.column, result[metric.column]) for metric in model.metrics)
    return "".join(f", {name} {value:.4f}" for name, value in single if isinstance(value, float))
