"""`xcnn train`: train a known net on a data set, show the result, and save the model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from xcnn.cli.building import (
    BEGUN,
    Choice,
    build,
    check_names,
    default_augment,
    default_model,
    is_begun,
    reload,
    whereabouts,
)
from xcnn.cli.config_file import Config, PrintConfig
from xcnn.cli.config_file import print_config as print_options
from xcnn.cli.data import Data, augmentations, load_data, told
from xcnn.cli.ending import ENDING
from xcnn.cli.measures import listed, rate_found, weights_of_classes
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
    tell,
)
from xcnn.cli.outcome import show_interrupted, show_result
from xcnn.cli.ranks import GROUP, MaxRestarts, Parallel, Processes, count, launched
from xcnn.cli.saving import Saver, free_name, free_path
from xcnn.errors import OptionError, counted

if TYPE_CHECKING:
    from xcnn.core.types import ProgressName
    from xcnn.model.model import Model


def run(
    context: typer.Context,
    data: Annotated[str | None, typer.Argument(help=f"{DATA_HELP} By default mnist01.")] = None,
    model: Annotated[str | None, typer.Option(help="One of the nets below; by default what suits the data.")] = None,
    epochs: Annotated[
        int | None, typer.Option(min=0, help="Passes over the data, in all; by default the net's own, 1 to 200.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images a step; by default the net's own, 16 to 128.")
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(help="sgd, momentum, adam, adamw, rmsprop, nadam, muon, ...; by default the net's own."),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            min=0.0, callback=finite, help="The optimizer's, a step's size; by default its own, as 0.001 for adam."
        ),
    ] = None,
    backend: BackendName = None,
    precision: Annotated[
        str | None, typer.Option(help="Of computing: float32 (the default), tf32, bfloat16, float16 or float64.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of weights, order and dropout; 0 by default.")] = None,
    data_dir: DataDir = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The checkpoint, saved each epoch; by default NET-DATA.xcnn, here."),
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="A checkpoint to go on from, exactly.")] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            min=1, max=4096, help="Height and width, in pixels, of a folder's images; by default what suits, 28 to 64."
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
            help="flip,translate:2,...: affine, color, crop, cutmix, cutout, light, mixup, rotate, zoom, with a "
            "strength; none. By default what suits the net."
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
        path = output or resume or free_path(free_name(model or default_model(data or "mnist01"), data or "mnist01"))
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
        if name in SETS or Path(name).is_file():
            for_photos = sizes if name in SETS else {**sizes, "--validation": None}
            why = "it is for folders of images, which can be read in any size."
            refuse(for_photos, f"can't be given with {name}", why)
        size = None if image_size is None else (image_size, image_size)
        mode = None if rgb is None else "RGB" if rgb else "L"
        model = model or default_model(name)
        check_names(model, choice)
        fit = None if model == "photos" else "stretch"
        samples = GROUP.first_before(lambda: load_data(name, data_dir, size, mode, quiet, limits, validation, fit))
        trained = build(model, samples, choice, seed or 0, epochs)
        if is_begun(model, samples):
            samples = replace(samples, said=(*samples.said, BEGUN))
        if model == "photos" and augment is None:
            augment, why = default_augment(trained, samples)
            samples = replace(samples, said=(*samples.said, f"varied: {augment}: {why}"))
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
    for line in data.said:
        tell(line, quiet)
    tell(f"{describe(model)}; {told(data)}", quiet)
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


def refuse(given: Mapping[str, object], why: str, hint: str) -> None:
    """Raise X104 for options that would do nothing."""
    for option, value in given.items():
        if value is not None:
            raise OptionError("X104", f"{option} {why}.", hint=hint)


def describe(model: Model) -> str:
    """The model in a line."""
    from xcnn.model.summary import count as parameters

    computed = "" if model.precision == "float32" else f", computed in {model.precision}"
    size = counted(parameters(model.weights), "parameter")
    by = f", by {count(GROUP.together.size)}" if GROUP.together else ""
    return f"{model.info['model']} with {size} on {model.backend.spec}{computed}{by}"
