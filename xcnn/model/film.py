"""Training as a film: a frame of a layer's kernels for each epoch."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xcnn.core.checks import check_whole
from xcnn.core.files import check_path, path_of, write_whole
from xcnn.errors import OptionError, short

if TYPE_CHECKING:
    from xcnn.model.model import Model
    from xcnn.training.history import History


class KernelFilm:
    """A callback that makes a GIF of how kernels change: the first frame before training, then one for each epoch.

    `model.fit(x, y, epochs=20, callbacks=xcnn.KernelFilm("film.gif"))`. The file is written when training is over,
    however it ends; each frame has a scale of its own, around 0.

    Parameters
    ----------
    path
        of the film, such as "film.gif"
    layer
        the layer's name; None is the first whose kernels are images
    milliseconds
        that each frame is shown

    Raises
    ------
    OptionError
        X104, for a path that is no GIF's, or a net without such a layer.

    Examples
    --------
    >>> xcnn.KernelFilm("film.gif", layer="conv1").milliseconds  # model.fit(x, y, callbacks=...)
    250
    """

    def __init__(self, path: str | Path, layer: str | None = None, milliseconds: int = 250) -> None:
        self.path: Path = path_of(path)
        self.layer: str | None = layer
        self.milliseconds: int = check_whole("milliseconds", milliseconds)
        if self.path.suffix.lower() != ".gif":
            hint = 'xcnn.KernelFilm("film.gif")'
            raise OptionError("X104", f"a film of kernels is a GIF; got {short(str(path))}.", hint=hint)
        self.frames: list[Any] = []

    def start(self, model: Model) -> None:
        """Training begins: the kernels as they are."""
        check_path(self.path)
        self.frames = []
        self._take(model, len(model.history))

    def __call__(self, model: Model, history: History) -> None:
        """An epoch is over."""
        self._take(model, len(history))

    def finish(self, model: Model, history: History) -> None:
        """Training is over: the film is written, whole."""
        if not self.frames:
            return
        first, *others = self.frames
        file = io.BytesIO()
        first.save(file, "GIF", save_all=True, append_images=others, duration=self.milliseconds, loop=0, optimize=False)
        write_whole(self.path, file.getvalue())

    def _take(self, model: Model, epoch: int) -> None:
        from xcnn.model.pictures import frame_of, kernels_of, known

        there = dict(kernels_of(model.state.weights))
        if not there:
            raise OptionError("X104", "the net has no layer whose kernels are images.", hint="leave KernelFilm out.")
        kernel = there[next(iter(there)) if self.layer is None else known(self.layer, there)]
        self.frames.append(frame_of(model.backend.to_numpy(kernel), epoch))
