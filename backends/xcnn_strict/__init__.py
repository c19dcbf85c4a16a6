"""array-api-strict on its second device: the rehearsal of every array library that xcnn has not met."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xcnn_strict.backend import StrictBackend

__all__ = ["StrictBackend"]


def __getattr__(name: str) -> Any:
    if name != "StrictBackend":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import array_api_strict  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "array_api_strict":
            raise
        from xcnn.errors import BackendUnavailable

        raise BackendUnavailable(
            "X302", "array-api-strict is not installed.", hint='pip install "xcnn[strict]"'
        ) from error
    from xcnn_strict.backend import StrictBackend

    return StrictBackend
