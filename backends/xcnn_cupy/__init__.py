"""CuPy arrays on CUDA devices.

CuPy is imported when CupyBackend is first asked for, so that the modules beside it can be read, and rehearsed on NumPy
arrays, without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xcnn_cupy.backend import CupyBackend

__all__ = ["CupyBackend"]


def __getattr__(name: str) -> Any:
    if name != "CupyBackend":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import cupy  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "cupy":
            raise
        from xcnn.errors import BackendUnavailable

        raise BackendUnavailable(
            "X302",
            "CuPy is not installed.",
            hint='pip install "xcnn[cuda13]", or "xcnn[cuda12]" for a driver of CUDA 12.',
        ) from error
    from xcnn_cupy.backend import CupyBackend

    return CupyBackend
