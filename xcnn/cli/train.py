"""`xcnn train`: train a known net on a data set, show the result, and save the model."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xcnn.cli.options import DATA_HELP, BackendName, DataDir, Json, Quiet, load_data, print_json
from xcnn.errors import CheckpointError, OptionError
from xcnn.files import check_path

if TYPE_CHECKING:
    from xcnn.datasets import Dataset
    from xcnn.history import History
    from xcnn.model import Model
    from xcnn.optimizers import Optimizer


def run(
    data: Annotated[str, typer.Argument(help=DATA_HELP)] = "mnist01",
    model: Annotated[str, typer.Option(help="article, lenet, mnist-net or small-resnet.")] = "article",
    epochs: Annotated[int | None, typer.Option(min=0, help="Passes over the data; with --resume, in all.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images a step.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="sgd, momentum, adam, adamw or rmsprop.")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0.0, help="The optimizer's.")] = None,
    backend: BackendName = None,
    seed: Annotated[int, typer.Option(min=0, help="Of initial weights, order and dropout.")] = 0,
    data_dir: DataDir = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The checkpoint, saved each epoch.")] = None,
    resume: Annotated[Path | None, typer.Option(help="A checkpoint to go on from, exactly.")] = None,
    image_size: Annotated[int, typer.Option(min=1, help="Height and width of a folder's images.")] = 28,
    rgb: Annotated[bool, typer.Option("--rgb", help="A folder's images in colour.")] = False,
    progress: Annotated[str, typer.Option(help="auto, live, plain or none.")] = "auto",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train a net and save it. Without arguments: the article's net on MNIST's digits 0 and 1."""
    samples = load_data(data, data_dir, (3 if rgb else 1, image_size, image_size))
    if resume is None:
        trained, recipe_epochs = build(model, samples, optimizer, learning_rate, backend, seed, batch_size)
        trained.info |= {"data": data, "model": model, "classes": list(samples.classes)}
    else:
        trained, recipe_epochs = reload(resume, samples, optimizer, learning_rate, backend), 0
    epochs = epochs if epochs is not None else max(recipe_epochs, trained.at.epoch)
    path = output or resume or free_path(f"{model}-{Path(data).name}")
    check_path(path)
    tell(
        f"{describe(trained)}; {len(samples.train.x):,} training and {len(samples.test.x):,} test images", quiet or json
    )

    begun = time.perf_counter()
    saver = Saver(path, json)
    history = trained.fit(
        *samples.train,
        epochs=epochs,
        batch_size=int(trained.info.get("batch_size", 32)),
        validation_data=samples.test,
        callbacks=[saver],
        progress="none" if quiet or json else progress,
        resume=True,
    )
    saver.finish(trained, history)
    show_result(trained, history, samples, path, time.perf_counter() - begun, json)
    if history.stopped == "interrupted":
        raise typer.Exit(130)


def build(
    name: str,
    data: Dataset,
    optimizer: str | None,
    rate: float | None,
    backend: str | None,
    seed: int,
    batch_size: int | None,
) -> tuple[Model, int]:
    """A new model by its name, and the epochs of its recipe."""
    from xcnn.model import Model
    from xcnn.nets import RECIPES

    if name not in RECIPES:
        raise OptionError("X104", f"there is no model {name!r}.", hint="use one of " + ", ".join(RECIPES) + ".")
    recipe = RECIPES[name]
    model = Model(
        recipe.net(len(data.classes)),
        input_shape=data.train.x.shape[1:],
        loss=recipe.loss,
        optimizer=choose_optimizer(optimizer, rate, recipe.optimizer),
        backend=backend,
        seed=seed,
    )
    model.info["batch_size"] = batch_size or recipe.batch_size
    return model, recipe.epochs


def reload(path: Path, data: Dataset, optimizer: str | None, rate: float | None, backend: str | None) -> Model:
    """The model of a checkpoint, to go on with."""
    from xcnn.model import Model

    model = Model.load(path, backend=backend)
    if model.input_shape != data.train.x.shape[1:] or list(model.info.get("classes", [])) != list(data.classes):
        raise CheckpointError(
            "X405",
            f"{path.name} was trained on images {model.input_shape} of other classes than this data's.",
            f"got {data.train.x.shape[1:]}, {len(data.classes)} classes",
            hint=f"name the data that it was trained on ({model.info.get('data', 'unknown')}).",
        )
    if optimizer is not None or rate is not None:
        model.optimizer = choose_optimizer(optimizer, rate, model.optimizer)
    return model


def choose_optimizer(name: str | None, rate: float | None, default: Optimizer) -> Optimizer:
    """The optimizer of this name, or the default, with this learning rate if one is given."""
    from xcnn.optimizers import SGD
    from xcnn.optimizers import optimizer as by_name

    chosen = SGD(0.01, momentum=0.9) if name == "momentum" else default if name is None else by_name(name)
    return chosen if rate is None else chosen.with_rate(rate)


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
        """Save what an interrupt left, or a model that had nothing to do."""
        if model.at.step != self.saved_step:
            self.save(model)


def show_result(model: Model, history: History, data: Dataset, path: Path, seconds: float, json: bool) -> None:
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
        print(f"interrupted in epoch {model.at.epoch + 1}; go on with: xcnn train {model.info.get('data', '')} "
              f"--resume {path} --epochs N")  # fmt: skip
    print(f"test accuracy {result['accuracy']:.2%} ({right:,} of {total:,} images) after {model.at.epoch} epochs "
          f"and {seconds:.1f} s of training; saved as {path}")  # fmt: skip


def describe(model: Model) -> str:
    """The model in a line."""
    from xcnn.summary import count

    name = model.info.get("model", "net")
    return f"{name} with {count(model.weights):,} parameters on {model.backend.spec}"


def free_path(stem: str) -> Path:
    """A file name that is not taken: stem.xcnn, stem-2.xcnn, ..."""
    names = (Path(f"{stem}.xcnn" if n == 1 else f"{stem}-{n}.xcnn") for n in range(1, 10_000))
    return next(path for path in names if not path.exists())


def tell(line: str, silent: bool) -> None:
    """A line on stderr."""
    if not silent:
        print(line, file=sys.stderr, flush=True)
