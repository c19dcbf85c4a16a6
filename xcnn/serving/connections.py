"""Connections that are given up where their sender is slow, for uvicorn."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Any


def impatient(seconds: float) -> type:
    """The class of connections that end where no answer has gone out for so long: a protocol for uvicorn's `http`.

    uvicorn waits without end for a header, for the rest of one, and for who does not read what is answered; and each
    connection counts in its `limit_concurrency`, so that some hundred of them that do nothing keep all others out.

    Parameters
    ----------
    seconds
        from the connection's beginning, or from an answer, to the end of the next answer
    """
    base: Any = import_module("uvicorn.protocols.http.h11_impl").H11Protocol

    class Impatient(base):  # type: ignore[misc]
        late: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self.expect()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if self.late:
                self.late.cancel()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self.expect()

        def expect(self) -> None:
            """Wait from now on."""
            if self.late:
                self.late.cancel()
            self.late = self.loop.call_later(seconds, self.transport.abort)

    return Impatient
