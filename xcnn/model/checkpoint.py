"""Checkpoints: what is kept of a model as a value, written to one safetensors file and read back.

A net is built of a configuration from a fixed table of classes; nothing in a file is executed or imported.
checkpoint_file.py reads and writes the file itself.
"""

from __future__ import annotations

import platform
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite, prod
from pathlib import Path
from typing import Any

import numpy as np

from xcnn.core import random, tree
from xcnn.core.checks import plain
from xcnn.core.streams import Stream, name_of
from xcnn.core.text import readable
from xcnn.core.types import Array, Rng, Shape, Weights
from xcnn.core.version import __version__
from xcnn.errors import BackendError, CheckpointError, DeviceMemoryError, XcnnError
from xcnn.layers.layer import Layer
from xcnn.model.checkpoint_file import COUNTS, FORMAT, MOST_VALUES, Contents, opened, put, read_back, refuse, written
from xcnn.model.config import LEAVES, MEASURES, check_same, from_config, to_config
from xcnn.model.needs import Counter
from xcnn.model.schema import short
from xcnn.model.taking import check_scaling
from xcnn.training import loss_scaling, losses
from xcnn.training.history import Row
from xcnn.training.losses import Loss
from xcnn.training.metrics import Metric, OfClasses, OfPairs, Own
from xcnn.training.optimizers import Optimizer
from xcnn.training.output_losses import OutputLosses
from xcnn.training.precision import Precision, policy, type_name
from xcnn.training.rows import Rows
from xcnn.training.schedules import learning_rate
from xcnn.training.state import Counts, HostArray, TrainingState

MAX_BYTES = 1 << 31
"""What a sample may take in a net that is loaded, of weights apart."""
MOST_OF_HISTORY = MOST_VALUES // 2
"""Values of the history that are kept: those of 14,000 epochs with eight columns."""
SEVERAL = "several"
"""In the place of a loss's name: there is one for each output."""
COUNTED = ("step", "epoch", "batch", "loss", "right", "seen")
LATER = ("rate_offset", "weight", "labels")
"""Those that older files lack."""
"""The numbers of a TrainingState."""


@dataclass(frozen=True)
class Saved:
    """What a checkpoint keeps of a model: arrays in the state as it stands beside `plan`."""

    net: Layer
    input_shape: Shape
    loss: Loss
    optimizer: Optimizer
    metrics: tuple[Metric, ...]
    policy: Precision
    seed: int
    state: TrainingState
    plan: dict[str, Any]
    """How it is being trained."""
    info: dict[str, Any]
    """The user's own."""
    made_by: dict[str, Any]
    """The backend and the versions of libraries."""
    scaling: str | None = None
    """What it makes of samples: "bytes", "floats" or None."""
    weights_alone: bool = False
    """Whether the optimizer's state is left out, and with it how training stands."""

    def without_optimizer(self, asked: Weights) -> Saved:
        """The same with the weights that predictions are made with, and nothing that only training needs."""
        state = self.state
        new = TrainingState(asked, {"step": 0}, step=state.step, epoch=state.epoch, rows=state.rows)
        return replace(self, state=new, plan={}, weights_alone=True)


def save(saved: Saved, path: str | Path | Stream, fetch: Callable[[Array], HostArray]) -> None:
    """Write a checkpoint; `fetch` brings an array to the host.

    Raises
    ------
    CheckpointError
        X403, X404, when a file could not give back what the model holds. Errors of the file system pass through, and
        the old file stays.
    """
    put(path, *checked(saved), fetch)


