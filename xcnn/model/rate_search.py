"""The search for a learning rate: Smith 2017, section 3.3."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from math import inf, isfinite, log10
from pathlib import Path
from typing import Any

import numpy as np

from xcnn.core import html
from xcnn.core.plots import new_figure
from xcnn.data.source import Batch, Pass, Source
from xcnn.errors import DivergedError, OptionError
from xcnn.model.held import Held
from xcnn.training.schedules import Exponential, Shifted

KEPT = 0.9
"""The share of the smoothed loss that stays from step to step."""
TOO_MUCH = 4.0
"""Times the best smoothed loss, at which the search ends: training diverges."""
LITTLE = 0.01
"""Of the first smoothed loss: a fall of less is none."""
WIDTH, HEIGHT = 480, 200


@dataclass(frozen=True)
class RateSearch:
    """The losses of steps whose rate grows from each to the next, and the rate at which they fall most steeply.

    Parameters
    ----------
    rates
        of the steps, each the one before times the same factor
    losses
        of their batches
    smoothed
        the losses' running means, which are corrected for their beginning as Adam's
    suggestion
        the rate where the smoothed loss falls most steeply, by the rate's logarithm; None where it does not fall
        by a hundredth
    diverged
        whether the search ended before its last rate
    """

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    suggestion: float | None
    diverged: bool

    def __str__(self) -> str:
        if self.suggestion is None:
            return "the loss did not fall at any rate: more steps, or lower first rates, may tell"
        ended = f"; training diverged at {self.rates[-1]:.2g}" if self.diverged else ""
        return f"learning rate {self.suggestion:.2g}, where the loss falls most steeply{ended}"

    def _repr_html_(self) -> str:
        return html.note(str(self)) + self.drawn()

    def drawn(self) -> str:
        """The curve as an SVG picture."""
        low, high = min(self.smoothed), max(self.smoothed[0], min(self.smoothed)) * 1.1 or 1.0
        first, last = log10(self.rates[0]), log10(self.rates[-1])

        def place(rate: float, loss: float) -> str:
            across = (log10(rate) - first) / ((last - first) or 1) * WIDTH
            up = (min(max(loss, low), high) - low) / ((high - low) or 1) * HEIGHT
            return f"{across:.1f},{HEIGHT - up:.1f}"

        line = " ".join(map(place, self.rates, self.smoothed))
        chosen = "" if self.suggestion is None else place(self.suggestion, low).partition(",")[0]
        mark = f'<line x1="{chosen}" x2="{chosen}" y1="0" y2="{HEIGHT}" stroke="#c40" stroke-dasharray="4"/>'
        return (
            f'<svg role="img" aria-label="{html.escape(str(self))}" viewBox="-4 -4 {WIDTH + 8} {HEIGHT + 8}" '
            f'width="{WIDTH}" height="{HEIGHT}"><polyline points="{line}" fill="none" stroke="#26a"/>'
            f"{mark if chosen else ''}</svg>"
        )

    def plot(self, path: str | Path | None = None) -> Any:
        """A matplotlib figure of the loss by the rate, also saved where a path is given, whole or not at all.

        Raises
        ------
        MissingDependency
            X601, without matplotlib.
        """
        figure = new_figure(5.5, 3.4, "plot() needs")
        axes = figure.subplots()
        axes.plot(self.rates, self.losses, alpha=0.3, label="loss of a batch")
        axes.plot(self.rates, self.smoothed, label="smoothed")
        if self.suggestion is not None:
            axes.axvline(self.suggestion, linestyle="--", color="tab:red", label=f"{self.suggestion:.2g}")
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
        axes.set_ylim(top=max(self.smoothed[0], min(self.smoothed)) * 1.5)
        axes.legend()
        if path is not None:
            figure.write(path)
        return figure


def search(model: Held, data: Source, *, first: float, last: float, steps: int, batch_size: int) -> RateSearch:
    """Take steps from where the model stands, on states of their own: the model stays as it is."""
    if not 0 < first < last < inf:
        hint = "first=1e-6, last=1.0 are usual."
        raise OptionError("X104", f"the first rate must be above 0 and below the last; got {first}, {last}.", hint=hint)
    state, trainer = model.state, model.trainer
    rising = Exponential(first, every=1, factor=(last / first) ** (1 / (steps - 1)))
    optimizer = trainer.optimizer.with_rate(Shifted(rising, -state.optimizer_state["step"]))
    trainer = replace(trainer, optimizer=optimizer, metrics=())
    trainer = replace(trainer, step=trainer.backend.compile(trainer.plain_step))
    rates: list[float] = []
    losses: list[float] = []
    smoothed: list[float] = []
    mean, diverged = 0.0, False
    for n, batch in zip(range(steps), batches(data, trainer.seed, batch_size), strict=False):
        try:
            state, loss = trainer.after_step(state, batch.x, batch.t, within_epoch=False)
        except DivergedError:
            diverged = True
            break
        mean = KEPT * mean + (1 - KEPT) * loss
        rates.append(rising(n))
        losses.append(loss)
        smoothed.append(mean / (1 - KEPT ** (n + 1)))
        if not isfinite(loss) or smoothed[-1] > TOO_MUCH * abs(min(smoothed)) + 1e-12:
            diverged = n < steps - 1
            break
    if not rates:
        raise OptionError("X104", f"training diverges at {first:g} already.", hint="give a smaller first rate.")
    return RateSearch(rates, losses, smoothed, steepest(rates, smoothed), diverged)


def batches(data: Source, seed: int, batch_size: int) -> Iterator[Batch]:
    """Those of epoch after epoch, each in an order of its own."""
    for epoch in count():
        empty = True
        for job in data.jobs(Pass(batch_size, seed, epoch, shuffle=True)):
            batch = job()
            if len(batch.numbers):
                empty = False
                yield batch
        if empty:
            return


def steepest(rates: list[float], smoothed: list[float]) -> float | None:
    """The middle of the steps, up to that of the least loss, through which a line falls most steeply.

    The lines are those of least squares through a fifth of the steps each, by the rate's logarithm: batches differ.
    """
    least, count = int(np.argmin(smoothed)), max(len(smoothed) // 5, 5)
    if least < count or smoothed[0] - smoothed[least] < LITTLE * abs(smoothed[0]):
        return None
    logarithms, losses = np.log(rates), np.asarray(smoothed)
    windows = [slice(at, at + count) for at in range(least - count + 2)]
    slopes = [float(np.polyfit(logarithms[window], losses[window], 1)[0]) for window in windows]
    found = int(np.argmin(slopes))
    return float(np.exp(logarithms[windows[found]].mean())) if slopes[found] < 0 else None
