"""Whether a data set that was brought to a device is on the host still what it was then."""

from __future__ import annotations

from dataclasses import dataclass

from xcnn.data.source import fingerprint
from xcnn.training.state import HostArray


@dataclass(frozen=True)
class Snapshot:
    """The arrays of a data set, and a checksum of those that could be changed; see `fingerprint` for what it misses."""

    x: HostArray
    t: HostArray
    checksum: str

    @staticmethod
    def of(x: HostArray, t: HostArray) -> Snapshot:
        """That of these arrays as they are now."""
        return Snapshot(x, t, checksum(x, t))

    def is_of(self, x: HostArray, t: HostArray) -> bool:
        """Whether it is of these very arrays, and they have not been changed since."""
        return self.x is x and self.t is t and self.checksum == checksum(x, t)


def checksum(*arrays: HostArray) -> str:
    """Of all arrays that can be written to, by whatever name."""
    return fingerprint(*(array for array in arrays if array.flags.writeable or not array.flags.owndata))
