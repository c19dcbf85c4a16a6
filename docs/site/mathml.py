"""Formulas as MathML, which browsers draw by themselves: by the converter that docutils brings."""

from docutils.nodes import SkipNode as NodeDone
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging


def drawn(self, node, block):
    """Writes a formula; one that can't be converted is a warning, and stands as it was typed."""
    try:
        self.body.append(tex2mathml(node.astext(), as_block=block))
    except MathError as error:
        logging.getLogger(__name__).warning("no MathML of %r: %s", node.astext(), error, location=node)
        self.body.append(self.encode(node.astext()))


def in_line(self, node):
    """Within a line."""
    drawn(self, node, block=False)
    raise NodeDone


def in_block(self, node):
    """On lines of its own."""
    self.body.append('<div class="formula">')
    drawn(self, node, block=True)
    self.body.append("</div>\n")
    raise NodeDone


def setup(app):
    """Enter the renderer, which is the only one."""
    app.add_html_math_renderer("mathml", (in_line, None), (in_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
