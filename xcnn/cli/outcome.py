"""What `xcnn train` says at its end: what was reached, or how to go on."""

from __future__ import annotations

import shlex
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from xcnn.cli.data import Data
from xcnn.cli.measures import further
from xcnn.cli.options import SETS, print_json, say, tell
from xcnn.cli.saving import Saver
from xcnn.cli.verdict import verdict
from xcnn.core.output import OutputLost
from xcnn.errors import counted, printable

if TYPE_CHECKING:
    from xcnn.model.model import Model
    from xcnn.training.history import History


def show_result(model: Model, history: History, data: Data, saver: Saver, seconds: float) -> None:
    """The accuracy on the test images and where the model lies, on stdout."""
    result = model.evaluate(*data.test)
    right, total = round(result["accuracy"] * data.counts[1]), data.counts[1]
    if saver.json:
        print_json(
            "train.result",
            test_accuracy=result["accuracy"],
            test_loss=result["loss"],
            **{f"test_{metric.column}": result[metric.column] for metric in model.metrics},
            epochs=model.state.epoch,
            seconds=seconds,
            model=str(saver.path),
            stopped=history.stopped,
        )
        return
    for line in model.history.waited:
        tell(line, saver.quiet)
    measured = f"test accuracy {result['accuracy']:.2%}{further(model, result)}"
    say(f"{measured} ({right:,} of {counted(total, 'image')}) after "
        f"{counted(model.state.epoch, 'epoch')} and {seconds:.1f} s of training; saved as {saver.path}")  # fmt: skip
    if len(data.test) == 1 and len(history) and model.trainer.threshold is not None:
        last = history.rows[-1]
        for line in verdict(model.report(*data.test, worst=0), float(last.get("accuracy", 1.0))):
            say(f"  {line}")


def show_interrupted(model: Model, saver: Saver, seconds: float, data_dir: Path | None) -> None:
    """How to go on, on stdout; nobody who ended a training waits for its test images."""
    saved = saver.saved_step >= 0
    epoch, epochs = model.state.epoch, int(model.info["epochs"])
    place = f"in epoch {epoch + 1} of {epochs}" if epoch < epochs else f"after {counted(epoch, 'epoch')}"
    data = str(model.info["data"])
    what = f"{shlex.quote(data)} " if data not in SETS else ""
    where = f" --data-dir {shlex.quote(str(data_dir))}" if data_dir else ""
    rest = f"; go on with: xcnn train {what}--resume {shlex.quote(str(saver.path))}{where}" if epoch < epochs else ""
    with suppress(OutputLost):
        if saver.json:
            print_json(
                "train.result",
                test_accuracy=None,
                test_loss=None,
                epochs=epoch,
                seconds=seconds,
                model=str(saver.path) if saved else None,
                stopped="interrupted",
            )
        elif saved:
            print(printable(f"interrupted {place}; saved as {saver.path}{rest}"), flush=True)
        else:
            print("interrupted before the first step; nothing was saved", flush=True)
