"""What this CPU computes in: decides the default precision and goes into the numerics id."""

from __future__ import annotations

import platform
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")
# What changes the order or width of a float sum, widest first.
TELLING = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")


def cpu_flags(cpu_info: Path = CPU_INFO) -> frozenset[str]:
    """The flags of the first CPU that Linux lists; empty elsewhere."""
    try:
        with cpu_info.open() as lines:
            for line in lines:
                if line.startswith(("flags", "Features")):
                    return frozenset(line.partition(":")[2].split())
    except OSError:
        pass
    return frozenset()


def has_bf16(flags: frozenset[str]) -> bool:
    """Whether products of bfloat16 are computed in hardware."""
    return not flags.isdisjoint({"avx512_bf16", "amx_bf16"})


def has_vnni(flags: frozenset[str]) -> bool:
    """Whether products of int8 are added in hardware."""
    return not flags.isdisjoint({"avx512_vnni", "avx_vnni", "amx_int8"})


def instruction_set(flags: frozenset[str]) -> str:
    """For the numerics id: the machine and its telling extensions, ``x86_64+avx512f+avx2``."""
    return "+".join([platform.machine() or "unknown", *(f for f in TELLING if f in flags)])
