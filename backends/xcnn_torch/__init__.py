"""PyTorch's arrays. PyTorch is imported when TorchBackend is first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xcnn_torch.backend import TorchBackend

__all__ = ["TorchBackend"]


def __getattr__(name: str) -> Any:
    if name != "TorchBackend":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        from xcnn.errors import BackendUnavailable

        raise BackendUnavailable("X302", "PyTorch is not installed.", hint='pip install "xcnn[torch]"') from error
    from xcnn_torch.backend import TorchBackend

    return TorchBackend
