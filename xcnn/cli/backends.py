"""`xcnn backends`: what is available, why not, which is the default, which BLAS kernels run."""

from __future__ import annotations

import json as json_
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import Annotated, Any

import typer

from xcnn.cli.blas import remedies
from xcnn.cli.options import Json, finite, print_json, say
from xcnn.errors import counted

PROBE = """
import dataclasses, json, sys
from xcnn.backends.table import probe
print(json.dumps(dataclasses.asdict(probe(sys.argv[1]))))
"""


PROBING: list[subprocess.Popen[str]] = []
"""The processes that are being asked."""


def run(
    timeout: Annotated[
        float, typer.Option(min=0.1, max=86400, callback=finite, help="Seconds to wait for each.")
    ] = 60.0,
    json: Json = False,
) -> None:
    """List the backends. Each is tried in a process of its own, so that a broken driver can't hang this one."""
    from xcnn.backends.registry import backend_names
    from xcnn.backends.selector import AUTO_ORDER

    names = backend_names()
    with ThreadPoolExecutor(max_workers=max(1, len(names))) as at_once:
        try:
            found = dict(zip(names, at_once.map(probe, names, repeat(timeout)), strict=True))
        except KeyboardInterrupt:
            at_once.shutdown(wait=False, cancel_futures=True)
            for process in PROBING.copy():
                process.kill()  # else their threads, and this process, would wait for them
            raise
    usable = [name for name in AUTO_ORDER if name in found and found[name]["available"]]
    named = os.environ.get("XCNN_BACKEND", "auto") or "auto"
    default = next(iter(usable), "none") if named == "auto" else named
    libraries = blas_kernels()
    for library, remedy in zip(libraries, remedies(libraries, timeout), strict=True):
        library["remedy"] = remedy
    if json:
        print_json("backends", default=default, backends=found, blas=libraries)
        return
    for name, info in found.items():
        mark = "   <- default" if name == default.partition(":")[0] else ""
        say(f"{name:8} {describe(info)}{mark}")
    if default.partition(":")[0] not in found:
        absent = f'default  "{default}", which XCNN_BACKEND names, is not installed'
        say(absent if named != "auto" else "default  none")
    for library in libraries:
        build = f"{library['name']} {library['version']}, {library['kernels']} kernels"
        print(f"BLAS     {build}, {counted(library['threads'], 'thread')}")
    for remedy in sorted({library["remedy"] for library in libraries} - {""}):
        say(f"hint     the processor could run faster kernels: set {remedy} before Python starts")


def describe(info: dict[str, Any]) -> str:
    """A backend's device and versions, or why it can't be used and what to do."""
    if not info["available"]:
        return f"not available: {info['reason']} {info['hint']}".rstrip()
    return f"{info['device']} ({', '.join(f'{library} {v}' for library, v in info['versions'].items())})"


def probe(name: str, timeout: float) -> dict[str, Any]:
    """What a backend tells of itself, asked in another process."""
    unavailable = {"available": False, "device": "", "versions": {}, "hint": ""}
    command, pipe = [sys.executable, "-P", "-c", PROBE, name], subprocess.PIPE
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True) as process:
        PROBING.append(process)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            return {**unavailable, "reason": f"no answer within {timeout:g} s."}
        finally:
            PROBING.remove(process)
    try:
        info: dict[str, Any] = json_.loads(out.splitlines()[-1])
    except (IndexError, ValueError):
        last = (err.strip().splitlines() or ["no message"])[-1]
        return {**unavailable, "reason": f"its process ended with {process.returncode}: {last}"}
    return info


def blas_kernels() -> list[dict[str, Any]]:
    """The BLAS libraries that NumPy and SciPy brought into this process."""
    import numpy  # noqa: F401 - loads its BLAS
    import scipy.linalg  # noqa: F401 - loads its own

    from xcnn.core.blas import threadpoolctl

    return [
        {
            "name": pool["internal_api"],
            "version": pool["version"],
            "kernels": pool.get("architecture", "unnamed"),
            "threads": pool["num_threads"],
        }
        for pool in sorted(threadpoolctl().threadpool_info(), key=lambda pool: str(pool["filepath"]))
        if pool["user_api"] == "blas"
    ]
