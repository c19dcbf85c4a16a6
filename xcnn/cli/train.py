"""`xcnn train`: train a known net on a data set, show the result, and save the model."""

from __future__ import annotations

import itertools
import os
import shlex
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from xcnn.cli.config_file import Config, PrintConfig
from xcnn.cli.config_file import print_config as print_options
from xcnn.cli.data import Data, augmentations, for_model, load_data, told
from xcnn.cli.ending import ENDING
from xcnn.cli.measures import further, listed, rate_found, weights_of_classes
from xcnn.cli.options import (
    DATA_HELP,
    SETS,
    BackendName,
    DataDir,
    Formats,
    Json,
    MaxBytes,
    MaxPixels,
    Quiet,
    finite,
    image_limits,
    load_model,
    named_data,
    print_json,
)
from xcnn.cli.ranks import GROUP, MaxRestarts, Parallel, Processes, count, launched
from xcnn.core.files import check_path, temporary_path
from xcnn.core.names import unknown
from xcnn.core.output import OutputLost
from xcnn.errors import CheckpointError, DataError, OptionError, counted, printable

if TYPE_CHECKING:
    from xcnn.core.types import PrecisionName, ProgressName
    from xcnn.model.model import Model
    from xcnn.training.history import History
    from xcnn.training.optimizers import Optimizer


