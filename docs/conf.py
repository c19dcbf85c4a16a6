"""The site: Sphinx on the Markdown pages as they are, the course executed, and all public names from their docstrings.

    sphinx-build -W --keep-going -c docs . build/site

It takes about 50 seconds of a processor, the course's six notebooks included.
It asks no network for anything, and neither does what it makes: formulas become MathML, fonts are the reader's own.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "site"))
os.environ["PYTHONWARNINGS"] = (
    "ignore:IProgress not found"  # in the course, what a library that it asks for says without ipywidgets
)

import xcnn

project = "xcnn"
author = copyright = "the xcnn developers"
release = xcnn.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "mathml", "public_names"]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/*.md", "docs/decisions/*.md", "docs/api/*.md", "docs/course/*"]
exclude_patterns = ["build", ".*", "benchmarks", "**/.ipynb_checkpoints"]

html_theme = "furo"
html_title = f"xcnn {release}"
html_additional_pages = {"index": "to_the_front.html"}
html_show_sphinx = False
html_copy_source = False
html_static_path = ["site/static"]
html_css_files = ["site.css"]
templates_path = ["site"]
pygments_style, pygments_dark_style = "friendly", "monokai"

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4
myst_url_schemes = ["http", "https", "mailto"]
nb_execution_mode = "force"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings tell what is given
autodoc_class_signature = "mixed"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_param = False
python_use_unqualified_type_names = True
add_module_names = False

HIDDEN = {"docs/api/README": "*", "docs/course/README": "*", "docs/decisions/README": "*"}
"""Pages whose lists of links are the table of what lies beside them; Sphinx wants to be told."""


def with_table(app, name, source):
    """Append the table that is not seen; to the front page that of the pages which it does not name."""
    if name in HIDDEN:
        source[0] += f"\n:::{{toctree}}\n:hidden:\n:glob:\n\n{HIDDEN[name]}\n:::\n"
    if name == root_doc:
        beside = sorted(page.stem for page in Path(__file__).parent.glob("*.md"))
        more = [page for page in beside if page != "index" and f"\n{page}\n" not in source[0]]
        source[0] += "\n:::{toctree}\n:caption: More\n:maxdepth: 1\n\n" + "\n".join(more) + "\n:::\n" if more else ""


def setup(app):
    """Enter it."""
    app.connect("source-read", with_table)
