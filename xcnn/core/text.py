"""Words for people: sizes."""

from __future__ import annotations


def readable(size: float) -> str:
    """Bytes in the unit that reads best: 1.4 MiB."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} GiB"