def checked(saved: Saved) -> tuple[Weights, str]:
    """The arrays of a checkpoint by name, and its configuration as text, which a file gives back as they are.

    Raises
    ------
    CheckpointError
        X403, X404, where it would not.
    """
    state, own = saved.state, dict[str, type]()
    moments = {} if saved.weights_alone else {name: state.optimizer_state[name] for name in saved.optimizer.moments}
    odd = {*state.optimizer_state} - {"step", *moments, *loss_scaling.TYPES}
    if odd:
        kept = f"{type(saved.optimizer).__name__} keeps {', '.join(sorted(map(str, odd)))}"
        raise CheckpointError("X403", f"{kept} beside its moments, which alone are written.")
    try:
        net, optimizer = to_config(saved.net, own), to_config(saved.optimizer, own)
    except RecursionError as error:
        raise CheckpointError("X404", "the net is nested too deep to be written.") from error
    config = {
        "format": FORMAT,
        "net": net,
        "input_shape": list(saved.input_shape),
        "loss": _loss_config(saved.loss),
        "metrics": [metric.column if type(metric) is Own else to_config(metric, own) for metric in saved.metrics],
        "optimizer": optimizer,
        "backend": saved.made_by["backend"],
        "dtype": saved.policy.dtype,
        "precision": saved.policy.name,
        "seed": saved.seed,
        "versions": {"xcnn": __version__, "python": platform.python_version(), **saved.made_by["versions"]},
        "standing": {name: getattr(state, name) for name in (*COUNTED, *LATER)},
        "updates": state.optimizer_state["step"],
        "scaling": {name: entry.item() for name, entry in loss_scaling.entries_of(state.optimizer_state).items()},
        "plan": saved.plan,
        "history": _last_rows(state.rows),
        "info": saved.info,
    }
    if saved.scaling is not None:
        config["takes"] = saved.scaling
    if saved.weights_alone:
        config["weights_alone"] = True
    for name in _names(state.weights):
        if not isinstance(name, str) or "/" in name:
            raise CheckpointError(
                "X403", f"a weight's name must be a string without a slash, which parts its path; got {short(name)}."
            )
    counts = {metric.column: metric.arrays(counts) for metric, counts in zip(saved.metrics, state.counts, strict=False)}
    tensors = dict(tree.items({"weights": state.weights, "state": moments, "counts": counts}))
    shapes = {name: (type_name(tensor), tuple(tensor.shape)) for name, tensor in tensors.items()}
    _check_shapes("the checkpoint", saved.net, saved.input_shape, shapes, saved.policy.dtype, None)
    text = written(config)
    back = read_back(shapes, text)
    for name in ("loss", "plan", "history", "info"):
        check_same(config[name], back[name], f"model.{name}")
    for name, value in (("net", saved.net), ("optimizer", saved.optimizer)):
        check_same(value, from_config(back[name], own), f"model.{name}")
    for metric, given in zip(saved.metrics, back["metrics"], strict=True):
        if type(metric) is not Own:
            check_same(metric, from_config(given, own), "model.metrics")
    return tensors, text


def load(
    source: str | Path | bytes | Stream,
    *,
    layers: Mapping[str, type],
    loss: Loss | None,
    max_bytes: int,
    send: Callable[[HostArray], Array],
    metrics: tuple[Metric, ...] | None = None,
) -> Saved:
    """What a checkpoint keeps, its tensors sent to where they are wanted as they are read.

    `layers`, `loss` and `metrics` are the user's own, and `max_bytes` a limit, as in Model.load.

    Raises
    ------
    CheckpointError
        X401 incomplete, X402 altered, X403 not one of ours or of unknown layers, X404 too large.
    """
    with opened(source) as contents:
        config, path = contents.config, contents.path
        built = _built(path, contents, layers, loss, max_bytes)
        chosen, measured = _policy(path, config), _metrics(path, config, layers, metrics)
        tensors = contents.tensors(send)
    weights = tree.filled(built.planned, tensors, "weights/")
    alone = config.get("weights_alone", False)
    moments = _none(path, tensors, config["plan"]) if alone else _moments(path, built.optimizer, weights, tensors)
    standing, places = {name: config["standing"][name] for name in COUNTED}, prod(built.output_shape[1:])
    _check_standing(path, places, standing, config["plan"])
    state = TrainingState(
        weights,
        {"step": config["updates"], **moments, **config.get("scaling", {})},
        **{**standing, "loss": float(standing["loss"])},
        rate_offset=config["standing"].get("rate_offset", 0),
        weight=float(config["standing"].get("weight", standing["seen"])),
        labels=config["standing"].get("labels", standing["seen"] * places),
        counts=_counts(path, measured, tensors, built.output_shape),
        rows=Rows(config["history"]),
    )
    made_by = {name: config.get(name) for name in ("backend", "versions")}
    return Saved(
        built.net, built.input_shape, built.loss, built.optimizer, measured, chosen, config["seed"], state,
        config["plan"], config["info"], made_by, _scaling(path, config), alone,
    )  # fmt: skip


