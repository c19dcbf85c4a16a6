"""`xcnn check`: put every layer on a backend to its gradients, its adjoints and the reference."""

from __future__ import annotations

from typing import Annotated

import typer

from xcnn.cli.options import Json, print_json


def run(
    backend: Annotated[str | None, typer.Argument(help="numpy, cupy, ...; by default the one that would run.")] = None,
    algorithm: Annotated[str | None, typer.Option(help="One of the backend's algorithms.")] = None,
    json: Json = False,
) -> None:
    """Check a backend, a line a layer. Errors are relative; the exit code is 1 if one is too large."""
    from xcnn.backends import backend as make
    from xcnn.backends import get_backend
    from xcnn.testing import check_backend

    chosen = get_backend() if backend is None else make(backend, **({"algorithm": algorithm} if algorithm else {}))
    failed = 0
    if not json:
        print(f"{chosen!r} on {chosen.device_name()}")
        print(f"{'':6}{'gradient':>10}{'agreement':>11}{'float32':>9}  layer or primitive")
    for row in check_backend(chosen):
        failed += not row.ok
        if json:
            print_json("check", **vars(row))
            continue
        print(f"{'ok' if row.ok else 'FAILED':6}{row.gradient:>10}")
    if failed:
        raise typer.Exit(1)
