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
    """

    limits: Limits = field(default_factory=Limits)
    max_upload: int = 1 << 24
    seconds: float = 30.0
    images: dict[str, Any] = field(default_factory=dict)


GONE = 499
"""The status of a request whose sender has gone before it was there whole: nginx's number."""


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
        self.metrics.requests[status] += 1
        self.metrics.seconds.add(time.monotonic() - begin)
        return JSONResponse(told, status, headers={"Retry-After": "1"} if status == 503 else None)

    async def classified(self, request: Request) -> dict[str, Any]:
        """The answer on an upload."""
        body = await self.body(request)
        loop = asyncio.get_running_loop()
        x, how = await loop.run_in_executor(None, partial(self.decoded, body))
        if self.batcher is None:
            raise RefusedError(503, "starting", "the service has not begun yet.")
        try:
            row = await self.batcher.ask(x)
        except FullError:
            raise RefusedError(503, "busy", "too many images wait.", "ask again in a second.") from None
        return answer(self.model, self.names, row, how, "this image")

    async def body(self, request: Request) -> bytes:
        """The upload, as far as it may go."""
        most, kind = self.serving.max_upload, request.headers.get("content-type", "")
        if kind.startswith("multipart/"):
            hint = "curl --data-binary @photo.png http://.../predict"
            raise RefusedError(415, "form", "the body is the image file itself, not a form.", hint)
        promised = request.headers.get("content-length", "0")
        pieces, size = [], int(promised) if promised.isdigit() else 0
        if size <= most:
            size = 0
            async for piece in request.stream():
                size += len(piece)
                if size > most:
                    break
                pieces.append(piece)
        if size > most:
            raise RefusedError(413, "size", f"an image file may have {most:,} bytes.")
        if not size:
            raise RefusedError(400, "empty", "the body is empty.", "curl --data-binary @photo.png http://.../predict")
        return b"".join(pieces)

    def decoded(self, body: bytes) -> tuple[Numbers, str]:
        """The upload as the model takes it: decoded as a file of its own, which is gone then."""
        with tempfile.TemporaryDirectory(prefix="xcnn-serve-") as folder:
            path = Path(folder) / "image"
            path.write_bytes(body)
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

    async def counted(self, request: Request) -> Response:
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
        routing.Route("/metrics", service.counted),
    ]
    refused = {package("starlette.exceptions").HTTPException: unanswered}
    made: Starlette = applications.Starlette(routes=routes, lifespan=service.running, exception_handlers=refused)
    return made


async def unanswered(request: Request, error: Any) -> Response:
    """What asks for a path that there is not, or by a method that it does not have."""
    from starlette.responses import JSONResponse

    told = f"{request.method} {request.url.path[:80]}: {error.detail}."
    known = "POST /predict takes an image file; GET /health and GET /metrics tell how it is."
    return JSONResponse({"error": {"code": "path", "message": told, "hint": known}}, error.status_code, error.headers)


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
        app(model, serving), log_level="warning", access_log=False, lifespan="on", timeout_keep_alive=5,
        timeout_graceful_shutdown=int(grace), limit_concurrency=4 * serving.limits.waiting, server_header=False,
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
