"""What was found, as Markdown: the lines of a run are read, of one that was killed too, and tables are made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xcnn.bench.cases import MAPS
from xcnn.bench.timing import geometric_mean

PRECISIONS = ("float32", "tf32", "bfloat16", "float16")


def report(path: Path) -> dict[str, Any]:
    """What a run's lines say, by part: "results", "errors" and "undone" tasks.

    A line that was cut when the run was killed is left out, and so is the part's end then: "undone" is empty.
    """
    found: dict[str, Any] = {"parts": {}}
    for line in path.read_text().splitlines():
        try:
            told = json.loads(line)
        except ValueError:
            continue
        if "part" in told:
            blank = {"results": {}, "errors": {}, "undone": [], "seconds": {}}
            enter(found["parts"].setdefault(told["part"], blank), told)
        else:
            found |= {name: value for name, value in told.items() if name != "parts"}
    return found


def enter(part: dict[str, Any], told: dict[str, Any]) -> None:
    """Add what a line tells of a part."""
    if "task" in told:
        kind = "results" if "result" in told else "errors"
        part[kind][told["task"]] = told.get("result", told.get("error"))
        part["seconds"][told["task"]] = told["seconds"]
    else:
        part |= {name: value for name, value in told.items() if name in ("about", "undone")}


def shortened(text: str) -> str:
    """At most as much of a text as fits into a few lines."""
    return text if len(text) <= 300 else f"{text[:300]} ..."


def summary(report: dict[str, Any]) -> str:
    """What was right and what not, then how fast, in Markdown."""
    parts = report["parts"]
    written = [*correctness(parts)]
    if parts.get("steps", {}).get("results"):
        written += ["", *step_table(parts["steps"]["results"])]
    if parts.get("correlations", {}).get("results"):
        written += ["", *correlation_table(parts["correlations"]["results"])]
    for precision, found in parts.get("mnist", {}).get("results", {}).items():
        reached = f"{found['accuracy'][-1]:.2%} after {len(found['epochs'])} epochs"
        written.append(f"MNIST, {precision}: {found['seconds']:.1f} s by the wall clock, {reached}")
    return "\n".join(written)


def correctness(parts: dict[str, Any]) -> Iterator[str]:
    """A line for each part: how many results are right, how many tasks failed; and a line for each of those."""
    for name, part in parts.items():
        checks = dict(checked(part["results"]))
        wrong = [label for label, check in checks.items() if not check["ok"]]
        counts = f"{len(part['results'])} tasks done, {len(part['errors'])} failed, {len(part['undone'])} left"
        seconds = sum(part.get("seconds", {}).values())
        right = f"; {len(checks) - len(wrong)} of {len(checks)} are right" if checks else ""
        yield f"{name}: {counts}, {seconds:.0f} s{right}"
        yield from (f"  WRONG {label}: {checks[label]['worst']}" for label in wrong)
        yield from (f"  FAILED {task}: {shortened(error['message'])}" for task, error in part["errors"].items())


def checked(results: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """The results, however deep, that say whether they are right."""
    for name, result in results.items():
        if isinstance(result, dict):
            label = f"{path}{name}"
            if "ok" in result:
                yield label, result
            yield from checked(result, f"{label}, ")


def step_table(results: dict[str, Any]) -> Iterator[str]:
    """A row for each net and precision."""
    yield "| net:batch, precision | xcnn, ms | as | torch, ms | as | torch / xcnn | eager | graphed | MiB | torch |"
    yield "|---" * 10 + "|"
    for name, row in results.items():
        ours, theirs, memory = row["ours"], row["torch"], row["memory_bytes"] or {}
        taken = (f"{memory[side] / 2**20:.0f}" if side in memory else "" for side in ("xcnn", "torch"))
        ratios = (row["ratio"], row["ratio_to_eager"], row["ratio_to_graphed"])
        cells = (
            name, f"{ours['median_ms']:.4g}", ours["way"], f"{theirs['median_ms']:.4g}", theirs["way"],
            *("" if ratio is None else f"{ratio:.2f}" for ratio in ratios), *taken,
        )  # fmt: skip
        yield f"| {' | '.join(cells)} |"


def correlation_table(results: dict[str, Any]) -> Iterator[str]:
    """A row for each precision: the mean ratio of each map, and the worst of all with its name."""
    yield f"| convolutions of ResNet-18, torch / xcnn | {' | '.join(MAPS)} | worst |"
    yield "|---" * (len(MAPS) + 2) + "|"
    for precision in PRECISIONS:
        rows = {name: row for name, row in results.items() if name.endswith(f", {precision}")}
        if rows:
            mean = (f"{geometric_mean([row[name]['ratio'] for row in rows.values()]):.2f}" for name in MAPS)
            ratios = {f"{label}, {name}": row[name]["ratio"] for label, row in rows.items() for name in MAPS}
            worst = min(ratios, key=lambda label: ratios[label])
            yield f"| {precision} | {' | '.join(mean)} | {ratios[worst]:.2f}: {worst} |"
