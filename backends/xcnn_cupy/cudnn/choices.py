"""Which engine answers which question, in a file: JSON, for one version of cuDNN and one GPU."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xcnn.core.files import write_whole
from xcnn.core.windows import is_whole
from xcnn.errors import BackendError
from xcnn_cupy.cudnn.engines import Choice

FORMAT = 1

log = logging.getLogger("xcnn")


@dataclass(frozen=True)
class Chosen:
    """An engine with its knobs, and whether it was measured to be the fastest."""

    choice: Choice
    measured: bool


def write(path: str | Path, version: int, device: str, chosen: Mapping[str, Chosen]) -> None:
    """Write choices, by the questions' keys, to a file that is whole or the old one."""
    plans = {
        key: {"engine": one.choice.engine, "knobs": [list(knob) for knob in one.choice.knobs], "measured": one.measured}
        for key, one in sorted(chosen.items())
    }
    content = {"format": FORMAT, "cudnn": version, "device": device, "plans": plans}
    write_whole(path, json.dumps(content, indent=1).encode())


def read(path: str | Path, version: int, device: str) -> dict[str, Chosen]:
    """The choices of a file; none where there is no file yet, or it is for another cuDNN or GPU.

    Raises
    ------
    BackendError
        X307, for a file that is damaged or something else.
    """
    try:
        text = Path(path).read_bytes()
    except FileNotFoundError:
        return {}
    try:
        content = json.loads(text)
        found = {name: content[name] for name in ("format", "cudnn", "device")}
        expected = {"format": FORMAT, "cudnn": version, "device": device}
        if found != expected:
            log.warning("the plans of %s are passed over: they are for %s, this is %s.", path, found, expected)
            return {}
        return {key: chosen_of(entry) for key, entry in content["plans"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BackendError(
            "X307",
            f"{path} is damaged, or no file of cuDNN's plans.",
            f"{type(error).__name__}: {error}",
            hint="delete it: it is written anew.",
        ) from error


def chosen_of(entry: Any) -> Chosen:
    """One choice as it stands in the file; ValueError where it is none."""
    engine, knobs, measured = entry["engine"], entry["knobs"], entry["measured"]
    numbers = [engine, *(number for knob in knobs for number in knob)]
    whole = all(is_whole(number) and abs(number) < 2**31 for number in numbers)
    if not whole or any(len(knob) != 2 for knob in knobs) or not isinstance(measured, bool):
        raise ValueError(f"{entry} is no choice of an engine")
    return Chosen(Choice(engine, tuple((name, value) for name, value in knobs)), measured)
