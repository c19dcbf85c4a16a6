"""`xcnn serve`: a model that classifies images by HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from xcnn.cli.options import (
    BackendName,
    Formats,
    MaxBytes,
    MaxPixels,
    ModelFile,
    PrecisionName,
    image_limits,
    load_model,
)


def run(
    model: ModelFile,
    host: Annotated[str, typer.Option("--host", help="The address to listen on; 0.0.0.0 is all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 is a free one, which is told.")] = 8000,
    batch: Annotated[int, typer.Option("--batch", min=1, max=4096, help="Images that go together at most.")] = 32,
    wait: Annotated[float, typer.Option("--wait", min=0, max=10, help="Seconds to wait for more of them.")] = 0.005,
    waiting: Annotated[int, typer.Option("--waiting", min=1, help="Images that may wait; others get a 503.")] = 256,
    max_upload: Annotated[int, typer.Option("--max-upload", min=1, help="Bytes of an image file.")] = 1 << 24,
    seconds: Annotated[float, typer.Option("--seconds", min=0.01, help="That a request may take.")] = 30.0,
    backend: BackendName = None,
    precision: PrecisionName = None,
    max_bytes: MaxBytes = None,
    max_pixels: MaxPixels = None,
    formats: Formats = None,
) -> None:
    """Classify images by HTTP: POST /predict takes an image file. GET /health and /metrics tell how it is.

    Ctrl-C or SIGTERM ends it, once the requests under way are answered.
    """
    from xcnn.serving.batching import Limits
    from xcnn.serving.service import Serving, serve

    loaded = load_model(model, backend, precision, max_bytes)
    serving = Serving(Limits(batch, wait, waiting), max_upload, seconds, image_limits(max_pixels, formats))
    serve(loaded, serving, host, port, began=lambda address: print(f"serving {model} on {address}", flush=True))
