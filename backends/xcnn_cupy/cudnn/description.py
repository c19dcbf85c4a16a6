"""GPUs in words: with these, plans are found for a GPU that is not there."""

from __future__ import annotations

import json
from dataclasses import dataclass

COMMON = {
    "maxGridSize": [2**31 - 1, 65535, 65535],
    "maxBlockSize": [1024, 1024, 64],
    "maxThreadsPerBlock": 1024,
    "maxThreadsPerSM": 2048,
    "maxCtasPerSM": 32,
    "maxRegistersPerSM": 65536,
    "regsPerBlock": 65536,
    "warpSize": 32,
    "maxSharedMemoryPerBlock": 49152,
    "reservedSharedMemoryPerBlock": 1024,
    "oversizedSharedMemoryPerBlock": 0,
    "supportCoopLaunch": 1,
    "isTccDriver": 0,
    "smCountOrigin": 0,
    "pciDeviceId": 0,
    "cudaDeviceId": 0,
    "driverVer": 13000,
}
"""What the GPUs below have in common, under cuDNN's names."""


@dataclass(frozen=True)
class Description:
    """A GPU's properties. Memory in bytes, clocks in kHz, the bus in bits; `capability` is 90 for sm_90."""

    name: str
    capability: int
    processors: int
    shared_memory: int
    l2_cache: int
    memory: int
    bus: int
    clock: int
    memory_clock: int

    def as_json(self) -> str:
        """As cuDNN reads it."""
        own = {
            "deviceName": self.name,
            "deviceVer": 10 * self.capability,
            "multiProcessorCount": self.processors,
            "maxSharedMemoryPerBlockOptin": self.shared_memory,
            "l2CacheSize": self.l2_cache,
            "totalGlobalMem": self.memory,
            "memoryBusWidth": self.bus,
            "smClockRateKHz": self.clock,
            "memClockRateKHz": self.memory_clock,
        }
        return json.dumps(COMMON | own)


A100 = Description(
    name="NVIDIA A100-SXM4-80GB", capability=80, processors=108, shared_memory=166912, l2_cache=40 * 2**20,
    memory=85_031_714_816, bus=5120, clock=1_410_000, memory_clock=1_593_000,
)  # fmt: skip
H100 = Description(
    name="NVIDIA H100 80GB HBM3", capability=90, processors=132, shared_memory=232448, l2_cache=50 * 2**20,
    memory=85_029_158_912, bus=5120, clock=1_980_000, memory_clock=2_619_000,
)  # fmt: skip
B200 = Description(
    name="NVIDIA B200", capability=100, processors=148, shared_memory=232448, l2_cache=126 * 2**20,
    memory=191_500_000_000, bus=8192, clock=1_965_000, memory_clock=3_996_000,
)  # fmt: skip
