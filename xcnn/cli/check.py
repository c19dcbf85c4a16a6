"""`xcnn check`: put every layer on a backend to its gradients, its adjoints and the reference."""

from __future__ import annotations

from typing import Annotated

import typer

from xcnn.cli.options import Json, print_json
from xcnn.errors import printable


def run(
    backend: Annotated[str | None, typer.Argument(help="numpy, cupy, ...; by default the one that would run.")] = None,
    algorithm: Annotated[str | None, typer.Option(help="One of the backend's algorithms.")] = None,
    json: Json = False,
) -> None:
    """Check a backend, a line a layer. Errors are relative; the exit code is 1 if one is too large."""
    from xcnn.backends.selector import backend as make
    from xcnn.backends.selector import get_backend
    from xcnn.checking.backend import check_backend

    chosen = make(backend or get_backend(), **({"algorithm": algorithm} if algorithm else {}))
    if not json:
        print(f"{chosen!r} on {chosen.device_name()}")
        print(f"{'':6}  {'gradient':>9}  {'agreement':>9}  {'float32':>9}  primitive or layer")
    failed = 0
    for row in check_backend(chosen):
        failed += not row.ok
        if json:
            print_json("check", **vars(row))
            continue
        errors = "  ".join(f"{'' if e is None else f'{e:.1e}':>9}" for e in (row.gradient, row.agreement, row.float32))
        print(f"{'ok' if row.ok else 'FAILED':6}  {errors}  {row.name}", flush=True)
        if row.message:
            print(f"        {printable(row.message)}")
    if failed:
        if not json:
            print(f"{failed} failed")
        raise typer.Exit(1)
