"""cuDNN's descriptors as objects: each keeps alive what it refers to, and is destroyed with its object."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterable
from typing import Any

from xcnn_cupy.cudnn.constants import Attribute, AttributeType, DescriptorType
from xcnn_cupy.cudnn.handles import Handle
from xcnn_cupy.cudnn.library import Library

CTYPES: dict[AttributeType, Any] = {
    AttributeType.HANDLE: ctypes.c_void_p,
    AttributeType.BOOLEAN: ctypes.c_bool,
    AttributeType.INT64: ctypes.c_int64,
    AttributeType.FLOAT: ctypes.c_float,
    AttributeType.DOUBLE: ctypes.c_double,
    AttributeType.VOID_PTR: ctypes.c_void_p,
    AttributeType.BACKEND_DESCRIPTOR: ctypes.c_void_p,
    AttributeType.CHAR: ctypes.c_char,
}
"""C's types of attributes; those that are missing are enumerations, which are C's int."""


class Descriptor:
    """One descriptor: created, its attributes set, finalized, then read or referred to."""

    def __init__(self, library: Library, kind: DescriptorType) -> None:
        place = ctypes.c_void_p()
        created = library.functions.cudnnBackendCreateDescriptor(kind, ctypes.addressof(place))
        library.check(created, f"create a descriptor {kind.name}")
        self.library, self.kind = library, kind
        self.address: int = place.value or 0
        self.parts: list[Descriptor | Handle] = []
        destroy = weakref.finalize(self, destroyed, library, self.address, self.parts)
        destroy.atexit = False  # the process gives all of it back, and CUDA may be gone by then

    def set(self, attribute: Attribute, kind: AttributeType, values: Iterable[Any]) -> None:
        """Set an attribute to numbers, or to descriptors or a handle, which stay alive as long as this one."""
        values = list(values)
        self.parts += [value for value in values if isinstance(value, Descriptor | Handle)]
        plain = [value.address if isinstance(value, Descriptor | Handle) else value for value in values]
        array = (ctype(kind) * len(plain))(*plain)
        status = self.library.functions.cudnnBackendSetAttribute(
            self.address, attribute, kind, len(plain), ctypes.addressof(array)
        )
        self.library.check(status, f"set {attribute.name}")

    def finalize(self) -> Descriptor:
        """Have cuDNN check it; it can't be changed any more."""
        self.library.check(self.library.functions.cudnnBackendFinalize(self.address), f"finalize {self.kind.name}")
        return self

    def count(self, attribute: Attribute, kind: AttributeType) -> int:
        """How many values an attribute has at most."""
        return self._read(attribute, kind, 0, None)

    def get(self, attribute: Attribute, kind: AttributeType, most: int = 1) -> list[Any]:
        """The first values of an attribute."""
        array = (ctype(kind) * most)()
        found = self._read(attribute, kind, most, ctypes.addressof(array))
        return list(array[:found])

    def get_descriptors(self, attribute: Attribute, kind: DescriptorType, most: int = 1) -> list[Descriptor]:
        """The first descriptors that an attribute refers to."""
        made = [Descriptor(self.library, kind) for _ in range(most)]
        array = (ctypes.c_void_p * most)(*(one.address for one in made))
        found = self._read(attribute, AttributeType.BACKEND_DESCRIPTOR, most, ctypes.addressof(array))
        for one in made:
            one.parts.append(self)
        return made[:found]

    def _read(self, attribute: Attribute, kind: AttributeType, most: int, array: int | None) -> int:
        """Let cuDNN write at most so many values to an address; how many there are of them."""
        found = ctypes.c_int64()
        status = self.library.functions.cudnnBackendGetAttribute(
            self.address, attribute, kind, most, ctypes.addressof(found), array
        )
        self.library.check(status, f"read {attribute.name}")
        return found.value if array is None else min(found.value, most)


def destroyed(library: Library, address: int, parts: list[Descriptor | Handle]) -> None:
    """Give a descriptor back. Its parts stay until then: a collector of cycles knows no order of its own."""
    library.functions.cudnnBackendDestroyDescriptor(address)
    parts.clear()


def ctype(kind: AttributeType) -> Any:
    """C's type of an attribute's values."""
    return CTYPES.get(kind, ctypes.c_int)
