"""Handles: cuDNN's state for one GPU and one host thread."""

from __future__ import annotations

import threading

from xcnn_cupy import shared_library
from xcnn_cupy.cudnn.library import Library


class Handle(shared_library.Handle):
    """cuDNN's state for one GPU and one host thread, and the stream that it puts work on."""

    stream = 0

    def on(self, stream: int) -> int:
        """The handle's address, its work put in line on a CUDA stream from now on."""
        if stream != self.stream:  # setting it anew asks the driver several questions each time
            self.library.check(self.library.function("SetStream")(self.address, stream), "set the stream")
            self.stream = stream
        return self.address


class Handles:
    """A handle for each host thread, all for one GPU, which is CUDA's current device when they are asked for."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self._mine = threading.local()

    def handle(self) -> Handle:
        """The one of this thread."""
        try:
            mine: Handle = self._mine.handle
        except AttributeError:
            mine = self._mine.handle = Handle(self.library)
        return mine