@contextmanager
def blaming(source: str | Path | bytes | Stream) -> Iterator[None]:
    """A block in which errors are the file's fault: X403; but for a backend's own."""
    try:
        yield
    except (BackendError, DeviceMemoryError):
        raise
    except (XcnnError, ArithmeticError, AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        refuse(name_of(source), f"its configuration is not valid: {_told(error)}", error)


@dataclass(frozen=True)
class Restored:
    """A net with weights that are read instead of drawn, on their backend: a large one would be drawn for seconds."""

    net: Layer
    weights: Weights

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        """The weights in the net's order, and the shape of the output."""
        drawn, output = self.net.init(random.Planner(), input_shape)
        return tree.filled(drawn, dict(tree.items(self.weights))), output

    def __call__(self, weights: Weights, x: Any, run: Any) -> Any:
        return self.net(weights, x, run)


@dataclass(frozen=True)
class Built:
    """What is built from a configuration before any tensor is read."""

    net: Layer
    input_shape: Shape
    planned: Weights
    """The weights' shapes, in the net's order."""
    output_shape: Shape
    optimizer: Optimizer
    loss: Loss


def _built(
    path: str | Path, contents: Contents, layers: Mapping[str, type], loss: Loss | None, max_bytes: int
) -> Built:
    """The net, the optimizer and the loss; the tensors' shapes are those of this net."""
    config = contents.config
    input_shape = tuple(config["input_shape"])
    try:
        net, optimizer = from_config(config["net"], layers), from_config(config["optimizer"], layers)
        if not isinstance(net, Layer) or not isinstance(optimizer, Optimizer):
            refuse(path, "its net is no layer, or its optimizer none.")
        chosen = _loss_from(path, config["loss"], loss)
        now = max(config["updates"] + config["standing"].get("rate_offset", 0), 0)
        for step in (0, now, now + 1):
            rate = learning_rate(optimizer.learning_rate, step)
            if not (isfinite(rate) and rate >= 0):
                refuse(path, f"its learning rate after {step:,} steps would be {rate}.")
        planned, output_shape = _check_shapes(path, net, input_shape, contents.shapes, config["dtype"], max_bytes)
    except CheckpointError:
        raise
    except Exception as error:  # of a user's own layer it may be any
        refuse(path, f"its configuration is not valid: {_told(error)}", error)
    return Built(net, input_shape, planned, output_shape, optimizer, chosen)


def _last_rows(rows: Rows) -> list[Row]:
    """The rows that there is room for, the last ones, with a warning where some are left out."""
    room = MOST_OF_HISTORY
    for n, row in enumerate(reversed(rows)):
        room -= _count(row)
        if room < 0:
            warnings.warn(f"the checkpoint keeps the last {n:,} of {len(rows):,} epochs of the history", stacklevel=4)
            return list(rows[len(rows) - n :])
    return list(rows)


def _count(value: Any) -> int:
    """The values in a value, itself among them."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(1 if type(each) in LEAVES else _count(each) for each in inner)


def _names(weights: Weights) -> Iterator[str]:
    """Every name in a tree, of branches and leaves."""
    for name, leaf in weights.items():
        yield name
        yield from _names(leaf) if isinstance(leaf, dict) else ()


def _check_shapes(
    path: str | Path,
    net: Layer,
    input_shape: Shape,
    shapes: Mapping[str, tuple[str, Shape]],
    dtype: str,
    max_bytes: int | None,
) -> tuple[Weights, Shape]:
    """The net's weights as they are planned, and its output's shape.

    Tensors that are not its weights are refused, as is a net that needs more than `max_bytes`, before any of their
    size are made.
    """
    counter = Counter(input_shape)
    drawn, output_shape = net.init(counter, input_shape)
    expected = {f"weights/{name}": np.shape(w) for name, w in tree.items(drawn)}
    found = {name: shape for name, (_, shape) in shapes.items() if name.startswith("weights/")}
    if expected != found:
        odd = sorted({*expected.items()} ^ {*found.items()})[0][0]
        refuse(path, f"its tensors are not the weights of its net: {odd[:200]!r} differs.")
    kinds = {kind for name, (kind, _) in shapes.items() if not name.startswith(COUNTS)}
    if kinds - {dtype}:
        refuse(path, f"its tensors are {', '.join(kinds)}, its dtype is {dtype[:60]!r}.")
    counter.note(net, input_shape, output_shape)
    needed = counter.cells * (8 if dtype == "float64" else 4)
    if max_bytes is not None and needed > max_bytes:
        raise CheckpointError(
            "X404",
            f"{Path(path).name} is not read: a single sample would take {readable(needed)} in its net, and at most "
            f"{readable(max_bytes)} are allowed.",
            hint=f"if you trust it, Model.load(path, max_bytes={needed})." if needed < 2**50 else "",
        )
    return drawn, output_shape


def _moments(path: str | Path, optimizer: Optimizer, weights: Weights, found: Mapping[str, Array]) -> Weights:
    """The optimizer's moments; refused where one lacks, or has another shape than its weights."""
    own = type(optimizer).init is not Optimizer.init
    fresh = optimizer.init(weights) if own else dict.fromkeys(optimizer.moments, weights)  # whose shapes they have
    for name in optimizer.moments:
        prefix = f"state/{name}/"
        expected = {weight: tuple(w.shape) for weight, w in tree.items(fresh[name], prefix)}
        if expected != {weight: tuple(m.shape) for weight, m in found.items() if weight.startswith(prefix)}:
            refuse(path, f"its state is not that of its optimizer: {name!r} differs.")
    return {name: tree.filled(fresh[name], found, f"state/{name}/") for name in optimizer.moments}


def _none(path: str | Path, found: Mapping[str, Array], plan: Mapping[str, Any]) -> Weights:
    """No moments; refused where there are some, or where it is told how training goes on."""
    if plan or any(name.startswith("state/") for name in found):
        refuse(path, "it says that it has weights alone, and has more.")
    return {}


def _metrics(
    path: str | Path, config: Mapping[str, Any], own: Mapping[str, type], given: tuple[Metric, ...] | None
) -> tuple[Metric, ...]:
    """The metrics, a user's own functions and objects among those that were given."""
    if given is not None:
        return given
    found = []
    for entry in config.get("metrics", []):
        if isinstance(entry, str):
            raise CheckpointError(
                "X403",
                f"{Path(path).name} was saved with a metric of its user's own, {short(entry)}.",
                hint="Model.load(path, metrics=[...]) takes the metrics; metrics=[] none.",
            )
        metric = from_config(entry, own)
        if not isinstance(metric, Metric):
            refuse(path, "one of its metrics is none.")
        found.append(metric)
    return tuple(found)


def _counts(
    path: str | Path, metrics: tuple[Metric, ...], tensors: Mapping[str, Any], output_shape: Shape
) -> tuple[Counts, ...]:
    """What the metrics have counted of an epoch that is open; nothing where other metrics were given."""
    found: dict[str, dict[str, Any]] = {}
    for name, array in tensors.items():
        if name.startswith(COUNTS):
            column, _, key = name.removeprefix(COUNTS).partition("/")
            found.setdefault(column, {})[key] = array
    if [*found] != [metric.column for metric in metrics]:
        return ()
    for metric in metrics:
        if not _may_count(metric, found[metric.column], output_shape):
            refuse(path, f"its counts are not those of its metric {metric.column[:80]!r}.")
    return tuple(metric.restored(found[metric.column]) for metric in metrics)


def _may_count(metric: Metric, counts: Counts, output_shape: Shape) -> bool:
    """Whether a metric of xcnn's could have counted so: by the names and shapes of what one sample makes it count."""
    if type(metric) is Own:
        return {*counts} == {"y", "t"} and len({array.shape[:1] for array in counts.values()}) == 1
    if type(metric).__name__ not in MEASURES:
        return True
    several = isinstance(metric, OfPairs) and metric.multilabel
    y = np.zeros((1, *output_shape))
    labels = np.zeros((1, *output_shape[1:]), np.int64)
    expected = metric.counts(y, labels if isinstance(metric, OfClasses) and not several else y)
    shapes = {name: np.shape(array) for name, array in expected.items()}
    return shapes == {name: np.shape(array) for name, array in counts.items()}


def _check_standing(path: str | Path, places: int, at: Mapping[str, Any], plan: Mapping[str, Any]) -> None:
    """Refuse a standing within an epoch that no training can have: its batches are not those of its samples."""
    seen = min(at["batch"] * plan["batch_size"], plan["samples"]) if at["batch"] and plan else 0
    if plan and not plan["samples"] and (at["seen"] >= at["batch"] > 0 or at["batch"] == at["seen"] == 0):
        seen = at["seen"]  # batches came one after another, of any size
    least = plan.get("batch_size", 1) if plan.get("samples") else 1
    if at["seen"] != seen or (at["batch"] - 1) * least >= max(seen, 1):
        refuse(path, f"it can't have seen {at['seen']:,} samples in {at['batch']:,} batches of {plan}.")
    if at["right"] > seen * max(places, 1) or (not seen and at["loss"]):
        refuse(path, f"it can't have {at['right']:,} right, and a loss of {at['loss']:g}, of {seen:,} samples.")


def _scaling(path: str | Path, config: Mapping[str, Any]) -> str | None:
    """What the model makes of samples; None where the file does not say it."""
    try:
        return check_scaling(config.get("takes"))
    except XcnnError as error:
        refuse(path, f"its scaling is not valid: {error}", error)


def _policy(path: str | Path, config: Mapping[str, Any]) -> Precision:
    """What the model computed in: its weights' type, where the file is older than precisions are."""
    try:
        return policy(config.get("precision"), config["dtype"])
    except XcnnError as error:
        refuse(path, f"its precision is not valid: {error}", error)


def _loss_config(loss: Loss) -> dict[str, Any]:
    if isinstance(loss, OutputLosses) and loss.is_known:
        return {"name": SEVERAL, "options": {}, "parts": to_config(loss)}
    name, options = losses.loss_name(loss), getattr(loss, "keywords", {})
    return {"name": name, "options": {key: plain(value) for key, value in options.items()} if name else {}}


def _loss_from(path: str | Path, config: Mapping[str, Any], own: Loss | None) -> Loss:
    if own is not None:
        return own
    name, options = config["name"], config["options"]
    if not name:
        raise CheckpointError(
            "X403",
            f"{Path(path).name} was saved with a loss of its user's own.",
            hint="Model.load(path, loss=that_function)",
        )
    if name == SEVERAL:
        return _losses_from(path, config.get("parts"))
    if name not in losses.LOSSES:
        refuse(path, f"there is no loss {short(name)}.")
    if not options:
        return losses.LOSSES[name]
    chosen = partial(losses.LOSSES[name], **options)
    try:
        chosen(np.zeros((1, 2)), np.zeros((1, 2)))  # it knows itself which options it has
    except (XcnnError, TypeError, ValueError, ArithmeticError) as error:
        refuse(path, f"its loss can't have the options {str(options)[:200]}: {_told(error)}", error)
    return chosen


def _losses_from(path: str | Path, config: Any) -> Loss:
    """The losses of several outputs."""
    built = from_config(config)
    if not isinstance(built, OutputLosses) or not built.is_known:
        refuse(path, "the losses of its outputs are none.")
    for part in built.parts:
        try:
            part.function(np.zeros((1, 2)), np.zeros((1, 2)))
        except (XcnnError, TypeError, ValueError, ArithmeticError) as error:
            refuse(path, f"the loss of {part.output[:60]!r} can't be: {_told(error)}", error)
    return built


def _told(error: BaseException) -> str:
    """An error in a line."""
    return (error.summary if isinstance(error, XcnnError) else f"{type(error).__name__}: {error}")[:300]
