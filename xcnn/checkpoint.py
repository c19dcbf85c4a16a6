"""Checkpoints: one safetensors file with weights, optimizer state and all else that training needs to go on exactly.

The file's metadata holds the configuration as JSON, and the SHA-256 of the whole file with that sum's 64 digits taken
as zeros: every byte counts. Reading checks sizes before it allocates, the sum before it believes, the type and range of
each entry (schema.py) before it uses it, and builds the net from a fixed table of classes; nothing in a file is
executed or imported. Of a large file the configuration comes first: tensors are read where they are those of its net.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import isfinite, prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from xcnn import loss_scaling, losses, random, schema, tree
from xcnn._typing import Rng, Shape, Weights
from xcnn.backends import Backend, get_backend
from xcnn.backends import backend as make_backend
from xcnn.checks import plain
from xcnn.config import from_config, to_config
from xcnn.errors import BackendError, CheckpointError, DeviceMemoryError, XcnnError
from xcnn.files import FREE, IrregularFileError, is_hollow, open_regular, write_whole
from xcnn.history import Row
from xcnn.layers.layer import Layer
from xcnn.losses import Loss
from xcnn.optimizers import Optimizer
from xcnn.precision import Precision, policy
from xcnn.schedules import learning_rate
from xcnn.schema import TooMuchError, short
from xcnn.training import HostArray, Standing
from xcnn.windows import is_whole

if TYPE_CHECKING:
    from xcnn.model import Model

FORMAT = "xcnn.checkpoint.1"
LARGEST = 2**33
"""Bytes of the largest file that is read: 8 GiB."""
LARGEST_HEADER = 2**24
MOST_VALUES = 2**18
"""In a header, tensors and configuration together: as Python's objects they take up to a hundred times their text."""
MOST_OF_HISTORY = MOST_VALUES // 2
"""Values of the history that are kept: those of 14,000 epochs with eight columns."""
MOST_TENSORS = 20_000
BLANK = "0" * 64
KINDS = {"F32": "float32", "F64": "float64"}
PATH = re.compile(r"(weights|state)(/(?!\.\.?(/|$))[^/\x00-\x1f]{1,255})+")
COUNTED = ("step", "epoch", "batch", "loss", "right", "seen")
"""The numbers of a Standing."""

Tensors = dict[str, HostArray]


def save(model: Model, path: str | Path) -> None:
    """Write the model's checkpoint.

    Raises
    ------
    CheckpointError
        X403, when the net holds what can't be written. Errors of the file system pass through; the old file stays.
    """
    from importlib.metadata import version

    plan, at = model.standing()
    host = partial(tree.map, model.backend.to_numpy)
    moments = {name: host(at.state[name]) for name in model.optimizer.moments}
    scaling = host(loss_scaling.entries_of(at.state))
    try:
        net, optimizer = to_config(model.net), to_config(model.optimizer)
    except RecursionError as error:
        raise CheckpointError("X404", "the net is nested too deep to be written.") from error
    config = {
        "format": FORMAT,
        "net": net,
        "input_shape": list(model.input_shape),
        "loss": _loss_config(model.loss),
        "optimizer": optimizer,
        "backend": model.backend.spec,
        "dtype": model.dtype,
        "precision": model.precision,
        "seed": model.seed,
        "versions": {"xcnn": version("xcnn"), "python": platform.python_version(), **model.backend.versions()},
        "standing": {name: getattr(at, name) for name in COUNTED},
        "updates": at.state["step"],
        "scaling": {name: entry.item() for name, entry in scaling.items()},
        "plan": plan,
        "history": _last_rows(at.rows),
        "info": dict(model.info),
    }
    for name in _names(at.weights):
        if "/" in name:
            raise CheckpointError("X403", f"a weight's name can't hold a slash, which parts its path; got {name!r}.")
    tensors = dict(tree.items({"weights": host(at.weights), "state": moments}))
    shapes = {name: (str(tensor.dtype), tensor.shape) for name, tensor in tensors.items()}
    _check_shapes(path, model.net, model.input_shape, shapes, model.dtype)
    write(path, tensors, config)


