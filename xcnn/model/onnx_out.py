"""Models as ONNX files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xcnn.core import tree
from xcnn.core.checks import check_flag
from xcnn.errors import OptionError, short
from xcnn.layers.packed import Packed
from xcnn.model.held import Held, class_names

PIXELS: dict[str, Any] = {"dtype": "float32", "layout": "NCHW", "range": [0, 1]}
"""What the command line makes of images: light, or of digits ink, from 0 to 1."""


def to_onnx(
    model: Held, path: str | Path, *, fold_batch_norm: bool, info: Mapping[str, Any] | None, verify: bool | None
) -> None:
    """As Model.to_onnx."""
    from xcnn.exchange.onnx.write import Net, write_onnx

    fold = check_flag("fold_batch_norm", fold_batch_norm)
    check = None if verify is None else check_flag("verify", verify)
    weights = tree.map(model.backend.to_numpy, model.state.weights)
    net, shape = model.net, model.input_shape
    if isinstance(net, Packed):  # of several inputs or outputs, by their names
        shapes: Any = net.input_shapes
        net, shape = net.graph, shapes if len(shapes) > 1 else shapes[0]
    write_onnx(Net(net, weights, shape, told(model, info)), path, fold=fold, check=check)


def told(model: Held, info: Mapping[str, Any] | None) -> dict[str, Any]:
    """What stands in the file beside the graph."""
    if info is not None and not (isinstance(info, Mapping) and all(isinstance(key, str) for key in info)):
        raise OptionError("X104", f"info must be a mapping whose keys are strings; got {short(info)}.")
    from xcnn.data.images import DIGITS

    names = class_names(model)
    own: dict[str, Any] = {"classes": names} if names else {}
    if "data" in model.info and len(model.input_shape) == 3:
        own["input"] = PIXELS
    if model.info.get("data") in DIGITS:  # whose pictures are prepared as these were
        own["data"] = model.info["data"]
    return {**own, **(info or {})}
