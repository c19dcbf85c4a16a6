"""What shows itself in a notebook: tables and notes as HTML. All text is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


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


def escape(text: str) -> str:
    """The text as it stands between tags, and in an attribute between double quotes."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
