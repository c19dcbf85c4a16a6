"""A figure that shows itself in a notebook, without pyplot; imported only where matplotlib is wanted."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure as Base

from xcnn.core import notebook
from xcnn.core.files import check_path, write_whole
from xcnn.errors import OptionError, short


class Figure(Base):
    """Matplotlib's own, which shows itself once in the cell that made it, whatever the cell ends in."""

    shown: bool

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.shown = False
        if notebook.kernel() is not None:
            notebook.after_cell(lambda: None if self.shown else self._ipython_display_())

    def _ipython_display_(self) -> None:
        """Show it in a notebook: before all other ways, of which pyplot adds one."""
        self.shown = True
        notebook.show("Image", self.rendered("png"))

    def show(self, warn: bool = True) -> None:
        """Show it: in a notebook in the cell, in a script in a window, which holds the script until it is closed.

        Parameters
        ----------
        warn
            whether it is told, on stderr, where no window can be opened
        """
        if notebook.kernel() is not None:
            self._ipython_display_()
            return
        import matplotlib
        from matplotlib import pyplot
        from matplotlib._pylab_helpers import Gcf

        made: Any = pyplot._get_backend_mod()
        if made.FigureCanvas.required_interactive_framework is None:
            if warn:
                told = f"no window can be opened here (matplotlib's backend is {matplotlib.get_backend()})"
                print(f'{told}: figure.write("figure.png") writes a file', file=sys.stderr)
            return
        number = max([0, *pyplot.get_fignums()]) + 1
        Gcf._set_new_active_manager(made.new_figure_manager_given_figure(number, self))
        pyplot.show()

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
