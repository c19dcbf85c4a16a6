"""The package's description: README.md, as it reads where the package was found by its name and no file lies beside it.

There is no public address of the project to link to: what README links to is named by its place in the source
distribution. What it installs from the folder is installed by name.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"\[([^\]]+)\]\((?![a-z]+:)([^)\s]+)\)")
EXTRAS = re.compile(r'(?<!-e )"\.\[')
"""Those of the package, but where it is installed to be changed."""
SOURCE = """
Files that are named here, such as docs/data.md, lie in the source distribution, and `pip install -e` wants its folder.
"""


class Description(MetadataHookInterface):
    """Hatchling calls `update` whenever it makes metadata."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Enter the description."""
        text = description(Path(self.root, "README.md").read_text("utf-8"))
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


def description(readme: str) -> str:
    """What an index shows of a README."""
    title, _, rest = readme.partition("\n")
    text = EXTRAS.sub('"xcnn[', LINK.sub(named, rest))
    return f"{title}\n{SOURCE}{text.replace('pip install . ', 'pip install xcnn ')}"


def named(link: re.Match[str]) -> str:
    """A link as text: its words, and where they are not the file's name, that too."""
    words, target = link[1], link[2].partition("#")[0]
    return words if not target or words.strip("`") == target else f"{words} ({target})"
