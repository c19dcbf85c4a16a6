"""Kernels, maps and gradients of a net as pictures, by matplotlib: `model.show_kernels()` and its neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xcnn.core.plots import new_figure
from xcnn.errors import OptionError, printable, short
from xcnn.layers.container import Container
from xcnn.model.held import Held, numbered_names
from xcnn.model.trace import LayerTrace, Trace, score
from xcnn.model.trace import trace as traced
from xcnn.training.state import HostArray

if TYPE_CHECKING:
    from xcnn.core.figure import Figure

SIGNED, PICTURE = "RdBu_r", "cividis"
"""Colours: around 0, and of what is never below."""
MOST = 16
"""Planes of a layer that are shown."""
ROWS = 12
"""Layers of a net that are shown."""


class Row(NamedTuple):
    """One row of a figure: its name, and planes (n, height, width) of one scale."""

    name: str
    planes: HostArray


def show_kernels(model: Held, layer: str | None) -> Figure:
    """As `Model.show_kernels` says."""
    there = {path: model.backend.to_numpy(kernel) for path, kernel in kernels_of(model.state.weights)}
    chosen = there if layer is None else {layer: there[known(layer, there)]}
    if not chosen:
        hint = "model.weights has all weights."
        raise OptionError("X104", "the net has no layer whose kernels are images.", hint=hint)
    rows = [Row(f"{path}  {_by(kernel.shape)}", planes(kernel)) for path, kernel in [*chosen.items()][:ROWS]]
    return drawn(rows, "kernels")


def show_maps(model: Held, x: Any, layer: str | None) -> Figure:
    """As `Model.show_maps` says."""
    trace = traced(model, x, None, loss=score)
    rows = [Row("input", planes(trace.x[0]))]
    rows += [Row(f"{each.name}  {each.kind}", planes(each.y[0])) for each in with_maps(trace, layer)]
    return drawn(rows, "maps")


def show_gradients(trace: Trace, layer: str | None) -> Figure:
    """As `Model.show_gradients` says."""
    saliency = np.abs(trace.dx[0]).max(axis=0, keepdims=True) if trace.dx.ndim == 4 else trace.dx[0]
    rows = [Row("input", planes(trace.x[0])), Row("|dE/dX|, the largest of its channels", planes(saliency))]
    for each in with_maps(trace, layer):
        rows.append(Row(f"{each.name}  dE/dY", planes(each.dy[0])))
        if (kernel := each.grads.get("kernel")) is not None and kernel.ndim > 2:
            rows.append(Row(f"{each.name}  dE/dK", planes(kernel)))
    return drawn(rows[: 2 * ROWS], f"loss {trace.loss:.4g}")


def show_class_activation(model: Held, x: Any, labels: HostArray, layer: str | None) -> Figure:
    """As `Model.show_class_activation` says."""
    trace = traced(model, x, labels, loss=score)
    chosen = with_maps(trace, layer)[-1:]
    if trace.x.ndim != 4 or not chosen:
        raise OptionError("X104", "a class-activation map is of a net of images with a layer whose output is maps.")
    (each,) = chosen
    heat = class_activation(each.y[0], each.dy[0], (trace.x.shape[2], trace.x.shape[3]))
    figure = new_figure(6.4, 3.4, "pictures need")
    picture = image_of(trace.x[0])
    label = int(np.argmax(trace.t[0])) if trace.t.ndim > 1 else int(trace.t[0])
    names = numbered_names(model, max(model.output_shape[0], 2))
    found = "" if heat.any() else ": no place speaks for it"
    for n, title in enumerate(("input", f"{each.name} for {printable(names[label])}{found}")):
        axes = figure.add_subplot(1, 2, n + 1)
        axes.imshow(picture, cmap="gray", interpolation="nearest")
        if n and not found:
            axes.imshow(heat, cmap="inferno", alpha=0.6, interpolation="nearest")
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    return figure


def class_activation(maps: HostArray, gradients: HostArray, size: tuple[int, int]) -> HostArray:
    """Grad-CAM, Selvaraju et al. 2017: max(0, sum of maps, each by the mean of its gradient), (height, width) in 0..1.

    Parameters
    ----------
    maps, gradients
        (channels, height, width): a layer's output, and the gradient by it of what speaks for the class
    size
        (height, width) to enlarge it to
    """
    from PIL import Image

    heat = np.maximum(np.tensordot(gradients.mean(axis=(1, 2)), maps, 1), 0)
    heat = heat / heat.max() if heat.max() > 0 else heat
    large = Image.fromarray(heat.astype("float32")).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    found: HostArray = np.asarray(large)
    return found


def with_maps(trace: Trace, layer: str | None) -> list[LayerTrace]:
    """The layers whose outputs are maps, or the one of this name."""
    there = {each.name: each for each in trace.values() if each.y.ndim == 4 and not isinstance(each.layer, Container)}
    return [*there.values()][:ROWS] if layer is None else [there[known(layer, there)]]


def known(layer: str, there: Sequence[str] | dict[str, Any]) -> str:
    """The name of a layer, if it is one of those.

    Raises
    ------
    OptionError
        X104
    """
    if layer not in there:
        names = ", ".join(there) or "none"
        raise OptionError("X104", f"there is nothing to show of a layer {short(layer)}.", hint=f"there are {names}.")
    return layer


def kernels_of(weights: Any, path: str = "") -> list[tuple[str, Any]]:
    """The kernels that are images, by their layers' names."""
    found = []
    for name, leaf in weights.items():
        if isinstance(leaf, dict):
            found += kernels_of(leaf, f"{path}.{name}".lstrip("."))
        elif name == "kernel" and len(leaf.shape) > 2:
            found.append((path or "net", leaf))
    return found


