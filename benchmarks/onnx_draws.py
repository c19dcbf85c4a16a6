"""How far xcnn's ONNX files round beside PyTorch's, over many drawn weights and samples.

    python benchmarks/onnx_draws.py resnet18 lenet ... [--draws 30] [--side 224] [--seconds 300]

Weights are drawn `--draws` times, or until the time is up, and for each of them batches of 1, 2 and 7 samples. Of each
batch the largest difference to double precision is told in roundings of float32 (2^-23) of the largest output: that of
xcnn's file and of the one with its norms folded, both in onnxruntime, of PyTorch, and of PyTorch's file in the same
onnxruntime with the same options. A ratio is one of means over all batches, with the interval of 95 of 100 such ratios
of weights drawn again from those (a bootstrap in pairs). What names no net names rows of the table of layers in tests/:
"Softsign" those that have it in their text, and "(" all.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "tests"))

import onnx_rounding
from onnx_models import built

import xcnn
from xcnn.core import tree

NAMES = ("file", "folded", "torch", "torch_file")
PAIRS = (("file", "torch_file"), ("file", "torch"), ("folded", "torch_file"), ("folded", "torch"))
AGAIN = 4000
"""How often weights are drawn again of those that there are."""


def named(name, side):
    """Functions of a seed, by name, each of which gives a net and its twin."""
    if name in onnx_rounding.PUBLISHED:
        return {name: lambda seed: onnx_rounding.published(name, side, seed)}
    if name in xcnn.nets.RECIPES:
        return {name: lambda seed: onnx_rounding.recipe(name, seed)}
    rows = {f"{layer!r:.80} {shape}": row(layer, shape, function) for layer, shape, function in onnx_rounding.LAYERS}
    return {text: drawn for text, drawn in rows.items() if name in text}


def row(layer, shape, function):
    """Such a function of a row of the table of layers."""

    def drawn(seed):
        model = built(layer, shape, seed)
        return model, onnx_rounding.Twin(function, dict(tree.items(model.weights)))

    return drawn


def roundings(drawn, draws, batches, first, seconds):
    """An array (weights, batches, NAMES), nan where PyTorch has no file."""
    found, start = [], time.monotonic()
    for seed in range(first, first + draws):
        with tempfile.TemporaryDirectory() as folder:
            compared = onnx_rounding.Compared(*drawn(seed), folder, folded=True)
            each = [compared.roundings(100 * seed + place, n) for place, n in enumerate(batches)]
        found.append([[one.get(name, np.nan) for name in NAMES] for one in each])
        if time.monotonic() - start > seconds:
            break
    return np.array(found)


def ratio(found, a, b):
    """The ratio of two means, and its interval."""
    ours, theirs = (found[:, :, NAMES.index(name)].sum(axis=1) for name in (a, b))
    picked = np.random.default_rng(0).integers(len(found), size=(AGAIN, len(found)))
    low, high = np.percentile(ours[picked].sum(axis=1) / theirs[picked].sum(axis=1), (2.5, 97.5))
    return f"{ours.sum() / theirs.sum():.3f} ({low:.3f} to {high:.3f})"


def told(name, found):
    """A line of the table."""
    means = " ".join(f"{mean:5.2f}" for mean in found.mean(axis=(0, 1)))
    pairs = " | ".join(f"{a}/{b} {ratio(found, a, b)}" for a, b in PAIRS if not np.isnan(found).any())
    return f"{name:15} {len(found):3} x {found.shape[1]} | {means} | {pairs}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("nets", nargs="+")
    parser.add_argument("--draws", type=int, default=30)
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 7])
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--seconds", type=float, default=np.inf, help="of each net, after which no weights are drawn")
    given = parser.parse_args()
    onnx_rounding.torch.set_num_threads(1)
    made = {text: drawn for name in given.nets for text, drawn in named(name, given.side).items()}
    print(f"weights x batches | means: {', '.join(NAMES)} | ratios of means", flush=True)
    for name, drawn in made.items():
        print(told(name, roundings(drawn, given.draws, given.batches, given.first, given.seconds)), flush=True)


if __name__ == "__main__":
    main()
