"""A directive that documents all public names of a module; and docstrings as Sphinx reads them.

    :::{public-names} xcnn.layers
    :members: no
    :::

A name that `xcnn` has too goes by that, as one writes it: xcnn.Conv2D. Modules are left out, and of `xcnn` itself what
another page has.
"""

import re
from collections.abc import Mapping
from importlib import import_module
from inspect import isclass, ismodule, isroutine

from docutils.parsers.rst import Parser, directives
from docutils.utils import new_document
from sphinx.util.docutils import SphinxDirective

import xcnn

ELSEWHERE = ("layers", "optimizers", "augment")
"""Modules whose names `xcnn` has too, and which have pages of their own."""
IN_TICKS = re.compile(r"(`+)(.+?)\1")
MARKS = re.compile(r"([*|]|(?<=\w)_(?=\W|$))")


def public_names(module):
    """What a page about a module documents: full names, with the things themselves."""
    home = import_module(module)
    others = {name for each in ELSEWHERE for name in getattr(xcnn, each).__all__} if home is xcnn else ()
    for name in sorted(home.__all__, key=lambda name: (name.isupper(), name.lower())):
        thing = getattr(home, name)
        if not ismodule(thing) and name not in others:
            short = getattr(xcnn, name, None) is thing and name in xcnn.__all__
            yield f"{'xcnn' if short else module}.{name}", thing


class PublicNames(SphinxDirective):
    """The directive."""

    required_arguments = 1
    option_spec = {"members": directives.unchanged}  # noqa: RUF012 - docutils reads it so

    def run(self):
        """What autodoc makes of each name."""
        members = self.options.get("members") != "no"
        lines = [line for name, thing in public_names(self.arguments[0]) for line in told(name, thing, members)]
        document = new_document(self.env.doc2path(self.env.docname), self.state.document.settings)
        Parser().parse("\n".join(lines), document)
        return list(document.children)


def told(name, thing, members):
    """The lines of reStructuredText for a name."""
    if isclass(thing):
        return [f".. autoclass:: {name}", *(["   :members:"] if members else []), ""]
    if isroutine(thing):
        return [f".. autofunction:: {name}", ""]
    text = ", ".join(f"``{key}``" for key in thing) if isinstance(thing, Mapping | tuple) else f"``{thing}``"
    return [f".. py:data:: {name}", "", f"   {text}", ""]


def as_rst(app, what, name, obj, options, lines):
    """Docstrings are prose with `code` in it: what reStructuredText would take for marks is escaped."""
    if what in ("attribute", "data", "property"):
        lines[:0] = ["..", ""]  # a comment: napoleon takes what stands before the first line's colon for a type
    lines[:] = [line if line.lstrip().startswith((">>>", "...")) else escaped(line) for line in lines]


def escaped(line):
    """A line whose backticks are literals, and whose other marks are letters."""
    parts, at = [], 0
    for found in IN_TICKS.finditer(line):
        parts += [MARKS.sub(r"\\\1", line[at : found.start()]), f"``{found[2]}``"]
        at = found.end()
    return "".join([*parts, MARKS.sub(r"\\\1", line[at:])])


def setup(app):
    """Enter the directive."""
    app.add_directive("public-names", PublicNames)
    app.connect("autodoc-process-docstring", as_rst, priority=400)  # before napoleon
    return {"parallel_read_safe": True, "parallel_write_safe": True}
