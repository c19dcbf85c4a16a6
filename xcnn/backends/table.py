"""What is installed and what of it can be used here, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from xcnn.backends.registry import backend_names
from xcnn.backends.selector import make
from xcnn.core import html
from xcnn.errors import BackendUnavailable, printable, told_by


@dataclass(frozen=True)
class BackendInfo:
    """What `available_backends` tells of one backend; `reason` says why it can't be used, `hint` what to do."""

    name: str
    available: bool
    device: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    hint: str = ""

    def __str__(self) -> str:
        return printable("  ".join(self.cells))

    @property
    def cells(self) -> tuple[str, str, str]:
        """Its row of the table: the name, the device, and the versions or the reason."""
        if self.available:
            return self.name, self.device, ", ".join(f"{library} {v}" for library, v in self.versions.items())
        return self.name, "not available", " ".join(filter(None, (self.reason, self.hint)))


class BackendTable(dict[str, BackendInfo]):
    """Backends by name; printed, a line for each."""

    def __repr__(self) -> str:
        rows = [tuple(map(printable, info.cells)) for info in self.values()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)

    def _repr_html_(self) -> str:
        return html.table(("backend", "device", "versions, or why not"), [info.cells for info in self.values()], 3)


def available_backends() -> BackendTable:
    """Every installed backend by name: its device and versions, or the reason why it can't be used.

    Examples
    --------
    >>> xcnn.available_backends()["numpy"].available  # doctest: +SKIP
    """
    return BackendTable((name, probe(name)) for name in backend_names())


def probe(name: str) -> BackendInfo:
    """What one backend tells of itself, or the reason why it can't be used."""
    try:
        found = make(name, {})
        return BackendInfo(name, True, found.device_name(), found.versions())
    except BackendUnavailable as error:
        return BackendInfo(name, False, reason=error.summary, hint=error.hint)
    except Exception as error:
        return BackendInfo(name, False, reason=f"it can't be asked: {told_by(error)}")
