"""The model that `xcnn train` trains: a new one by its name, or a checkpoint's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from xcnn.cli.data import Data, for_model, is_of_samples
from xcnn.cli.options import SETS, load_model, named_data
from xcnn.core.names import unknown
from xcnn.errors import CheckpointError, DataError, counted, printable

if TYPE_CHECKING:
    from xcnn.core.types import PrecisionName
    from xcnn.model.model import Model
    from xcnn.training.optimizers import Optimizer


SIDED = {"left", "right", "l", "r", "links", "rechts", "digit", "letter"}
"""Words in the names of classes that a mirror would turn into others."""
BEGUN = "begun: with convolutions that know drawn shapes: arrows, bottles, keys, ...; outlines then need fewer photos"


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


def check_names(name: str, choice: Choice) -> None:
    """Raise OptionError for a net, optimizer, metric, precision or backend that is none, before data are fetched."""
    from xcnn.backends import backend
    from xcnn.nets.recipes import RECIPES
    from xcnn.training.metrics import check_metrics
    from xcnn.training.optimizers import Adam
    from xcnn.training.precision import PRECISIONS

    if name not in RECIPES:
        raise unknown("model", name, RECIPES)
    choice.optimizer_or(Adam())
    check_metrics(choice.metrics)
    if choice.precision not in (None, *PRECISIONS):
        raise unknown("precision", choice.precision, PRECISIONS)
    if choice.backend is not None:
        backend(choice.backend)


def build(name: str, data: Data, choice: Choice, seed: int, epochs: int | None) -> Model:
    """A new model by its name."""
    from xcnn.model.model import Model
    from xcnn.nets.pretrained import load_backbone
    from xcnn.nets.recipes import RECIPES

    images = counted(data.counts[1], "test image")
    if len(data.classes) < 2 or not data.counts[1]:
        raise DataError(
            "X209",
            f"the data has {counted(len(data.classes), 'class', 'classes')} and {images}.",
            hint="a classifier needs two classes, each with two images: one to train on and one to test.",
        )
    recipe = RECIPES[name]
    epochs = recipe.epochs_for(data.counts[0]) if epochs is None else epochs
    batch_size = choice.batch_size or recipe.batch_size
    model = Model(
        recipe.net_for(len(data.classes), data.shape),
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
    if data.fit != "stretch":
        model.info["fit"] = data.fit
    return load_backbone(model) if is_begun(name, data) else model


def is_begun(name: str, data: Data) -> bool:
    """Whether a net begins with convolutions that know shapes: those take pictures in grey or in three colours."""
    from xcnn.nets.recipes import RECIPES

    return RECIPES[name].backbone and data.shape[0] in (1, 3)


def default_model(name: str) -> str:
    """The net for a data set, a folder of photos or a file of samples, where nobody names one."""
    if name in SETS:
        return "article"
    return "lenet" if is_of_samples(Path(name)) else "photos"


def default_augment(model: Model, data: Data) -> tuple[str, str]:
    """How photos are varied where nobody says it, as the option has it, and why."""
    sided = [name for name in data.classes if len(name) == 1 or SIDED & set(re.split(r"[^a-z]+", name.lower()))]
    names = ["zoom"] if sided else ["flip", "zoom"]
    names += ["light"] if data.shape[0] == 3 else []
    names += ["cutout"] if min(data.shape[1:]) >= 48 else []
    mirrored = f"not mirrored, for the class {printable(sided[0])}" if sided else "mirrored"
    tones = ", in other light" if data.shape[0] == 3 else ""
    return ",".join(names), f"each time turned, moved and enlarged a little, {mirrored}{tones}: few pictures go further"


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
    name = named_data(model, data)
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


def whereabouts(name: str) -> str:
    """A data set's name as a model keeps it: a folder by its whole path."""
    return name if name in SETS else str(Path(name).resolve())
