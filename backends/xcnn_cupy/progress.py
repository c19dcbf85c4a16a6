"""The device's account of a span of steps, which it takes one after another while the host does not look."""

from __future__ import annotations

from typing import Any

import numpy as np

from xcnn.core.types import Array
from xcnn_cupy.device import Device

FIELDS = {
    "step": np.int64,
    "first": np.int64,
    "updates": np.int64,
    "right": np.int64,
    "seen": np.int64,
    "losses": np.uint64,
    "stopped": np.int64,
    "value": np.float64,
    "norm": np.float64,
    "reach": np.float64,
}
"""Of Account in progress.cu, which explains them."""
ACCOUNT = np.dtype(list(FIELDS.items()))
RATES = 3
"""Numbers of a step in Rates of update.cu."""


class Account:
    """What changes from step to step, at places that stay: a step that was captured once finds it there.

    The host writes it before a span of steps and reads it after. Each step ends in `finish` of progress.cu, which
    enters the step and moves on; or stops the span, and then no step after it changes anything but scratch memory.

    Parameters
    ----------
    steps
        the most that a span may have
    """

    def __init__(self, device: Device, steps: int) -> None:
        self.device = device
        self.cells = device.empty((len(FIELDS),), "int64")
        self.rates = device.empty((steps, RATES), "float64")
        self.losses = device.empty((steps,), "float64")
        self.hold()

    def at(self, name: str) -> Array:
        """Where a field lies, an array of one cell: for Counted("step"), for gather_batch("first")."""
        n = list(FIELDS).index(name)
        return self.cells[n : n + 1]

    def hold(self) -> None:
        """Write it so that a step changes nothing: for one that runs only to be captured."""
        self.write(step=0, first=0, stopped=0)

    def begin(self, step: int, first: int, rates: np.ndarray[Any, Any]) -> None:
        """Write it for a span that begins with this step and this sample, and has rates (steps, 3) for its updates."""
        self.write(step=step, first=first, stopped=-1)
        self.device.put(self.rates[: len(rates)], rates)

    def write(self, **fields: int) -> None:
        """Set these fields, and all others to 0, but for where losses are."""
        fresh = np.zeros(1, ACCOUNT)
        fresh["losses"] = self.device.address(self.losses)
        for name, value in fields.items():
            fresh[name] = value
        self.device.put(self.cells, fresh.view(np.int64))

    def read(self) -> dict[str, Any]:
        """Its fields as they are now, but for where losses are; this waits for the device."""
        (now,) = self.device.get(self.cells).view(ACCOUNT)
        found = dict(zip(FIELDS, now.item(), strict=True))
        del found["losses"]
        return found

    def losses_of(self, steps: int) -> np.ndarray[Any, Any]:
        """The losses of so many steps from the begin of the span."""
        return self.device.get(self.losses)[:steps]
