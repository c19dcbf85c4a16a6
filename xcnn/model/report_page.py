"""A report as HTML: for a notebook, which has its own look, and as a page of its own, which needs no network."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from xcnn.core import html
from xcnn.errors import counted
from xcnn.model.report_counts import TITLES, Counted

if TYPE_CHECKING:
    from xcnn.training.state import HostArray

WIDE = 40
"""Classes beyond which no matrix is shown."""
UPRIGHT = 12
"""Classes beyond which the matrix's columns have their names from top to bottom."""
PAIRS = 10

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
:root {{ --line: #ddd; --ground: #fff; --faint: #6b6b6b; }}
@media (prefers-color-scheme: dark) {{ :root {{ --line: #444; --ground: #121212; --faint: #9a9a9a; }} }}
body {{ font: 16px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }}
body {{ background: var(--ground); }}
h1 {{ font-size: 1.8rem; margin: 0; }}
h2 {{ font-size: 1.15rem; margin: 2.2rem 0 0.6rem; }}
p {{ margin: 0.3rem 0; }}
.note {{ color: var(--faint); font-size: 0.9rem; max-width: 60rem; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
td, th {{ padding: 0.2rem 0.6rem; border-bottom: 1px solid var(--line); }}
tbody tr > :first-child {{ position: sticky; left: 0; background: var(--ground); font-weight: normal; }}
@media (min-width: 700px) {{ tbody th {{ white-space: nowrap; }} }}
.none {{ color: var(--faint); }}
.pictures {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); gap: 1.2rem 1rem; }}
figure {{ margin: 0 !important; width: auto !important; }}
@media (max-width: 500px) {{ td, th {{ padding: 0.2rem 0.35rem; font-size: 0.85rem; }} h1 {{ font-size: 1.4rem; }} }}
</style></head>
<body><main>{body}</main></body></html>
"""


def page(report: Counted) -> str:
    """A whole page."""
    low, high = report.interval
    told = (
        f"{low:.2%} to {high:.2%} with 95 % confidence, if other samples are of the same kind. "
        f"Loss {report.loss:.4f} on {counted(report.samples, 'sample')}."
    )
    head = f"<h1>Accuracy {report.accuracy:.2%}</h1>{html.note(told)}"
    return PAGE.format(title=html.escape(report.headline), body=head + sections(report))


def sections(report: Counted) -> str:
    """The tables and pictures."""
    parts = [section("Class by class", scrolled(html.table(TITLES, report.rows(), words=1), "class by class"))]
    if len(report.classes) <= WIDE:
        note = "A row for each class: how many of its samples were taken for which, and in colour their share."
        parts.append(section("What was taken for what", scrolled(matrix(report), "what was taken for what"), note))
    if report.confused:
        pairs = [
            (report.names[p.true], report.names[p.taken], f"{p.times:,}", f"{p.share:.1%}")
            for p in report.confused[:PAIRS]
        ]
        table = html.table(("class", "taken for", "samples", "of the class"), pairs, words=2)
        parts.append(section("Most confused", scrolled(table, "most confused")))
    if report.surprises:
        note = "The samples whose own class was given the least probability, p."
        pictures = "".join(shown(report, n) for n in range(len(report.surprises)))
        parts.append(section("Largest losses", f'<div class="pictures">{pictures}</div>', note))
    return "".join(parts)


def section(title: str, content: str, note: str = "") -> str:
    """A heading, a line that tells what is seen, and that."""
    told = f'<p class="note">{html.escape(note)}</p>' if note else ""
    return f'<section><h2 style="font-size: 1.15em">{html.escape(title)}</h2>{told}{content}</section>'


def scrolled(table: str, name: str) -> str:
    """A table that is moved by itself where it is wider than the window, by keys too."""
    return f'<div class="wide" style="overflow-x: auto" role="region" tabindex="0" aria-label="{name}">{table}</div>'


def matrix(report: Counted) -> str:
    """The confusion matrix, its cells the darker the larger their share of the row."""
    upright = "; writing-mode: vertical-rl; white-space: nowrap" if len(report.classes) > UPRIGHT else ""
    head = "".join(
        f'<th scope="col" style="text-align: right; vertical-align: bottom">'
        f'<span style="display: inline-block{upright}">{html.escape(name)}</span></th>'
        for name in report.names
    )
    corner = '<th scope="col" style="text-align: left; vertical-align: bottom">true \\ taken for</th>'
    lines = []
    for i, (name, row) in enumerate(zip(report.names, report.confusion, strict=True)):
        cells = "".join(cell(int(n), int(n) / max(int(report.support[i]), 1), i == j) for j, n in enumerate(row))
        lines.append(f'<tr><th scope="row" style="text-align: left">{html.escape(name)}</th>{cells}</tr>')
    return f"<table><thead><tr>{corner}{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def cell(count: int, share: float, right: bool) -> str:
    """One count of the matrix, in blue where it is right and in red where it is not."""
    if not count:
        return '<td class="none" style="text-align: right">0</td>'
    colour = f"rgba({'40, 120, 200' if right else '220, 60, 40'}, {share * 0.6:.2f})"
    return f'<td style="text-align: right; background: {colour}">{count:,}</td>'


def shown(report: Counted, n: int) -> str:
    """One of the samples with the largest losses, with its picture where it is one."""
    each = report.surprises[n]
    text = html.escape(report.told(each))
    if report.images is None:
        return f"<p>{text}</p>"
    source = base64.b64encode(png(report.images[n])).decode()
    names = [html.escape(report.names[k]) for k in (each.true, each.taken)]
    what = names[0] if each.true == each.taken else f"<strong>{names[0]}</strong> taken for <strong>{names[1]}</strong>"
    style = "display: inline-block; width: 9em; margin: 0.3em; vertical-align: top; font-size: small"
    looks = f'alt="sample {each.sample}" style="width: 8em; image-rendering: pixelated"'
    picture = f'<img src="data:image/png;base64,{source}" {looks}>'
    caption = f"<figcaption>{what}<br>p&nbsp;=&nbsp;{each.probability:.2g}<br>sample&nbsp;{each.sample}</figcaption>"
    return f'<figure style="{style}">{picture}{caption}</figure>'


def png(image: HostArray) -> bytes:
    """An image (channels, height, width) as a file; cells beyond 0..1 are brought there from least to most."""
    from PIL import Image

    low, high = min(0.0, float(image.min())), max(1.0, float(image.max()))
    cells: Any = np.rint((image - low) / (high - low) * 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(cells[0] if len(cells) == 1 else cells.transpose(1, 2, 0)).save(file, "PNG")
    return file.getvalue()
