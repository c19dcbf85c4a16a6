"""A user's program, which `mypy --strict` takes as it is, and which runs."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

import xcnn
from xcnn.types import Array, Backward, Padding, PrecisionName, Row, Shape, Weights


def conv(filters: int, padding: Padding = "same") -> xcnn.Conv2D:
    return xcnn.Conv2D(filters, 3, padding=padding, kernel_initializer="he_normal", bias="untied")


@dataclass(frozen=True)
class Halve:
    """A layer of one's own."""

    def init(self, rng: np.random.Generator, input_shape: Shape) -> tuple[Weights, Shape]:
        return {}, input_shape

    def __call__(self, weights: Weights, x: Array, run: xcnn.layers.Run) -> tuple[Array, Backward]:
        def backward(dy: Array) -> tuple[Array, Weights]:
            return dy / 2, {}

        return x / 2, backward


def enough(model: xcnn.Model, history: xcnn.History) -> bool:
    row: Row = history.rows[-1]
    losses: list[float] = history["loss"]
    return row["loss"] < 0.01 and min(losses) < 0.01


def main(folder: Path) -> float:
    net = xcnn.Sequential(conv(4), xcnn.ReLU(), Halve(), xcnn.Flatten(), head=xcnn.Dense(2))
    rate = xcnn.schedules.Cosine(0.1, 8)
    model = xcnn.Model(net, (1, 6, 6), optimizer=xcnn.SGD(rate), loss="cross_entropy", dtype=np.float32, seed=1)
    x, y = np.random.default_rng(0).normal(size=(32, 1, 6, 6)).astype(np.float32), np.arange(32) % 2
    stop = xcnn.EarlyStopping("loss", patience=2, mode="min")
    history = model.fit(x, y, epochs=2, batch_size=8, callbacks=[stop, enough], progress="none")
    model.save(folder / "net.xcnn")
    precision: PrecisionName = "tf32" if model.dtype == "float64" else "float32"
    again = xcnn.Model.load(folder / "net.xcnn", layers={"Halve": Halve}, precision=precision)
    plane: Array = xcnn.correlate2d(x[0, 0], x[1, 0, :3, :3], mode="full")
    return history["loss"][-1] + float(again.predict(x).sum()) + float(plane.sum())
