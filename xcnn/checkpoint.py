"""Checkpoints: one safetensors file with weights, optimizer state and all else that training needs to go on exactly.

The file's metadata holds the configuration as JSON, and the SHA-256 of the whole file with that sum's 64 digits taken
as zeros: every byte counts. Reading checks sizes before it allocates, the sum before it believes, and builds the net
from a fixed table of classes; nothing in a file is executed or imported.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Iterator, Mapping
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from xcnn import loss_scaling, losses, random, tree
from xcnn._typing import Weights
from xcnn.backends import Backend, get_backend
from xcnn.backends import backend as make_backend
from xcnn.config import from_config, to_config
from xcnn.errors import CheckpointError, XcnnError
from xcnn.files import write_whole
from xcnn.losses import Loss
from xcnn.precision import Precision, policy
from xcnn.training import HostArray, Standing

if TYPE_CHECKING:
    from xcnn.model import Model

FORMAT = "xcnn.checkpoint.1"
LARGEST = 2**33
"""Bytes of the largest file that is read: 8 GiB."""
LARGEST_HEADER = 2**24
MOST_TENSORS = 100_000
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
    config = {
        "format": FORMAT,
        "net": to_config(model.net),
        "input_shape": list(model.input_shape),
        "loss": _loss_config(model.loss),
        "optimizer": to_config(model.optimizer),
        "backend": model.backend.spec,
        "dtype": model.dtype,
        "precision": model.precision,
        "seed": model.seed,
        "versions": {"xcnn": version("xcnn"), "python": platform.python_version(), **model.backend.versions()},
        "standing": {name: getattr(at, name) for name in COUNTED},
        "updates": at.state["step"],
        "scaling": {name: entry.item() for name, entry in scaling.items()},
        "plan": plan,
        "history": list(at.rows),
        "info": dict(model.info),
    }
    for name in _names(at.weights):
        if "/" in name:
            raise CheckpointError("X403", f"a weight's name can't hold a slash, which parts its path; got {name!r}.")
    tensors = dict(tree.items({"weights": host(at.weights), "state": moments}))
    _check_shapes(path, model.net, model.input_shape, tensors, model.dtype)
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
    tensors, config = read(path)
    backend = get_backend() if backend is None else make_backend(backend)
    saved_with = _policy(path, config)
    computed_in = saved_with if precision is None else policy(precision, saved_with.dtype)
    backend.under(computed_in)  # that a backend does not have it is no fault of the file's
    try:
        net = from_config(config["net"], layers)
        _check_shapes(path, net, tuple(config["input_shape"]), tensors, config["dtype"])
        model = cls(
            net,
            tuple(config["input_shape"]),
            loss=_loss_from(path, config["loss"], loss),
            optimizer=from_config(config["optimizer"], layers),
            backend=backend,
            dtype=config["dtype"],
            precision=computed_in.name,
            seed=config["seed"],
        )
        saved = tree.from_items(tensors)
        weights = tree.map(lambda old, new: model._send(new), model.at.weights, saved.get("weights", {}))
        moments = {
            name: tree.map(lambda old, new: model._send(new), moment, saved.get("state", {}).get(name, {}))
            for name, moment in model.at.state.items()
            if name in model.optimizer.moments
        }
        standing = {name: type(getattr(model.at, name))(config["standing"][name]) for name in COUNTED}
        model.at = Standing(
            weights,
            {"step": int(config["updates"]), **moments, **_scaling(path, model, config.get("scaling", {}))},
            **standing,
            rows=tuple(dict(row) for row in config["history"]),
        )
        model.history.rows = list(model.at.rows)
        model.plan, model.info = dict(config["plan"]), dict(config["info"])
    except CheckpointError:
        raise
    except (XcnnError, KeyError, TypeError, ValueError, AttributeError, MemoryError, RecursionError) as error:
        _refuse(path, f"its configuration is not valid: {type(error).__name__}: {error}")
    return model


def write(path: str | Path, tensors: Tensors, config: Mapping[str, Any]) -> None:
    """Write tensors and configuration to a temporary file beside the path, sync it and rename it to the path."""
    from safetensors.numpy import save as serialize

    whole = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    try:
        metadata = json.dumps({"sha256": BLANK, **config})
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            "X403", f"the configuration can't be written: {error}", hint="keep plain values in model.info."
        ) from error
    text = serialize(whole, {"xcnn": metadata})
    length = int.from_bytes(text[:8], "little")
    if length > LARGEST_HEADER or len(text) > LARGEST:
        raise CheckpointError("X404", f"the checkpoint would have {len(text):,} bytes, {length:,} of them its header.")
    _parse(Path(path), text[8 : 8 + length])  # what could not be read again is not written
    text = text.replace(BLANK.encode(), hashlib.sha256(text).hexdigest().encode(), 1)
    write_whole(path, text)


def read(path: str | Path) -> tuple[Tensors, dict[str, Any]]:
    """The tensors and the configuration of a checkpoint.

    Raises
    ------
    CheckpointError
        X401 incomplete, X402 altered, X403 not one of ours, X404 too large. FileNotFoundError passes through.
    """
    path = Path(path)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > LARGEST:
            raise CheckpointError("X404", f"{path.name} has {size:,} bytes; checkpoints have at most {LARGEST:,}.")
        length = int.from_bytes(file.read(8), "little")
        if size < 10 or length > LARGEST_HEADER:
            _refuse(path, "it is not a safetensors file.")
        if size < 8 + length:
            raise CheckpointError(
                "X401", f"{path.name} is incomplete: its header has {length:,} bytes, the file {size:,}."
            )
        header = file.read(length)
        shapes, promised, config = _parse(path, header)
        if size != 8 + length + promised:
            raise CheckpointError(
                "X401" if size < 8 + length + promised else "X402",
                f"{path.name} is {'incomplete' if size < 8 + length + promised else 'altered'}: its header promises "
                f"{8 + length + promised:,} bytes, the file has {size:,}.",
                hint="use an older checkpoint, or copy the file again.",
            )
        payload = file.read()
    digest = config.pop("sha256")
    blank = header.replace(digest.encode(), BLANK.encode(), 1)
    if hashlib.sha256(length.to_bytes(8, "little") + blank + payload).hexdigest() != digest:
        raise CheckpointError(
            "X402", f"{path.name} was altered: its SHA-256 is not the one that it names.", hint="copy the file again."
        )
    tensors, at = {}, 0
    for name, (kind, shape) in shapes.items():
        tensors[name] = np.frombuffer(payload, kind, prod(shape), at).reshape(shape)
        at += tensors[name].nbytes
    return tensors, config


def _parse(path: Path, header: bytes) -> tuple[dict[str, tuple[str, tuple[int, ...]]], int, dict[str, Any]]:
    """Shapes by name in the order of their bytes, the number of those bytes, and the configuration."""
    try:
        entries = json.loads(header, object_pairs_hook=_unique)
        config = json.loads(entries.pop("__metadata__")["xcnn"], object_pairs_hook=_unique)
        if config["format"] != FORMAT or not re.fullmatch(r"[0-9a-f]{64}", config["sha256"]):
            _refuse(path, f"its format is {config['format']!r}; this version reads {FORMAT!r}.")
        if len(entries) > MOST_TENSORS:
            raise CheckpointError(
                "X404", f"{path.name} has {len(entries):,} tensors; at most {MOST_TENSORS:,} are read."
            )
        shapes, at = {}, 0
        for name, entry in sorted(entries.items(), key=lambda item: (item[1]["data_offsets"], item[0])):
            kind, shape, (begin, end) = KINDS[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
            sound = all(isinstance(n, int) and 0 <= n < 2**40 for n in (*shape, begin, end)) and len(shape) <= 8
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


def _check_shapes(path: str | Path, net: Any, input_shape: tuple[int, ...], tensors: Tensors, dtype: str) -> None:
    """Refuse tensors that are not the weights of this net, before any of its size are made."""
    drawn, _ = net.init(random.Planner(), input_shape)
    expected = {f"weights/{name}": tuple(w.shape) for name, w in tree.items(drawn)}
    found = {name: t.shape for name, t in tensors.items() if name.startswith("weights/")}
    if expected != found:
        odd = sorted({*expected.items()} ^ {*found.items()})[0][0]
        _refuse(path, f"its tensors are not the weights of its net: {odd!r} differs.")
    kinds = {str(tensor.dtype) for tensor in tensors.values()}
    if kinds - {dtype}:
        _refuse(path, f"its tensors are {', '.join(kinds)}, its dtype is {dtype!r}.")


def _policy(path: str | Path, config: Mapping[str, Any]) -> Precision:
    """What the model computed in: its weights' type, where the file is older than precisions are."""
    try:
        return policy(config.get("precision"), config["dtype"])
    except (XcnnError, KeyError, TypeError) as error:
        _refuse(path, f"its precision is not valid: {error}")


