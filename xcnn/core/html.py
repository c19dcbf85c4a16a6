"""What shows itself in a notebook: tables and notes as HTML. All text is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

WIDTH, HEIGHT = 240, 120
"""Of a picture of curves, in pixels."""
COLOURS = ("#26a", "#c40")
LARGEST = 1e300
"""What curves have, so that differences are finite too."""


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], words: int, notes: Iterable[str] = ()) -> str:
    """A table, its first `words` columns to the left and the others, numbers, to the right; notes below it."""

    def line(tag: str, cells: Sequence[str]) -> str:
        sides = ("left" if n < words else "right" for n in range(len(cells)))
        shown = (
            f'<{tag} style="text-align: {side}">{escape(cell)}</{tag}>' for side, cell in zip(sides, cells, strict=True)
        )
        return f"<tr>{''.join(shown)}</tr>"

    body = "".join(line("td", row) for row in rows)
    head = line("th", titles)
    return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>{''.join(note(text) for text in notes)}"


def note(text: str) -> str:
    """A line of text."""
    return f"<p>{escape(text)}</p>"


def curves(title: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """One or two lines in an SVG picture, their range and names below it; of what is not finite nothing is drawn."""
    finite = {name: [point for point in points if all(map(is_drawn, point))] for name, points in lines.items()}
    shown = {name: points for name, points in finite.items() if len(points) > 1}
    if not shown:
        return ""
    (first, last), (low, high) = ((min(v), max(v)) for v in zip(*chain(*shown.values()), strict=True))

    def place(x: float, y: float) -> str:
        up = (y - low) / ((high - low) or 1)
        return f"{(x - first) / ((last - first) or 1) * WIDTH:.1f},{(1 - up) * HEIGHT:.1f}"

    drawn, names = "", []
    for (name, points), colour in zip(shown.items(), COLOURS, strict=False):
        drawn += f'<polyline points="{" ".join(place(*p) for p in points)}" fill="none" stroke="{colour}"/>'
        names.append(f'<span style="color: {colour}">{escape(name)}</span>')
    told = escape(f"{title}, {low:.4g} to {high:.4g}")
    return (
        f'<figure style="display: inline-block; margin: 4px"><svg role="img" aria-label="{told}" '
        f'viewBox="-4 -4 {WIDTH + 8} {HEIGHT + 8}" width="{WIDTH}" height="{HEIGHT}">{drawn}</svg>'
        f"<figcaption>{told}: {', '.join(names)}</figcaption></figure>"
    )


def is_drawn(value: Any) -> bool:
    """Whether it is a number that a curve can have."""
    return isinstance(value, int | float) and abs(value) <= LARGEST


def escape(text: str) -> str:
    """The text as it stands between tags, and in an attribute between double quotes."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
