"""Which engine answers which question, in a file: JSON, for one version of cuDNN and one GPU."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xcnn.core.files import write_whole
from xcnn.core.windows import is_whole
from xcnn_cupy.choices import FORMAT, taken
from xcnn_cupy.cudnn.engines import Choice


@dataclass(frozen=True)
class Chosen:
    """An engine with its knobs, and whether it was measured to be the fastest."""

    choice: Choice
    measured: bool


def write(
    path: str | Path, version: int, device: str, chosen: Mapping[str, Chosen], products: Mapping[str, Any] | None = None
) -> None:
    """Write choices, by the questions' keys, to a file that is whole or the old one; and those of cublasLt, if any."""
    plans = {
        key: {"engine": one.choice.engine, "knobs": [list(knob) for knob in one.choice.knobs], "measured": one.measured}
        for key, one in sorted(chosen.items())
    }
    content = {"format": FORMAT, "cudnn": version, "device": device, "plans": plans}
    if products:
        content["products"] = products
    write_whole(path, json.dumps(content, indent=1).encode())


def read(path: str | Path, version: int, device: str) -> dict[str, Chosen]:
    """The choices of a file; none where there is no file yet, or it is for another cuDNN or GPU.

    Raises
    ------
    BackendError
        X307, for a file that is damaged or something else.
    """
    expected = {"format": FORMAT, "cudnn": version, "device": device}
    return taken(path, expected, lambda content: {key: chosen_of(one) for key, one in content["plans"].items()})


def chosen_of(entry: Any) -> Chosen:
    """One choice as it stands in the file; ValueError where it is none."""
    engine, knobs, measured = entry["engine"], entry["knobs"], entry["measured"]
    numbers = [engine, *(number for knob in knobs for number in knob)]
    whole = all(is_whole(number) and abs(number) < 2**31 for number in numbers)
    if not whole or any(len(knob) != 2 for knob in knobs) or not isinstance(measured, bool):
        raise ValueError(f"{entry} is no choice of an engine")
    return Chosen(Choice(engine, tuple((name, value) for name, value in knobs)), measured)
