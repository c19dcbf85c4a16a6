"""Which algorithm computes which product, as a file of plans has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xcnn_cupy.choices import FORMAT, taken

DIGITS = 128
"""Hexadecimal ones of an algorithm."""


@dataclass(frozen=True)
class Chosen:
    """An algorithm, and what is known of its time.

    Parameters
    ----------
    measured
        whether it is the fastest of cublasLt's by measuring
    taken
        whether it is at least as fast as cuDNN's plan for the same product; None where that was not measured
    """

    algorithm: str
    measured: bool
    taken: bool | None = None


def written(version: int, chosen: Mapping[str, Chosen]) -> dict[str, Any]:
    """Choices, by the products' keys, as JSON has them."""
    return {"cublaslt": version, "algorithms": {key: asdict(one) for key, one in sorted(chosen.items())}}


def read(path: str | Path, version: int, device: str) -> dict[str, Chosen]:
    """The choices of a file; none where there is no file yet, or it is for another cublasLt or GPU.

    Raises
    ------
    BackendError
        X307, for a file that is damaged or something else.
    """

    def take(content: dict[str, Any]) -> dict[str, Chosen]:
        products = content.get("products", {"cublaslt": None, "algorithms": {}})
        algorithms = {key: chosen_of(entry) for key, entry in products["algorithms"].items()}
        return algorithms if products["cublaslt"] == version else {}

    return taken(path, {"format": FORMAT, "device": device}, take)


def chosen_of(entry: Any) -> Chosen:
    """One choice as it stands in the file; ValueError where it is none."""
    algorithm, measured, taken = entry["algorithm"], entry["measured"], entry["taken"]
    booleans = isinstance(measured, bool) and (taken is None or isinstance(taken, bool))
    if len(bytes.fromhex(algorithm).hex()) != DIGITS or not booleans:
        raise ValueError(f"{entry} is no choice of an algorithm")
    return Chosen(algorithm, measured, taken)
