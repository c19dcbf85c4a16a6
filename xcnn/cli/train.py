"""`xcnn train`: train a known net on a data set, show the result, and save the model."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xcnn.cli.options import DATA_HELP, BackendName, DataDir, Json, Quiet, load_data, print_json
from xcnn.errors import CheckpointError, DataError, OptionError
from xcnn.files import check_path

if TYPE_CHECKING:
    from xcnn.datasets import Dataset
    from xcnn.history import History
    from xcnn.model import Model
    from xcnn.optimizers import Optimizer


def run(
    data: Annotated[str | None, typer.Argument(help=f"{DATA_HELP} By default mnist01.")] = None,
    model: Annotated[str | None, typer.Option(help="article (the default), lenet, mnist-net or small-resnet.")] = None,
    epochs: Annotated[int | None, typer.Option(min=0, help="Passes over the data, in all.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images a step.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="sgd, momentum, adam, adamw or rmsprop.")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0.0, help="The optimizer's.")] = None,
    backend: BackendName = None,
    precision: Annotated[
        str | None, typer.Option(help="Of computing: float32 (the default), tf32, bfloat16, float16 or float64.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of weights, order and dropout; 0 by default.")] = None,
    data_dir: DataDir = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The checkpoint, saved each epoch.")] = None,
    resume: Annotated[Path | None, typer.Option(help="A checkpoint to go on from, exactly.")] = None,
    image_size: Annotated[
        int | None, typer.Option(min=1, max=4096, help="Height and width of a folder's images; 28 by default.")
    ] = None,
    rgb: Annotated[bool, typer.Option("--rgb", help="A folder's images in colour.")] = False,
    progress: Annotated[str, typer.Option(help="auto, live, plain or none.")] = "auto",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train a net and save it. Without arguments: the article's net on MNIST's digits 0 and 1."""
    choice = Choice(optimizer, learning_rate, backend, batch_size, precision)
    if resume is None:
        size = image_size or 28
        samples = load_data(data or "mnist01", data_dir, (3 if rgb else 1, size, size))
        trained = build(model or "article", samples, choice, seed or 0, epochs)
        trained.info["data"] = str(Path(data).resolve()) if data and Path(data).is_dir() else data or "mnist01"
    else:
        refuse_with_resume({"--model": model, "--seed": seed, "--image-size": image_size, "--rgb": rgb or None})
        trained, samples = reload(resume, data, data_dir, choice, epochs)
    path = output or resume
    with reserved(path or f"{trained.info['model']}-{Path(str(trained.info['data'])).resolve().name}") as path:
        train(trained, samples, path, quiet, json, progress, data_dir)


def train(
    model: Model, data: Dataset, path: Path, quiet: bool, json: bool, progress: str, data_dir: Path | None
) -> None:
    """Fit the model to the end of its epochs, save it after each, and show the result."""
    epochs = int(model.info["epochs"])
    images = f"{len(data.train.x):,} training and {len(data.test.x):,} test images"
    tell(f"{describe(model)}; {images}", quiet or json)
    if model.at.epoch >= epochs:
        tell(f"nothing to do: {model.at.epoch} of {epochs} epochs are done; --epochs asks for more", quiet or json)
    begun = time.perf_counter()
    saver = Saver(path, json)
    history = model.fit(
        *data.train,
        epochs=epochs,
        batch_size=int(model.info["batch_size"]),
        validation_data=data.test,
        callbacks=[saver],
        progress="none" if quiet or json else progress,
        resume=True,
    )
    saver.finish(model, history)  # where training was interrupted
    show_result(model, history, data, path, time.perf_counter() - begun, json, data_dir)
    if history.stopped == "interrupted":
        raise typer.Exit(130)


@dataclass(frozen=True)
class Choice:
    """What the command line asked of the training, None where it left that to the recipe or the checkpoint."""

    optimizer: str | None
    learning_rate: float | None
    backend: str | None
    batch_size: int | None
    precision: str | None

    def optimizer_or(self, default: Optimizer) -> Optimizer:
        """The optimizer of this name, or the default, with this learning rate if one is given."""
        from xcnn.optimizers import SGD
        from xcnn.optimizers import optimizer as by_name

        chosen = default
        if self.optimizer is not None:
            chosen = SGD(0.01, momentum=0.9) if self.optimizer == "momentum" else by_name(self.optimizer)
        return chosen if self.learning_rate is None else chosen.with_rate(self.learning_rate)


def build(name: str, data: Dataset, choice: Choice, seed: int, epochs: int | None) -> Model:
    """A new model by its name."""
    from xcnn.model import Model
    from xcnn.nets import RECIPES

    if name not in RECIPES:
        raise OptionError("X104", f"there is no model {name!r}.", hint="use one of " + ", ".join(RECIPES) + ".")
    if len(data.classes) < 2 or not len(data.test.x):
        raise DataError(
            "X209",
            f"there are {len(data.classes)} classes and {len(data.test.x)} test images.",
            hint="a classifier needs two classes, each with two images: one to train on and one to test.",
        )
    recipe = RECIPES[name]
    model = Model(
        recipe.net(len(data.classes)),
        input_shape=data.train.x.shape[1:],
        loss=recipe.loss,
        optimizer=choice.optimizer_or(recipe.optimizer),
        backend=choice.backend,
        dtype="float64" if choice.precision == "float64" else "float32",
        precision=choice.precision,
        seed=seed,
    )
    model.info |= {
        "model": name,
        "classes": list(data.classes),
        "batch_size": choice.batch_size or recipe.batch_size,
        "epochs": recipe.epochs if epochs is None else epochs,
    }
    return model


