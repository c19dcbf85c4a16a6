"""A figure that shows itself in a notebook, without pyplot; imported only where matplotlib is wanted."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.figure import Figure as Base

from xcnn.core.files import check_path, write_whole
from xcnn.errors import OptionError, short


class Figure(Base):
    """Matplotlib's own, with the picture that notebooks ask for."""

    def _repr_png_(self) -> bytes:
        return self.rendered("png")

    def rendered(self, kind: str) -> bytes:
        """The figure as a file of this format."""
        buffer = io.BytesIO()
        try:
            self.savefig(buffer, format=kind)
        except ValueError as error:
            raise OptionError("X104", f"the figure can't be written as {short(kind)}: {error}") from error
        return buffer.getvalue()

    def write(self, path: str | Path) -> None:
        """Write it to a file, whole or not at all; without an ending to its name as PNG."""
        path = Path(path)
        path = path if path.suffix else path.with_name(f"{path.name}.png")
        check_path(path)
        write_whole(path, self.rendered(path.suffix[1:].lower()))