def load(
    cls: type[Model],
    path: str | Path,
    *,
    backend: str | Backend | None,
    layers: Mapping[str, type],
    loss: Loss | None,
    precision: str | None,
) -> Model:
    """`Model.load`."""
    with opened(path) as contents:
        config = contents.config
        built = _built(path, contents, layers, loss)
        saved_with = _policy(path, config)
        computed_in = saved_with if precision is None else policy(precision, saved_with.dtype)
        backend = get_backend() if backend is None else make_backend(backend)
        backend.under(computed_in)  # that a backend does not have it is no fault of the file's
        saved = tree.from_items(contents.tensors())
    try:
        model = cls(
            Restored(built.net, saved.get("weights", {})),
            built.input_shape,
            loss=built.loss,
            optimizer=built.optimizer,
            backend=backend,
            dtype=config["dtype"],
            precision=computed_in.name,
            seed=config["seed"],
        )
    except (BackendError, DeviceMemoryError):  # no fault of the file's
        raise
    except (XcnnError, ArithmeticError, AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        _refuse(path, f"its configuration is not valid: {_told(error)}", error)
    model._net = built.net
    model._rebuild()
    _check_moments(path, model, saved.get("state", {}))
    moments = {
        name: tree.map(lambda old, new: model._send(new), model.at.state[name], saved["state"][name])
        for name in model.optimizer.moments
        if model.at.state[name]
    }
    standing = {name: config["standing"][name] for name in COUNTED}
    _check_standing(path, model, standing, config["plan"])
    scaling = _scaling(model, config.get("scaling", {}))
    model.at = Standing(
        model.at.weights,
        {**model.at.state, "step": config["updates"], **moments, **scaling},
        **{**standing, "loss": float(standing["loss"])},
        rows=tuple(config["history"]),
    )
    model.history.rows = list(model.at.rows)
    model.plan, model.info = config["plan"], config["info"]
    return model


@dataclass(frozen=True)
class Restored:
    """A net with weights that are read instead of drawn: a large one would be drawn for many seconds."""

    net: Layer
    weights: Weights

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        """The weights in the net's order, and the shape of the output."""
        drawn, output = self.net.init(random.Planner(), input_shape)
        return tree.map(lambda old, new: new, drawn, self.weights), output

    def __call__(self, weights: Weights, x: Any, run: Any) -> Any:
        return self.net(weights, x, run)


@dataclass(frozen=True)
class Built:
    """What is built from a configuration before any tensor is read."""

    net: Layer
    input_shape: Shape
    optimizer: Optimizer
    loss: Loss


def _built(path: str | Path, contents: Contents, layers: Mapping[str, type], loss: Loss | None) -> Built:
    """The net, the optimizer and the loss; the tensors' shapes are those of this net."""
    config = contents.config
    input_shape = tuple(config["input_shape"])
    try:
        net, optimizer = from_config(config["net"], layers), from_config(config["optimizer"], layers)
        if not isinstance(net, Layer) or not isinstance(optimizer, Optimizer):
            _refuse(path, "its net is no layer, or its optimizer none.")
        chosen = _loss_from(path, config["loss"], loss)
        for step in (0, config["updates"], config["updates"] + 1):
            rate = learning_rate(optimizer.learning_rate, step)
            if not (isfinite(rate) and rate >= 0):
                _refuse(path, f"its learning rate after {step:,} steps would be {rate}.")
        _check_shapes(path, net, input_shape, contents.shapes, config["dtype"])
    except CheckpointError:
        raise
    except Exception as error:  # of a user's own layer it may be any
        _refuse(path, f"its configuration is not valid: {_told(error)}", error)
    return Built(net, input_shape, optimizer, chosen)


def write(path: str | Path, tensors: Tensors, config: Mapping[str, Any]) -> None:
    """Write tensors and configuration to a temporary file beside the path, sync it and rename it to the path."""
    from safetensors.numpy import save as serialize

    whole = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    text = serialize(whole, {"xcnn": _written({"sha256": BLANK, **config})})
    length = int.from_bytes(text[:8], "little")
    if length > LARGEST_HEADER or len(text) > LARGEST:
        raise CheckpointError("X404", f"the checkpoint would have {len(text):,} bytes, {length:,} of them its header.")
    _check_config(path, _parse(Path(path), text[8 : 8 + length])[2])  # what could not be read again is not written
    text = text.replace(BLANK.encode(), hashlib.sha256(text).hexdigest().encode(), 1)
    write_whole(path, text)


def _written(config: Mapping[str, Any]) -> str:
    """The configuration as JSON, NumPy's numbers as Python's.

    Raises
    ------
    CheckpointError
        X403, naming the entry that holds something else.
    """

    def text_of(value: Any) -> str:
        return json.dumps(value, default=_number)

    try:
        return text_of(config)
    except (TypeError, ValueError, RecursionError) as error:
        for name, value in config.items():
            try:
                text_of(value)
            except (TypeError, ValueError, RecursionError) as fault:
                hints = {"info": "keep plain values in model.info.", "history": "a callback put it into a row."}
                what, hint = {"info": "model.info", "history": "the history"}.get(name, name), hints.get(name, "")
                raise CheckpointError("X403", f"{what} can't be written: {fault}", hint=hint) from error
        raise CheckpointError("X403", f"the configuration can't be written: {error}") from error


def _number(value: Any) -> Any:
    """A number of NumPy's as Python's, for JSON; TypeError for what is none."""
    found = plain(value)
    if not isinstance(found, bool | int | float | str):
        raise TypeError(f"{type(value).__name__} is no plain value")
    return found


def _last_rows(rows: tuple[Row, ...]) -> list[Row]:
    """The rows that there is room for, the last ones, with a warning where some are left out."""
    room = MOST_OF_HISTORY
    for n, row in enumerate(reversed(rows)):
        room -= _count(row)
        if room < 0:
            warnings.warn(f"the checkpoint keeps the last {n:,} of {len(rows):,} epochs of the history", stacklevel=4)
            return list(rows[-n:])
    return list(rows)


def _count(value: Any) -> int:
    """The values in a value, itself among them."""
    return 1 + sum(map(_count, value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()))


def read(path: str | Path) -> tuple[Tensors, dict[str, Any]]:
    """The tensors and the configuration of a checkpoint.

    Raises
    ------
    CheckpointError
        X401 incomplete, X402 altered, X403 not one of ours, X404 too large. FileNotFoundError passes through.
    """
    with opened(path) as contents:
        return contents.tensors(), contents.config


@contextmanager
def opened(path: str | Path) -> Iterator[Contents]:
    """What a checkpoint holds, sizes and configuration checked; the sum too, where the file is small."""
    path = Path(path)
    try:
        opened_file = open_regular(path)
    except IrregularFileError:
        _refuse(path, "it is no regular file.")
    with opened_file as file:
        contents = _contents(path, file)
        if contents.promised <= FREE:
            contents.read()  # so that damage is told as such
        _check_config(path, contents.config)
        yield contents


def _contents(path: Path, file: io.BufferedReader) -> Contents:
    """What the header says, its sizes checked."""
    size = os.fstat(file.fileno()).st_size
    if size > LARGEST:
        raise CheckpointError("X404", f"{path.name} has {size:,} bytes; checkpoints have at most {LARGEST:,}.")
    if is_hollow(file):
        raise CheckpointError("X404", f"{path.name} has {size:,} bytes, nearly all of them holes.")
    length = int.from_bytes(file.read(8), "little")
    if size < 10 or length > LARGEST_HEADER:
        _refuse(path, "it is not a safetensors file.")
    if size < 8 + length:
        raise CheckpointError("X401", f"{path.name} is incomplete: its header has {length:,} bytes, the file {size:,}.")
    header = file.read(length)
    shapes, promised, config = _parse(path, header)
    if size != 8 + length + promised:
        raise CheckpointError(
            "X401" if size < 8 + length + promised else "X402",
            f"{path.name} is {'incomplete' if size < 8 + length + promised else 'altered'}: its header promises "
            f"{8 + length + promised:,} bytes, the file has {size:,}.",
            hint="use an older checkpoint, or copy the file again.",
        )
    digest = config.pop("sha256")
    sum_of_header = hashlib.sha256(length.to_bytes(8, "little"))
    sum_of_header.update(header.replace(digest.encode(), BLANK.encode(), 1))
    return Contents(path, file, shapes, promised, config, digest, sum_of_header)


@dataclass
class Contents:
    """A checkpoint whose header was read: its tensors' types and shapes by name, in the order of their bytes."""

    path: Path
    file: io.BufferedReader
    shapes: dict[str, tuple[str, Shape]]
    promised: int
    config: dict[str, Any]
    digest: str
    begun: Any
    """The sum up to the tensors."""
    payload: bytes | None = None

    def read(self) -> bytes:
        """The tensors' bytes, if the file's sum is right."""
        if self.payload is None:
            payload = self.file.read(self.promised)
            self.begun.update(payload)
            if len(payload) < self.promised or self.begun.hexdigest() != self.digest:
                raise CheckpointError(
                    "X402",
                    f"{self.path.name} was altered: its SHA-256 is not the one that it names.",
                    hint="copy the file again.",
                )
            self.payload = payload
        return self.payload

    def tensors(self) -> Tensors:
        """The tensors by name."""
        payload, tensors, at = self.read(), {}, 0
        for name, (kind, shape) in self.shapes.items():
            tensors[name] = np.frombuffer(payload, kind, prod(shape), at).reshape(shape)
            at += tensors[name].nbytes
        return tensors


def _check_config(path: str | Path, config: Mapping[str, Any]) -> None:
    """Raise X403 or X404 unless each entry of the configuration is of its type and in its range."""
    try:
        schema.CONFIG(config, "")
    except TooMuchError as error:
        raise CheckpointError("X404", f"{Path(path).name} is not read, or not written: {error}.") from error
    except ValueError as error:
        raise CheckpointError(
            "X403",
            f"{Path(path).name} is not a checkpoint that xcnn can read: its configuration is not valid.",
            str(error),
            hint="model.save(path) writes one.",
        ) from error


def _parse(path: Path, header: bytes) -> tuple[dict[str, tuple[str, tuple[int, ...]]], int, dict[str, Any]]:
    """Types and shapes by name in the order of their bytes, the number of those bytes, and the configuration."""
    values = sum(map(header.count, (b",", b"[", b"{")))
    if values > MOST_VALUES:
        raise CheckpointError(
            "X404", f"{path.name} has {values:,} values in its header; at most {MOST_VALUES:,} are read."
        )
    try:
        entries = json.loads(header, object_pairs_hook=_unique)
        config = json.loads(entries.pop("__metadata__")["xcnn"], object_pairs_hook=_unique)
        if config["format"] != FORMAT or not re.fullmatch(r"[0-9a-f]{64}", config["sha256"]):
            _refuse(path, f"its format is {short(config['format'])}; this version reads {FORMAT!r}.")
        if len(entries) > MOST_TENSORS:
            raise CheckpointError(
                "X404", f"{path.name} has {len(entries):,} tensors; at most {MOST_TENSORS:,} are read."
            )
        shapes, at = {}, 0
        for name, entry in sorted(entries.items(), key=lambda item: (item[1]["data_offsets"], item[0])):
            kind, shape, (begin, end) = KINDS[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
            sound = all(is_whole(n) and 0 <= n < 2**40 for n in (*shape, begin, end)) and len(shape) <= 8
            if (
                not sound
                or not PATH.fullmatch(name)
                or begin != at
                or end - at != prod(shape) * np.dtype(kind).itemsize
            ):
                _refuse(path, f"its tensor {name[:80]!r} is not valid.")
            shapes[name], at = (kind, shape), end
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        _refuse(path, f"its header is not one of a checkpoint ({type(error).__name__}).")
    return shapes, at, config


def _names(weights: Weights) -> Iterator[str]:
    """Every name in a tree, of branches and leaves."""
    for name, leaf in weights.items():
        yield name
        yield from _names(leaf) if isinstance(leaf, dict) else ()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _check_shapes(
    path: str | Path, net: Layer, input_shape: Shape, shapes: Mapping[str, tuple[str, Shape]], dtype: str
) -> None:
    """Refuse tensors that are not the weights of this net, before any of its size are made."""
    drawn, _ = net.init(random.Planner(), input_shape)
    expected = {f"weights/{name}": tuple(w.shape) for name, w in tree.items(drawn)}
    found = {name: shape for name, (_, shape) in shapes.items() if name.startswith("weights/")}
    if expected != found:
        odd = sorted({*expected.items()} ^ {*found.items()})[0][0]
        _refuse(path, f"its tensors are not the weights of its net: {odd[:200]!r} differs.")
    kinds = {kind for kind, _ in shapes.values()}
    if kinds - {dtype}:
        _refuse(path, f"its tensors are {', '.join(kinds)}, its dtype is {dtype[:60]!r}.")


def _check_moments(path: str | Path, model: Model, state: Weights) -> None:
    """Refuse an optimizer's state that lacks a moment, or has one of another shape."""
    for name in model.optimizer.moments:
        expected = {weight: tuple(w.shape) for weight, w in tree.items(model.at.state[name])}
        found = {weight: m.shape for weight, m in tree.items(state.get(name, {}))} if expected else {}
        if expected != found:
            _refuse(path, f"its state is not that of its optimizer: {name!r} differs.")


def _check_standing(path: str | Path, model: Model, at: Mapping[str, Any], plan: Mapping[str, Any]) -> None:
    """Refuse a standing within an epoch that no training can have: its batches are not those of its samples."""
    seen = min(at["batch"] * plan["batch_size"], plan["samples"]) if at["batch"] and plan else 0
    if at["seen"] != seen or (at["batch"] - 1) * plan.get("batch_size", 1) >= max(seen, 1):
        _refuse(path, f"it can't have seen {at['seen']:,} samples in {at['batch']:,} batches of {plan}.")
    if at["right"] > seen * max(model.places, 1) or (not seen and at["loss"]):
        _refuse(path, f"it can't have {at['right']:,} right, and a loss of {at['loss']:g}, of {seen:,} samples.")


def _policy(path: str | Path, config: Mapping[str, Any]) -> Precision:
    """What the model computed in: its weights' type, where the file is older than precisions are."""
    try:
        return policy(config.get("precision"), config["dtype"])
    except XcnnError as error:
        _refuse(path, f"its precision is not valid: {error}", error)


def _scaling(model: Model, saved: Mapping[str, float]) -> Weights:
    """The loss's scale as it was saved; as the model has it, if it was not; nothing where the loss is not scaled."""
    fresh = loss_scaling.entries_of(model.at.state)
    return loss_scaling.entries(model.backend, **saved) if fresh and saved else fresh  # type: ignore[arg-type]


def _loss_config(loss: Loss) -> dict[str, Any]:
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
    if name not in losses.LOSSES:
        _refuse(path, f"there is no loss {short(name)}.")
    if not options:
        return losses.LOSSES[name]
    chosen = partial(losses.LOSSES[name], **options)
    try:
        chosen(np.zeros((1, 2)), np.zeros((1, 2)))  # it knows itself which options it has
    except (XcnnError, TypeError, ValueError, ArithmeticError) as error:
        _refuse(path, f"its loss can't have the options {str(options)[:200]}: {_told(error)}", error)
    return chosen


def _told(error: BaseException) -> str:
    """An error in a line."""
    return (error.summary if isinstance(error, XcnnError) else f"{type(error).__name__}: {error}")[:300]


def _refuse(path: str | Path, why: str, cause: BaseException | None = None) -> NoReturn:
    raise CheckpointError(
        "X403", f"{Path(path).name} is not a checkpoint that xcnn can read: {why}", hint="model.save(path) writes one."
    ) from cause
