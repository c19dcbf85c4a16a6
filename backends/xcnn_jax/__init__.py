"""JAX's arrays. JAX is imported when JaxBackend is first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xcnn_jax.backend import JaxBackend

__all__ = ["JaxBackend"]


def __getattr__(name: str) -> Any:
    if name != "JaxBackend":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import jax  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "jax":
            raise
        from xcnn.errors import BackendUnavailable

        raise BackendUnavailable("X302", "JAX is not installed.", hint='pip install "xcnn[jax]"') from error
    from xcnn_jax.backend import JaxBackend

    return JaxBackend