def _scaling(path: str | Path, model: Model, saved: Mapping[str, float]) -> Weights:
    """The loss's scale as it was saved; as the model has it, if it was not; nothing where the loss is not scaled."""
    fresh = loss_scaling.entries_of(model.at.state)
    if not fresh or not saved:
        return fresh
    scale, good_steps = float(saved["loss_scale"]), int(saved["good_steps"])
    if not (loss_scaling.LEAST <= scale <= loss_scaling.LARGEST and 0 <= good_steps < loss_scaling.GOOD_STEPS):
        _refuse(path, f"its loss can't have the scale {scale} after {good_steps} steps.")
    return loss_scaling.entries(model.backend, scale, good_steps)


def _loss_config(loss: Loss) -> dict[str, Any]:
    return {"name": losses.loss_name(loss), "options": getattr(loss, "keywords", {})}


def _loss_from(path: str | Path, config: Mapping[str, Any], own: Loss | None) -> Loss:
    if own is not None:
        return own
    if config["name"] not in losses.LOSSES:
        raise CheckpointError(
            "X403",
            f"{Path(path).name} was saved with a loss of its user's own.",
            hint="Model.load(path, loss=that_function)",
        )
    known, options = losses.LOSSES[config["name"]], config["options"]
    if not all(isinstance(value, int | float) for value in options.values()):
        _refuse(path, f"its loss can't have the options {options}.")
    return partial(known, **options) if options else known


def _refuse(path: str | Path, why: str) -> NoReturn:
    raise CheckpointError(
        "X403", f"{Path(path).name} is not a checkpoint that xcnn can read: {why}", hint="model.save(path) writes one."
    )
