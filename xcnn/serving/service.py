"""The service: POST /predict takes an image file and gives classes, GET /health and /metrics tell how it is.

Each answer is JSON. An error has the form {"error": {"code": "X207", "message": "...", "hint": "..."}}.
"""

from __future__ import annotations

import asyncio
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xcnn.errors import DataError, MissingDependency, XcnnError
from xcnn.model.image_files import Numbers, prepared
from xcnn.serving.batching import Batcher, FullError, Limits
from xcnn.serving.connections import impatient
from xcnn.serving.metrics import Metrics
from xcnn.serving.pictures import answer, check_classifier

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from xcnn.model.model import Model


@dataclass(frozen=True)
class Serving:
    """How a model is served.

    Parameters
    ----------
    limits
        of batches
    max_upload
        bytes of an image file
    seconds
        that a request may take, its upload included
    images
        how image files are read, options of `read_image`
    uploads
        bytes that all uploads under way may have together
    """

    limits: Limits = field(default_factory=Limits)
    max_upload: int = 1 << 24
    seconds: float = 30.0
    images: dict[str, Any] = field(default_factory=dict)
    uploads: int = 1 << 28


GONE = 499
"""The status of a request whose sender has gone before it was there whole: nginx's number."""


KEPT = 5
"""Seconds that a connection may stay without a request."""
AGAIN = "ask again in a second."


