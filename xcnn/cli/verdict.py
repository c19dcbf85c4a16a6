"""What the figures of a training mean, in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xcnn.errors import printable

if TYPE_CHECKING:
    from xcnn.model.report import Report

APART = 0.15
"""How much worse the test images may be than the training images before it is told."""


def verdict(report: Report, training: float) -> list[str]:
    """What an accuracy on test images is worth.

    Parameters
    ----------
    report
        of the test images
    training
        the accuracy on the training images, 0..1
    """
    low, high = report.interval
    guessing = float(report.support.max() / report.samples)
    said = [f"on other pictures like these it is right on {low:.0%} to {high:.0%}, with 95 % confidence"]
    if low <= guessing:
        said.append(
            f"no better than guessing, which is right on {guessing:.0%}: more pictures, larger ones, or clearer classes"
        )
    elif training - report.accuracy > APART:
        figures = f"training {training:.0%}, test {report.accuracy:.0%}"
        said.append(f"{figures}: it knows its training pictures by heart; more of them help most, then --augment")
    elif training < 1 - APART and training - report.accuracy < APART / 2:
        said.append(f"it is right on only {training:.0%} of its training pictures: --epochs asks for more rounds")
    if report.confused:
        worst = report.confused[0]
        names = [printable(report.classes[n]) for n in (worst.true, worst.taken)]
        times = f"{worst.times:,} of {int(report.support[worst.true]):,}"
        said.append(f"most often mixed up: {names[0]} taken for {names[1]}, {times}")
    return said
