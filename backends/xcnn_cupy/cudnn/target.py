"""What plans are made for: a GPU that runs them, or the description of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from xcnn_cupy.cudnn.constants import Attribute, AttributeType, DescriptorType
from xcnn_cupy.cudnn.description import Description
from xcnn_cupy.cudnn.descriptors import Descriptor
from xcnn_cupy.cudnn.handles import Handle, Handles
from xcnn_cupy.cudnn.library import Library


class Target(Protocol):
    """A GPU as `Plans` needs it."""

    @property
    def name(self) -> str:
        """Its name and compute capability: choices of plans are kept for this."""
        ...

    def handle(self) -> Handle | None:
        """The handle of it in this thread, if it is there."""
        ...

    def properties(self, library: Library) -> Descriptor | None:
        """Its description to cuDNN, if it is not there."""
        ...


@dataclass(frozen=True)
class Present:
    """A GPU of this machine; `name` is its name and compute capability, "NVIDIA H100 80GB HBM3, sm_90"."""

    name: str
    handles: Handles

    def handle(self) -> Handle:
        """The handle of it in this thread."""
        return self.handles.handle()

    def properties(self, library: Library) -> None:
        """None is needed: cuDNN sees for itself."""


@dataclass(frozen=True)
class Described:
    """A GPU that is not there."""

    description: Description

    @property
    def name(self) -> str:
        """Its name and compute capability."""
        return f"{self.description.name}, sm_{self.description.capability}"

    def handle(self) -> None:
        """There is none."""

    def properties(self, library: Library) -> Descriptor:
        """Its description to cuDNN."""
        described = Descriptor(library, DescriptorType.DEVICEPROP)
        text = self.description.as_json().encode()
        characters = (text[n : n + 1] for n in range(len(text)))
        described.set(Attribute.DEVICEPROP_JSON_REPRESENTATION, AttributeType.CHAR, characters)
        return described.finalize()