def planes(array: HostArray) -> HostArray:
    """An array as planes (n, height, width), the first of them: kernels in the order of filters; a vector is a row."""
    shape = array.shape
    images = array.reshape(-1, *shape[-2:]) if len(shape) > 2 else array.reshape(-1, 1, shape[-1])
    return images[:MOST]


def image_of(x: HostArray) -> HostArray:
    """A sample as matplotlib takes it, its cells brought to 0..1 where they are not."""
    low, high = min(0.0, float(x.min())), max(1.0, float(x.max()))
    scaled = (x - low) / (high - low)
    return scaled.transpose(1, 2, 0) if len(x) == 3 else scaled[0]


def drawn(rows: Sequence[Row], title: str) -> Figure:
    """A figure of rows of planes, each row with a scale of its own: around 0, or from 0 on where nothing is below."""
    wide = max(len(row.planes) for row in rows)
    figure = new_figure(max(4.0, 0.75 * wide + 0.5), 0.4 + 1.05 * len(rows), "pictures need")
    figure.suptitle(title, fontsize=10)
    for n, (name, images) in enumerate(rows):
        most = float(np.abs(images).max()) or 1.0
        signed = bool((images < 0).any())
        for m, image in enumerate(images):
            axes = figure.add_subplot(len(rows), wide, n * wide + m + 1)
            axes.imshow(image, cmap=SIGNED if signed else PICTURE, vmin=-most if signed else 0, vmax=most, aspect="auto"
                        if min(image.shape) == 1 else "equal", interpolation="nearest")  # fmt: skip
            axes.set_axis_off()
            if m == 0:
                axes.set_title(" ", fontsize=8)  # room for the name, which would widen its column by itself
                place: Any = {"xycoords": "axes fraction", "xytext": (0, 6), "textcoords": "offset points"}
                axes.annotate(printable(name), (0, 1), fontsize=8, **place).set_in_layout(False)
    return figure


def frame_of(kernel: HostArray, epoch: int) -> Any:
    """One kernel's filters as a picture of Pillow's, enlarged, with the epoch's number: a frame of a film."""
    from PIL import Image, ImageDraw

    images = planes(kernel)
    most = float(np.abs(images).max()) or 1.0
    columns = min(len(images), 8)
    size = max(4, 48 // max(images.shape[1:]))
    h, w = images.shape[1] * size + 4, images.shape[2] * size + 4
    film = Image.new("RGB", (columns * w, ceil(len(images) / columns) * h + 16), "white")
    for n, image in enumerate(images):
        share = np.clip(image / most, -1, 1)[..., None]
        ends = np.where(share < 0, np.array([33, 102, 172]), np.array([178, 60, 20]))
        colours = (246 + (ends - 246) * np.abs(share)).astype("uint8")
        tile = Image.fromarray(colours).resize((w - 4, h - 4), Image.Resampling.NEAREST)
        film.paste(tile, (n % columns * w, n // columns * h + 16))
    ImageDraw.Draw(film).text((2, 2), f"epoch {epoch}", fill="black")
    return film


def _by(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
