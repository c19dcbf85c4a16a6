"""The page itself: its parts put together, with a policy that forbids any connection."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from xcnn.core.html import escape

SCRIPTS = (
    "numbers.js", "correlation.js", "activations.js", "operations.js", "containers.js", "losses.js", "network.js",
    "dom.js", "map.js", "roles.js", "state.js", "picture.js", "overview.js", "rotation.js", "standardised.js",
    "window.js", "geometry.js", "gradients.js", "differences.js", "loss_section.js", "chain.js", "descent.js",
    "drawing.js", "main.js",
)  # fmt: skip
"""In the order in which they stand: each uses those before it."""


def page(title: str, data: Mapping[str, Any]) -> str:
    """The page as one text.

    Parameters
    ----------
    title
        of the page
    data
        plain values, as `explanation.page_data` gives them
    """
    script, style = scripts(), part("page.css")
    sources = f"script-src '{digest(script)}'; style-src '{digest(style)}'"
    policy = f"default-src 'none'; {sources}; base-uri 'none'; form-action 'none'"
    return part("page.html").format(
        title=escape(title), policy=escape(policy), style=style, script=script, data=json_in_html(data)
    )


@cache
def part(name: str) -> str:
    """A file of the page."""
    return files("xcnn.explainer").joinpath("page", name).read_text("utf-8")


@cache
def scripts() -> str:
    """All scripts as one, in a function of their own."""
    body = "\n".join(part(name) for name in SCRIPTS)
    return f'(() => {{\n"use strict";\n{body}\n}})();\n'


def digest(text: str) -> str:
    """What a content security policy names a script or a style by."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def json_in_html(data: Any) -> str:
    """JSON that can stand in a script element: nothing in it ends the element, or begins another."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text