def reload(
    path: Path, data: str | None, data_dir: Path | None, choice: Choice, epochs: int | None
) -> tuple[Model, Dataset]:
    """The model of a checkpoint to go on with, and its data."""
    from xcnn.model import Model

    model = Model.load(path, backend=choice.backend, precision=choice.precision)
    if not {"model", "data", "classes", "batch_size", "epochs"} <= set(model.info):
        raise CheckpointError(
            "X405", f"{path.name} was not written by `xcnn train`.", hint="go on in Python: Model.load(path).fit(...)"
        )
    samples = load_data(data or str(model.info["data"]), data_dir, model.input_shape)
    if list(model.info["classes"]) != list(samples.classes) or model.input_shape != samples.train.x.shape[1:]:
        raise CheckpointError(
            "X405",
            f"{path.name} was trained on other classes or images than this data's.",
            f"got {', '.join(samples.classes)} {samples.train.x.shape[1:]}, it was trained on "
            f"{', '.join(map(str, model.info['classes']))} {model.input_shape}",
            hint=f"name the data that it was trained on ({model.info['data']}), or none.",
        )
    model.optimizer = choice.optimizer_or(model.optimizer)
    model.info |= {
        "batch_size": choice.batch_size or model.info["batch_size"],
        "epochs": model.info["epochs"] if epochs is None else epochs,
    }
    return model, samples


def refuse_with_resume(given: dict[str, object]) -> None:
    """Raise X104 for options that a checkpoint has fixed."""
    for option, value in given.items():
        if value is not None:
            raise OptionError("X104", f"{option} can't be given with --resume.", hint="the checkpoint has fixed it.")


@contextmanager
def reserved(name: Path | str) -> Iterator[Path]:
    """Where to save: a path as it is, or the first of name.xcnn, name-2.xcnn, ... that is free, kept free for us."""
    if isinstance(name, Path):
        check_path(name)
        yield name
        return
    for n in count(1):
        path = Path(f"{name}.xcnn" if n == 1 else f"{name}-{n}.xcnn")
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            continue
        break
    try:
        yield path
    finally:
        if path.exists() and path.stat().st_size == 0:
            path.unlink()


class Saver:
    """Saves the model after each epoch, and tells each epoch as JSON where that is wanted."""

    def __init__(self, path: Path, json: bool) -> None:
        self.path, self.json, self.saved_step = path, json, -1

    def __call__(self, model: Model, history: History) -> None:
        """After an epoch."""
        self.save(model)
        if self.json:
            print_json("train.epoch", **history.rows[-1])

    def save(self, model: Model) -> None:
        """Write the checkpoint and remember the step."""
        model.save(self.path)
        self.saved_step = model.at.step

    def finish(self, model: Model, history: History) -> None:
        """Save what was not saved yet: what an interrupt left, or a model that had nothing to do."""
        if model.at.step != self.saved_step and history.stopped not in ("diverged", "failed"):
            self.save(model)


def show_result(
    model: Model, history: History, data: Dataset, path: Path, seconds: float, json: bool, data_dir: Path | None
) -> None:
    """The accuracy on the test images and where the model lies, on stdout."""
    result = model.evaluate(*data.test)
    right, total = round(result["accuracy"] * len(data.test.x)), len(data.test.x)
    if json:
        print_json(
            "train.result",
            test_accuracy=result["accuracy"],
            test_loss=result["loss"],
            epochs=model.at.epoch,
            seconds=seconds,
            model=str(path),
            stopped=history.stopped,
        )
        return
    if history.stopped == "interrupted":
        where = f" --data-dir {shlex.quote(str(data_dir))}" if data_dir else ""
        print(f"interrupted in epoch {model.at.epoch + 1} of {model.info['epochs']}; go on with: "
              f"xcnn train --resume {shlex.quote(str(path))}{where}")  # fmt: skip
    epochs = f"{model.at.epoch} epoch{'' if model.at.epoch == 1 else 's'}"
    print(f"test accuracy {result['accuracy']:.2%} ({right:,} of {total:,} images) after {epochs} "
          f"and {seconds:.1f} s of training; saved as {path}")  # fmt: skip


def describe(model: Model) -> str:
    """The model in a line."""
    from xcnn.summary import count as parameters

    computed = "" if model.precision == "float32" else f", computed in {model.precision}"
    return f"{model.info['model']} with {parameters(model.weights):,} parameters on {model.backend.spec}{computed}"


def tell(line: str, silent: bool) -> None:
    """A line on stderr."""
    if not silent and sys.stderr is not None:
        print(line, file=sys.stderr, flush=True)