def run(
    context: typer.Context,
    data: Annotated[str | None, typer.Argument(help=f"{DATA_HELP} By default mnist01.")] = None,
    model: Annotated[
        str | None, typer.Option(help="article (the default), fast, fashion, lenet, mnist-net or small-resnet.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=0, help="Passes over the data, in all.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images a step.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="sgd, momentum, adam, adamw, rmsprop, nadam, muon, ...")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0.0, callback=finite, help="The optimizer's.")] = None,
    backend: BackendName = None,
    precision: Annotated[
        str | None, typer.Option(help="Of computing: float32 (the default), tf32, bfloat16, float16 or float64.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of weights, order and dropout; 0 by default.")] = None,
    data_dir: DataDir = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The checkpoint, saved each epoch.")] = None,
    resume: Annotated[Path | None, typer.Option(help="A checkpoint to go on from, exactly.")] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            min=1, max=4096, help="Height and width of a folder's images; by default what suits them, 28 to 64."
        ),
    ] = None,
    max_bytes: MaxBytes = None,
    max_pixels: MaxPixels = None,
    formats: Formats = None,
    rgb: Annotated[
        bool | None, typer.Option("--rgb/--grey", help="A folder's images in colour or grey; by default as they are.")
    ] = None,
    validation: Annotated[
        float | None,
        typer.Option(
            min=0.01, max=0.99, callback=finite, help="The share of a folder's images to test on; 0.2 by default."
        ),
    ] = None,
    augment: Annotated[
        str | None,
        typer.Option(
            help="flip,translate:2,...: affine, color, crop, cutmix, cutout, mixup, rotate, with a strength; none."
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Threads that read images; by default one for each processor.")
    ] = None,
    progress: Annotated[
        str | None, typer.Option(help="auto (the default), live, plain or none (with --json the default).")
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(help="Measured beside loss and accuracy: f1,top5,precision,recall,iou,confusion.")
    ] = None,
    class_weights: Annotated[
        str | None, typer.Option(help='What classes weigh in the loss: balanced, or "cat=1,dog=2.5".')
    ] = None,
    find_lr: Annotated[
        bool, typer.Option("--find-lr", help="Look for a learning rate first, and train with it.")
    ] = False,
    parallel: Parallel = False,
    processes: Processes = None,
    max_restarts: MaxRestarts = None,
    config: Config = None,
    print_config: PrintConfig = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train a net and save it. Without arguments: the article's net on MNIST's digits 0 and 1."""
    if print_config:
        print_options(context)
        return
    if processes is not None or max_restarts is not None:
        path = output or resume or free_path(free_name(model or "article", data or "mnist01"))
        raise typer.Exit(launched(context, processes, max_restarts, path, resume is not None))
    if parallel:
        quiet = not GROUP.begin().first or quiet
    choice = Choice(optimizer, learning_rate, backend, batch_size, precision, listed(metrics))
    if find_lr and (learning_rate is not None or resume is not None):
        other = "--learning-rate" if resume is None else "--resume"
        raise OptionError("X104", f"--find-lr and {other} contradict each other.", hint="give one of them.")
    if quiet and GROUP.first and progress not in (None, "none"):
        raise OptionError("X104", f"--quiet and --progress {progress} contradict each other.", hint="give one of them.")
    shown = progress or ("none" if quiet or json else "auto")
    limits = image_limits(max_pixels, formats)
    colour = None if rgb is None else "--rgb" if rgb else "--grey"
    sizes = {"--image-size": image_size, str(colour): colour, "--validation": validation}
    augmentations(augment)
    if resume is None:
        name = data or "mnist01"
        if name in SETS:
            refuse(sizes, f"can't be given with {name}", "it is for folders of images, which can be read in any size.")
        size = None if image_size is None else (image_size, image_size)
        mode = None if rgb is None else "RGB" if rgb else "L"
        samples = GROUP.first_before(lambda: load_data(name, data_dir, size, mode, quiet, limits, validation))
        trained = build(model or "article", samples, choice, seed or 0, epochs)
        trained.info["data"] = whereabouts(name)
        if validation is not None:
            trained.info["validation"] = validation
    else:
        fixed = {"--model": model, "--seed": seed, "--metrics": metrics, **sizes}
        refuse(fixed, "can't be given with --resume", "the checkpoint has fixed it.")
        reloaded = partial(reload, resume, data, data_dir, choice, epochs, quiet, max_bytes, limits)
        trained, samples = GROUP.first_before(reloaded)
    if class_weights is not None:
        trained.info["class_weights"] = class_weights
    if find_lr:
        said, rate = rate_found(trained, samples)
        tell(said, quiet or json)
        trained.learning_rate = trained.optimizer.learning_rate if rate is None else rate
    free = free_name(str(trained.info["model"]), str(trained.info["data"]))
    if augment is not None:
        trained.info["augment"] = augment
    train(trained, samples, Saver(output or resume, free, quiet, json), shown, data_dir, workers)


def train(
    model: Model, data: Data, saver: Saver, progress: str, data_dir: Path | None, workers: int | None = None
) -> None:
    """Fit the model to the end of its epochs, save it after each, and show the result."""
    epochs, quiet = int(model.info["epochs"]), saver.quiet or saver.json
    tell("; ".join(filter(None, (describe(model), data.said, told(data)))), quiet)
    if model.state.epoch >= epochs:
        done = counted(model.state.epoch, "epoch") + (" is" if model.state.epoch == 1 else " are") + " done"
        of = f"{epochs} of " if model.state.epoch == epochs else ""
        asked = "" if of else f", and {epochs} {'was' if epochs == 1 else 'were'} asked for in all"
        tell(f"nothing to do: {of}{done}{asked}; --epochs asks for more", quiet)
    begun = time.perf_counter()
    try:
        history = model.fit(
            *data.train,
            epochs=epochs,
            batch_size=int(model.info["batch_size"]),
            validation_data=data.test if len(data.test) == 2 else data.test[0],
            class_weight=weights_of_classes(model.info.get("class_weights")),
            callbacks=[saver],
            progress=cast("ProgressName", progress),
            resume=True,
            augment=augmentations(str(model.info.get("augment", ""))),
            workers=workers,
            parallel=GROUP.together,
        )
        if not GROUP.first:
            if history.stopped == "interrupted":
                raise KeyboardInterrupt
            return
        if history.stopped != "interrupted":
            saver.finish(model, model.history)
            show_result(model, history, data, saver, time.perf_counter() - begun)
            return
    except KeyboardInterrupt:
        if not GROUP.first:
            raise
        # while the result was counted, or once more while `fit` ended
    with ENDING.held():
        if model.state.step:
            saver.finish(model, model.history)
        show_interrupted(model, saver, time.perf_counter() - begun, data_dir)
    raise KeyboardInterrupt


@dataclass(frozen=True)
class Choice:
    """What the command line asked of the training, None where it left that to the recipe or the checkpoint."""

    optimizer: str | None
    learning_rate: float | None
    backend: str | None
    batch_size: int | None
    precision: str | None
    metrics: tuple[str, ...] = ()

    def optimizer_or(self, default: Optimizer) -> Optimizer:
        """The optimizer of this name, or the default, with this learning rate if one is given."""
        from xcnn.training.optimizers import SGD
        from xcnn.training.optimizers import optimizer as by_name

        chosen = default
        if self.optimizer is not None:
            chosen = SGD(0.01, momentum=0.9) if self.optimizer == "momentum" else by_name(self.optimizer)
        return chosen if self.learning_rate is None else chosen.with_rate(self.learning_rate)


def build(name: str, data: Data, choice: Choice, seed: int, epochs: int | None) -> Model:
    """A new model by its name."""
    from xcnn.model.model import Model
    from xcnn.nets.recipes import RECIPES

    if name not in RECIPES:
        raise unknown("model", name, RECIPES)
    images = counted(data.counts[1], "test image")
    if len(data.classes) < 2 or not data.counts[1]:
        raise DataError(
            "X209",
            f"the data has {counted(len(data.classes), 'class', 'classes')} and {images}.",
            hint="a classifier needs two classes, each with two images: one to train on and one to test.",
        )
    recipe = RECIPES[name]
    epochs, batch_size = recipe.epochs if epochs is None else epochs, choice.batch_size or recipe.batch_size
    model = Model(
        recipe.net(len(data.classes)),
        input_shape=data.shape,
        loss=recipe.loss,
        metrics=choice.metrics,
        optimizer=choice.optimizer_or(recipe.optimizer_for(data.counts[0], epochs, batch_size)),
        backend=choice.backend,
        dtype="float64" if choice.precision == "float64" else "float32",
        precision=cast("PrecisionName | None", choice.precision),
        seed=seed,
    )
    model.info |= {
        "model": name,
        "classes": list(data.classes),
        "batch_size": batch_size,
        "epochs": epochs,
    } | ({"augment": recipe.augment} if recipe.augment else {})
    return model


def reload(
    path: Path,
    data: str | None,
    data_dir: Path | None,
    choice: Choice,
    epochs: int | None,
    quiet: bool,
    max_bytes: int | None,
    limits: Mapping[str, object],
) -> tuple[Model, Data]:
    """The model of a checkpoint to go on with, and its data."""
    model = load_model(path, choice.backend, choice.precision, max_bytes)
    check_info(path, model.info)
    name = named_data(model, data, "mnist01")
    samples = for_model(model, name, data_dir, quiet, limits)
    if list(model.info["classes"]) != list(samples.classes) or model.input_shape != samples.shape:
        raise CheckpointError(
            "X405",
            f"{path.name} was trained on other classes or images than this data's.",
            f"got {', '.join(samples.classes)} {samples.shape}, it was trained on "
            f"{', '.join(map(str, model.info['classes']))} {model.input_shape}",
            f"the file names the data {model.info['data']}",
            hint="name the data that it was trained on.",
        )
    model.optimizer = choice.optimizer_or(model.optimizer)
    model.info |= {
        "data": whereabouts(name),
        "batch_size": choice.batch_size or model.info["batch_size"],
        "epochs": model.info["epochs"] if epochs is None else epochs,
    }
    return model, samples


def check_info(path: Path, info: Mapping[str, object]) -> None:
    """Raise X405 unless a checkpoint's info is what `xcnn train` keeps there."""
    from xcnn.model.schema import many, record, text, whole

    kept = {"model": text, "data": text, "classes": many(text), "batch_size": whole(1), "epochs": whole()}
    try:
        record(kept)(info, "info")
    except ValueError as error:
        hint = "go on in Python: Model.load(path).fit(...)"
        raise CheckpointError("X405", f"{path.name} was not written by `xcnn train`: {error}.", hint=hint) from error


def free_name(model: str, data: str) -> str:
    """The name of a checkpoint that was given none, without what makes it another than those that are there."""
    return f"{model}-{Path(data).resolve().name}"


def free_path(free: str) -> Path:
    """The first of free.xcnn, free-2.xcnn, ... that is not there."""
    names = (f"{free}.xcnn" if n == 1 else f"{free}-{n}.xcnn" for n in itertools.count(1))
    return next(path for path in map(Path, names) if not path.exists())


def whereabouts(name: str) -> str:
    """A data set's name as a model keeps it: a folder by its whole path."""
    return name if name in SETS else str(Path(name).resolve())


def refuse(given: Mapping[str, object], why: str, hint: str) -> None:
    """Raise X104 for options that would do nothing."""
    for option, value in given.items():
        if value is not None:
            raise OptionError("X104", f"{option} {why}.", hint=hint)


class Saver:
    """Saves the model after each epoch, and tells each epoch as JSON where that is wanted.

    Without a path it takes the first of free.xcnn, free-2.xcnn, ... that is free when there is something to save.
    """

    path: Path | None
    free: str
    quiet: bool
    json: bool
    begun: int
    saved_step: int
    heard: bool

    def __init__(self, path: Path | None, free: str, quiet: bool, json: bool) -> None:
        check_path(path or f"{free}.xcnn")
        self.path, self.free, self.quiet, self.json = path, free, quiet, json
        self.begun, self.saved_step, self.heard = 0, -1, True

    def start(self, model: Model) -> None:
        """Before the first step, after which alone an interrupt leaves something to save."""
        self.begun = model.state.step

    def __call__(self, model: Model, history: History) -> None:
        """After an epoch."""
        self.save(model)
        if self.json and self.heard:
            try:
                print_json("train.epoch", **history.rows[-1])
            except OutputLost as lost:
                self.heard = False  # it is told at the end, by the exit code
                tell(f"{lost}; training goes on, and is saved as {self.path}", self.quiet)

    def save(self, model: Model) -> None:
        """Write the checkpoint, which no signal cuts in two, and remember the step."""
        with ENDING.held():
            if self.path is None:
                self.path = save_as_new(model, self.free)
            else:
                model.save(self.path)
            self.saved_step = model.state.step

    def finish(self, model: Model, history: History) -> None:
        """Save what was not saved yet: what an interrupt left, or a model that had nothing to do."""
        nothing = history.stopped == "interrupted" and model.state.step == self.begun
        if model.state.step != self.saved_step and not nothing and history.stopped not in ("diverged", "failed"):
            self.save(model)


def save_as_new(model: Model, free: str) -> Path:
    """Save as the first of free.xcnn, free-2.xcnn, ... that is free, which no other process can take at the same time.

    The name comes to the file when it is whole, so that however this ends, no empty file has it.
    """
    while True:
        path = Path(f"{free}.xcnn")
        part = temporary_path(path)
        try:
            model.save(part)
            n = 1
            with suppress(FileNotFoundError):  # another process takes it for what a killed one left
                while not given(part, path):
                    n += 1
                    path = Path(f"{free}-{n}.xcnn")
                return path
        finally:
            part.unlink(missing_ok=True)


def given(part: Path, path: Path) -> bool:
    """Give a file another name; False where that is taken."""
    try:
        try:
            os.link(part, path)
        except (FileExistsError, FileNotFoundError):
            raise
        except OSError:  # a file system without links
            path.touch(exist_ok=False)
            os.replace(part, path)
    except FileExistsError:
        return False
    return True


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
    print(f"{measured} ({right:,} of {counted(total, 'image')}) after "
          f"{counted(model.state.epoch, 'epoch')} and {seconds:.1f} s of training; "
          f"saved as {printable(str(saver.path))}")  # fmt: skip


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


def describe(model: Model) -> str:
    """The model in a line."""
    from xcnn.model.summary import count as parameters

    computed = "" if model.precision == "float32" else f", computed in {model.precision}"
    size = counted(parameters(model.weights), "parameter")
    by = f", by {count(GROUP.together.size)}" if GROUP.together else ""
    return f"{model.info['model']} with {size} on {model.backend.spec}{computed}{by}"


def tell(line: str, silent: bool) -> None:
    """A line on stderr."""
    if not silent:
        print(printable(line), file=sys.stderr, flush=True)
