"""Predictions, ours in turns with those of PyTorch, ONNX Runtime and OpenVINO, all from the same weights.

The nets reach the last two as ONNX files, which PyTorch writes of its twins, in evaluation, with constants folded. All
sides are given images that lie in their order already, and the shape of the batch before the first call.
"""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np

from xcnn.backends.contract import Backend
from xcnn.bench.agreement import alike
from xcnn.bench.cases import Call, Ledger, StepCase
from xcnn.bench.timing import Times, alternate, best
from xcnn.core import tree
from xcnn.errors import MissingDependency, OptionError
from xcnn.model.summary import count
from xcnn.training.state import HostArray

PEERS = ("torch", "onnxruntime", "openvino")
BATCHES = (1, 8, 64)
OPSET = 20
"""Of ONNX: the first that has GELU."""
LIMIT = 1e-3
"""The largest difference of two outputs, by the largest cell, that rounding explains, Winograd's convolutions too."""


@dataclass(frozen=True)
class PredictionResult:
    """A prediction's times, ours and each peer's by its name.

    Parameters
    ----------
    ways
        how PyTorch was fastest
    flop
        additions and multiplications of the correlations and matrix products
    differences
        of each peer's output and ours, by the largest cell; none where PyTorch pads otherwise than we do
    """

    ours: Times
    theirs: Mapping[str, Times]
    ways: Mapping[str, str]
    flop: int
    differences: Mapping[str, float]

    def ratio_to(self, peer: str) -> float | None:
        """The peer's median by ours: above 1 where ours takes less time."""
        return self.theirs[peer].median / self.ours.median if peer in self.theirs else None

    @property
    def ratio(self) -> float | None:
        """The same for the fastest peer."""
        return min((times.median / self.ours.median for times in self.theirs.values()), default=None)

    @property
    def gflops(self) -> float:
        """Ours, 1e9 additions and multiplications a second, at the median."""
        return self.flop / self.ours.median / 1e9

    @property
    def differs(self) -> str:
        """Which peers compute something else; empty if none does."""
        return ", ".join(f"{peer}'s y by {d:.1e}" for peer, d in self.differences.items() if not d <= LIMIT)

    def to_dict(self, ceiling: float) -> dict[str, Any]:
        """The result as plain values, for JSON; the ceiling is in GFLOP/s."""
        peers = {
            peer: {**times.to_dict(), **({"way": self.ways[peer]} if peer in self.ways else {})}
            for peer, times in self.theirs.items()
        }
        rates = {"gflop": self.flop / 1e9, "gflops": self.gflops, "of_ceiling": self.gflops / ceiling}
        ratios = {f"ratio_to_{peer}": self.ratio_to(peer) for peer in self.theirs}
        return {"ours": self.ours.to_dict(), **peers, "ratio": self.ratio, **ratios, **rates, "differs": self.differs}


def present(asked: str | None) -> tuple[str, ...]:
    """The peer that was asked for, else those that are installed.

    Raises
    ------
    OptionError
        X104, for another name.
    MissingDependency
        X601, where the peer that was asked for is not installed.
    """
    if asked not in (None, *PEERS):
        raise OptionError("X104", f"--predict --against takes {', '.join(PEERS)}; got {asked!r}.")
    if asked and (lacking := missing(asked)):
        listed = " and ".join(lacking)
        hint = f"pip install {' '.join(lacking)}"
        raise MissingDependency("X601", f"predictions beside {asked} need {listed}.", hint=hint)
    return (asked,) if asked else tuple(peer for peer in PEERS if not missing(peer))


def missing(peer: str) -> list[str]:
    """Packages that a peer needs and that are not installed: all are given their nets by PyTorch, two as ONNX files."""
    needed = dict.fromkeys(("torch", *(() if peer == "torch" else ("onnx",)), peer))
    return [name for name in needed if find_spec(name) is None]


def versions(peers: tuple[str, ...]) -> dict[str, str]:
    """Of the peers."""
    return {peer: version(peer) for peer in peers}


def compare_predictions(
    case: StepCase, backend: Backend, peers: tuple[str, ...], seconds: float, threads: int
) -> tuple[PredictionResult, int]:
    """Time `predict` of the frozen model on a batch beside the peers; the result, and how many parameters it has."""
    model = case.model(backend)
    x, _ = case.data(*model.output_shape)
    made: dict[str, Call] = {"xcnn": partial(model.frozen().predict, x, batch_size=case.batch)}
    ways: dict[str, str] = {}
    if peers:
        from xcnn.bench import torch_side

        twin = torch_side.twin(case.net, tree.map(backend.to_numpy, model.weights)).eval()
        if "torch" in peers:
            layouts = {name: torch_side.prediction(deepcopy(twin), x, name) for name in torch_side.LAYOUTS}
            ways["torch"], made["torch"] = best(layouts)
        runtimes = {"onnxruntime": on_onnxruntime, "openvino": on_openvino}
        file = onnx_file(twin, x) if {*runtimes} & {*peers} else b""
        made |= {peer: runtimes[peer](file, x, threads) for peer in peers if peer in runtimes}
    ours, *outputs = (np.array(call(), dtype="float64") for call in made.values())
    scale = np.max(np.abs(ours))
    apart = (float(np.max(np.abs(y - ours)) / scale) if y.shape == ours.shape else np.inf for y in outputs)
    differences = dict(zip([*made][1:], apart, strict=True)) if alike(case.net) else {}
    times = dict(zip(made, alternate([*made.values()], seconds), strict=True))
    flop = 2 * case.batch * sum(Ledger(case.net, case.input_shape).products)
    return PredictionResult(times.pop("xcnn"), times, ways, flop, differences), count(model.weights)


def with_batches(cases: list[StepCase]) -> list[StepCase]:
    """Each net once with each of BATCHES."""
    nets = {case.name: case for case in cases}
    return [replace(case, batch=batch) for case in nets.values() for batch in BATCHES]


def onnx_file(twin: Any, x: HostArray) -> bytes:
    """The twin as PyTorch's exporter without further packages writes it, for batches of this size."""
    from xcnn.bench.torch_side import torch

    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is the older of two exporters
        torch.onnx.export(twin, (torch.tensor(x),), file, dynamo=False, opset_version=OPSET, input_names=["x"])
    return file.getvalue()


def on_onnxruntime(file: bytes, x: HostArray, threads: int) -> Call:
    """ONNX Runtime's prediction."""
    runtime: Any = import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    session = runtime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})[0]


def on_openvino(file: bytes, x: HostArray, threads: int) -> Call:
    """OpenVINO's prediction, in float32 as all others; at its import it would fork, to tell its makers."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    core = import_module("openvino").Core()
    how = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(core.read_model(file), "CPU", how).create_infer_request()
    return lambda: request.infer({0: x}, share_inputs=True, share_outputs=True)[0]
