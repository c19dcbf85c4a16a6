"""Peak memory of 20 training steps, xcnn's and PyTorch's: python benchmarks/memory.py [NAME:BATCH ...].

Each side runs each net in a process of its own. The peak is what the operating system counted as resident; the part of
the steps is what came above the peak of the imports: data, weights, activations, and code that was compiled. PyTorch's
process also imports xcnn, without a backend, for the net and its initial weights.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys

from xcnn.bench.cases import STEPS, picked, step_call
from xcnn.core.random import generator

SIDES = ("xcnn", "torch")
COUNT = 20
UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in which the operating system counts."""


def peak() -> float:
    """The most memory that this process has had resident, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT / 2**20


def make_steps(side: str, choice: str, backend: str | None) -> tuple[float, float]:
    """Peaks of this process after its imports, and after the steps, in MiB."""
    case = picked(choice)
    if side == "xcnn":
        import xcnn

        chosen = xcnn.get_backend() if backend is None else xcnn.backend(backend)
        imports = peak()
        model = case.model(chosen)
        call = step_call(model, *case.data(model.output_shape[0]))
    else:
        from xcnn.bench import torch_side

        imports = peak()
        weights, (outputs,) = case.net.init(generator(0), case.input_shape)
        twin = torch_side.twin(case.net, weights)
        call = torch_side.step_call(twin, case.loss, case.optimizer, *case.data(outputs), "channels_last", "fused")
    for _ in range(COUNT):
        call()
    return imports, peak()


def measure(side: str, choice: str, backend: str | None) -> tuple[float, float]:
    """`make_steps` in a fresh process."""
    # A process begins with its parent's peak on Linux; this one has imported less than any that it starts.
    command = [sys.executable, __file__, "--side", side, choice, *(["--backend", backend] if backend else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    imports, after = json.loads(done.stdout)
    return imports, after


def main() -> None:
    """Print a table in Markdown, in MiB; as a process that was started for one side, its two peaks as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nets", nargs="*", default=STEPS, metavar="NAME:BATCH")
    parser.add_argument("--backend", help="numpy, cupy, ...")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(make_steps(options.side, options.nets[0], options.backend)))
        return
    print("| net:batch | xcnn, peak | torch, peak | torch / xcnn | xcnn, steps | torch, steps | torch / xcnn |")
    print("|---" * 7 + "|")
    for choice in options.nets:
        (xcnn_imports, xcnn_peak), (torch_imports, torch_peak) = (
            measure(side, choice, options.backend) for side in SIDES
        )
        ours, theirs = xcnn_peak - xcnn_imports, torch_peak - torch_imports
        print(f"| {choice} | {xcnn_peak:.0f} | {torch_peak:.0f} | {torch_peak / xcnn_peak:.2f} "
              f"| {ours:.0f} | {theirs:.0f} | {theirs / max(ours, 0.1):.2f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
