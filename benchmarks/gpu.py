"""All that is to be known of the CuPy backend on a GPU, in one run of minutes: is it right, and how fast is it?

    python benchmarks/gpu.py --out FOLDER --smoke
    python benchmarks/gpu.py --out FOLDER [--minutes 9] [--parts machine,steps] [--data-dir FOLDER] [--dry-run]
    python benchmarks/gpu_tables.py FOLDER

--smoke asks in a minute and a half whether the rest is worth its time, and ends with status 1 where it is not. A part
is a list of tasks: one that fails leaves its traceback and the next one runs, and a part whose time is up leaves its
rest undone. What a part did not need is left to those after it. After --minutes all is over: a task at work is cut.
Each task that is done is a line of FOLDER/gpu.jsonl (of smoke.jsonl with --smoke), so that a run that is killed keeps
what it had; gpu_tables.py makes tables of it. With --dry-run only the first task of each part is done, which on a
machine without a GPU ends where it would first use one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from on_gpu.machine import machine
from on_gpu.nets import capture, nets
from on_gpu.plan_times import plan_times
from on_gpu.plans import algorithms, plans, primitives
from on_gpu.run import Log, ended_after, run
from on_gpu.session import Part, Session
from on_gpu.smoke import smoke
from on_gpu.speed import correlations, host, mnist, steps

PARTS: dict[str, tuple[Part, float]] = {
    "machine": (machine, 20),
    "primitives": (primitives, 20),
    "algorithms": (algorithms, 10),
    "nets": (nets, 20),
    "capture": (capture, 35),
    "steps": (steps, 180),
    "plans": (plans, 40),
    "correlations": (correlations, 60),
    "mnist": (mnist, 25),
    "host": (host, 5),
    "plan-times": (plan_times, 25),
}
"""Each part by its name, in the order in which they are done, and its share of the time."""
SMOKE_MINUTES = 1.5


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--smoke", action="store_true", help="only the smoke test, in a minute and a half")
    parser.add_argument("--minutes", type=float, help="that all parts may take together; by default 9")
    parser.add_argument("--parts", default=",".join(PARTS), help="some of them, by commas")
    parser.add_argument("--data-dir", type=Path, metavar="FOLDER", help="where MNIST's files lie, or XCNN_DATA_DIR")
    parser.add_argument("--backend", default="cupy")
    parser.add_argument("--dry-run", action="store_true", help="the first task of each part, no more")
    options = parser.parse_args()
    names = options.parts.split(",")
    if not set(names) <= set(PARTS):
        parser.error(f"there are the parts {', '.join(PARTS)}")
    if options.minutes is not None and not options.minutes > 0:
        parser.error(f"--minutes must be above 0; got {options.minutes}")
    parts = {"smoke": (smoke, 1.0)} if options.smoke else {name: PARTS[name] for name in names}
    minutes = options.minutes or (SMOKE_MINUTES if options.smoke else 9.0)
    options.out.mkdir(parents=True, exist_ok=True)
    log = Log(options.out / ("smoke.jsonl" if options.smoke else "gpu.jsonl"))
    with ended_after(minutes):
        right = run(Session(options.backend, data_dir=options.data_dir), parts, minutes, log, options.dry_run)
    print(log.path, file=sys.stderr)
    if options.smoke and not right:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
