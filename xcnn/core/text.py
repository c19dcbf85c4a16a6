"""Words for people: sizes, and tables as lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def readable(size: float) -> str:
    """Bytes in the unit that reads best: 1.4 MiB."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} GiB"


def columns(rows: Iterable[Sequence[str]], words: int) -> list[str]:
    """Lines of a table, its first `words` columns to the left and the others, numbers, to the right."""
    table = [*rows]
    widths = [max(map(len, cells)) for cells in zip(*table, strict=True)]
    sides = "<" * words + ">" * (len(widths) - words)
    return ["  ".join(f"{cell:{side}{w}}" for cell, side, w in zip(row, sides, widths, strict=True)) for row in table]