class RefusedError(Exception):
    """A request that is answered with this status."""

    status: int
    told: dict[str, str]

    def __init__(self, status: int, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.status, self.told = status, {"code": code, "message": message, "hint": hint}


class Service:
    """A model, its batches, and what is counted."""

    model: Model
    serving: Serving
    names: list[str]
    metrics: Metrics

    def __init__(self, model: Model, serving: Serving) -> None:
        self.model, self.serving = model.frozen(), serving
        self.names = check_classifier(model)
        self.batcher: Batcher | None = None
        self.held: int = 0
        self.metrics = Metrics(lambda: self.batcher.queue.qsize() if self.batcher else 0)

    def compute(self, samples: Numbers) -> Numbers:
        """The probabilities of samples: one that is not finite does not take the others with it."""
        fine = np.isfinite(samples).reshape(len(samples), -1).all(axis=1)
        rows = np.full((len(samples), len(self.names)), np.nan)
        if fine.any():
            rows[fine] = self.model.probabilities(samples[fine], batch_size=self.serving.limits.batch)
        return rows

    @asynccontextmanager
    async def running(self, app: object) -> AsyncIterator[None]:
        """While the service runs; at its end what waits is computed."""
        async with Batcher(self.compute, self.serving.limits, self.metrics.batches.add) as self.batcher:
            yield

    # What is asked.

    async def predict(self, request: Request) -> Response:
        """POST /predict: an image file as the body."""
        from starlette.requests import ClientDisconnect
        from starlette.responses import JSONResponse

        begin = time.monotonic()
        try:
            async with asyncio.timeout(self.serving.seconds):
                told, status = await self.classified(request), 200
        except TimeoutError:
            late = f"the answer would take more than {self.serving.seconds:g} seconds."
            told, status = {"error": {"code": "timeout", "message": late, "hint": ""}}, 504
        except ClientDisconnect:  # nobody is there to read the answer
            told, status = {}, GONE
        except RefusedError as error:
            told, status = {"error": error.told}, error.status
        except XcnnError as error:
            status = 422 if isinstance(error, DataError) else 500
            told = {"error": {"code": error.code, "message": error.summary, "hint": error.hint}}
        except Exception:
            self.counted(500, begin)
            raise
        self.counted(status, begin)
        return JSONResponse(told, status, headers={"Retry-After": "1"} if status == 503 else None)

    def counted(self, status: int, begin: float) -> None:
        """Count an answer to what began then."""
        self.metrics.requests[status] += 1
        self.metrics.seconds.add(time.monotonic() - begin)

    async def classified(self, request: Request) -> dict[str, Any]:
        """The answer on an upload."""
        x, how = await self.uploaded(request)
        if self.batcher is None:
            raise RefusedError(503, "starting", "the service has not begun yet.")
        try:
            row = await self.batcher.ask(x)
        except FullError:
            raise RefusedError(503, "busy", "too many images wait.", AGAIN) from None
        return answer(self.model, self.names, row, how, "this image")

    async def uploaded(self, request: Request) -> tuple[Numbers, str]:
        """The upload as the model takes it; its bytes count among those that are held until then."""
        pieces: list[bytes] = []
        try:
            await self.receive(request, pieces)
            return await asyncio.get_running_loop().run_in_executor(None, partial(self.decoded, pieces))
        finally:
            self.held -= sum(map(len, pieces))

    async def receive(self, request: Request, pieces: list[bytes]) -> None:
        """The upload's pieces, as far as they may go."""
        most, kind = self.serving.max_upload, request.headers.get("content-type", "")
        curl = "curl --data-binary @photo.png http://.../predict"
        if kind.lower().startswith("multipart/"):
            raise RefusedError(415, "form", "the body is the image file itself, not a form.", curl)
        promised, size = request.headers.get("content-length", "0"), 0
        large = promised.isdecimal() and (len(promised) > 18 or int(promised) > most)
        if not large:
            async for piece in request.stream():
                size += len(piece)
                if large := size > most:
                    break
                if self.held + len(piece) > max(self.serving.uploads, most):
                    raise RefusedError(503, "busy", "too many uploads are under way.", AGAIN)
                self.held += len(piece)
                pieces.append(piece)
        if large:
            raise RefusedError(413, "size", f"an image file may have {most:,} bytes.")
        if not size:
            raise RefusedError(400, "empty", "the body is empty.", curl)

    def decoded(self, pieces: list[bytes]) -> tuple[Numbers, str]:
        """An image decoded as a file of its own, which is gone then."""
        with tempfile.TemporaryDirectory(prefix="xcnn-serve-") as folder:
            path = Path(folder) / "image"
            with path.open("wb") as file:
                file.writelines(pieces)
            try:
                return prepared(self.model, path, self.serving.images)
            except DataError as error:
                error.message = error.message.replace(str(path), "the body")
                raise

    async def health(self, request: Request) -> Response:
        """GET /health"""
        from starlette.responses import JSONResponse

        told = {
            "status": "ok",
            "backend": self.model.backend.spec,
            "input": list(self.model.input_shape),
            "classes": self.names,
        }
        return JSONResponse(told)

    async def told(self, request: Request) -> Response:
        """GET /metrics"""
        from starlette.responses import PlainTextResponse

        return PlainTextResponse(self.metrics.text(), media_type="text/plain; version=0.0.4")


def app(model: Model, serving: Serving) -> Starlette:
    """The service as an ASGI application, for any server.

    Raises
    ------
    MissingDependency
        X601, without starlette.
    ShapeError
        X101, for a model that is no classifier of images.
    """
    applications, routing = package("starlette.applications"), package("starlette.routing")
    service = Service(model, serving)
    routes = [
        routing.Route("/predict", service.predict, methods=["POST"]),
        routing.Route("/health", service.health),
        routing.Route("/metrics", service.told),
    ]
    refused = {package("starlette.exceptions").HTTPException: unanswered, Exception: failed}
    made: Starlette = applications.Starlette(routes=routes, lifespan=service.running, exception_handlers=refused)
    return made


async def unanswered(request: Request, error: Any) -> Response:
    """What asks for a path that there is not, or by a method that it does not have."""
    from starlette.responses import JSONResponse

    told = f"{request.method} {request.url.path[:80]}: {error.detail}."
    known = "POST /predict takes an image file; GET /health and GET /metrics tell how it is."
    return JSONResponse({"error": {"code": "path", "message": told, "hint": known}}, error.status_code, error.headers)


async def failed(request: Request, error: Exception) -> Response:
    """What fails within, which the server writes to stderr."""
    from starlette.responses import JSONResponse

    told = {"code": "failed", "message": "the service could not answer; its stderr has the reason.", "hint": ""}
    return JSONResponse({"error": told}, 500)


def serve(
    model: Model, serving: Serving, host: str, port: int, *, began: Callable[[str], None], grace: float = 20.0
) -> None:
    """Serve until a signal ends it; requests that are under way are answered first.

    Parameters
    ----------
    model, serving
        what is served, and how
    host, port
        where; port 0 is a free one
    began
        is told the address
    grace
        seconds that requests under way may still take

    Raises
    ------
    MissingDependency
        X601, without starlette or uvicorn.
    OSError
        where the port is taken.
    """
    uvicorn = package("uvicorn")
    config = uvicorn.Config(
        app(model, serving), http=impatient(KEPT + 2 * serving.seconds), ws="none", log_level="error",
        access_log=False, lifespan="on", timeout_keep_alive=KEPT, timeout_graceful_shutdown=int(grace),
        server_header=False, limit_concurrency=4 * serving.limits.waiting,
    )  # fmt: skip
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=256) as listening:
        server = uvicorn.Server(config)
        where = f"[{host}]" if ":" in host else host
        began(f"http://{where}:{listening.getsockname()[1]}")
        try:
            server.run(sockets=[listening])
        except KeyboardInterrupt:
            if not server.should_exit:  # uvicorn raises a signal that it has heeded once more
                raise


def package(name: str) -> Any:
    """A package of the extra; raises X601 without it."""
    try:
        return import_module(name)
    except ImportError as error:
        missing = name.partition(".")[0]
        raise MissingDependency("X601", f"serving needs {missing}.", hint='pip install "xcnn[serve]"') from error
