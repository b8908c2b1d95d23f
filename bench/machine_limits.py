"""What the machine can do at most: bytes read a second, and eight-bit multiply-adds.

Both loops are written in the compiler's own language, so that they are what they say: the first
adds up 2 GiB in vectors of 64 bytes, the second multiplies registers by registers and touches no
memory.
"""

from __future__ import annotations

import time
from typing import Any

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

_I8, _I32, _I64 = (ir.IntType(bits) for bits in (8, 32, 64))
_WORDS, _BYTES = ir.VectorType(_I32, 16), ir.VectorType(_I8, 64)
_SUMS = 8
_CHAINS = 24
_READ_BYTES = 2 << 30
_ROUNDS = 20_000_000


def _lane(builder: Any, vector: Any) -> Any:
    return builder.extract_element(vector, ir.Constant(_I32, 0))


@intrinsic  # type: ignore[untyped-decorator]
def _add_up(typingctx: Any, data: Any, first: Any, steps: Any) -> Any:
    """The sum, in lanes, of ``steps`` times 512 bytes from byte ``first`` on."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        array = context.make_array(sig.args[0])(context, builder, args[0])
        start = builder.gep(array.data, [args[1]])
        zero = ir.Constant(_WORDS, [0] * 16)
        sums = [cgutils.alloca_once_value(builder, zero) for _ in range(_SUMS)]
        with cgutils.for_range(builder, args[2]) as loop:
            base = builder.mul(loop.index, ir.Constant(_I64, 64 * _SUMS))
            for place, total in enumerate(sums):
                at = builder.gep(start, [builder.add(base, ir.Constant(_I64, 64 * place))])
                read = builder.load(builder.bitcast(at, _WORDS.as_pointer()), align=64)
                builder.store(builder.add(builder.load(total), read), total)
        whole = zero
        for total in sums:
            whole = builder.add(whole, builder.load(total))
        return builder.sext(_lane(builder, whole), _I64)

    return types.int64(data, types.int64, types.int64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def _multiply(typingctx: Any, rounds: Any, seed: Any) -> Any:
    """``rounds`` times 24 independent vpdpbusd of 64 multiply-adds each."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.FunctionType(_WORDS, [_WORDS, _BYTES, _BYTES])
        name = "llvm.x86.avx512.vpdpbusd.512"
        step = cgutils.get_or_insert_function(builder.module, kind, name)
        undefined = ir.Constant(_WORDS, ir.Undefined)
        seeded = builder.insert_element(
            undefined, builder.trunc(args[1], _I32), ir.Constant(_I32, 0)
        )
        spread = builder.shuffle_vector(seeded, seeded, ir.Constant(_WORDS, [0] * 16))
        chains = [
            cgutils.alloca_once_value(builder, builder.add(spread, ir.Constant(_WORDS, [i] * 16)))
            for i in range(_CHAINS)
        ]
        codes = builder.bitcast(spread, _BYTES)
        with cgutils.for_range(builder, args[0]):
            for chain in chains:
                builder.store(builder.call(step, [builder.load(chain), codes, codes]), chain)
        whole = builder.load(chains[0])
        for chain in chains[1:]:
            whole = builder.xor(whole, builder.load(chain))
        return builder.sext(_lane(builder, whole), _I64)

    return types.int64(types.int64, types.int64), codegen


@numba.njit(nogil=True, parallel=True)  # type: ignore[untyped-decorator]
def _read_all(data: NDArray[np.uint8], sums: NDArray[np.int64]) -> None:
    steps = data.shape[0] // (512 * sums.shape[0])
    for part in numba.prange(sums.shape[0]):
        sums[part] = _add_up(data, part * steps * 512, steps)


@numba.njit(nogil=True, parallel=True)  # type: ignore[untyped-decorator]
def _multiply_all(rounds: int, sums: NDArray[np.int64]) -> None:
    for part in numba.prange(sums.shape[0]):
        sums[part] = _multiply(rounds, part)


def has_vnni() -> bool:
    """Whether the second limit can be measured here."""
    return bool(llvmlite.binding.get_host_cpu_features().get("avx512vnni", False))


def read_bytes_a_second(threads: int, times: int = 5) -> float:
    """The most that so many threads read of 2 GiB, of some times."""
    data = np.ones(_READ_BYTES + 64, np.uint8)
    start = -data.ctypes.data % 64
    data, sums = data[start : start + _READ_BYTES], np.zeros(threads, np.int64)
    return _READ_BYTES / _least(times, lambda: _read_all(data, sums))


def multiply_adds_a_second(threads: int, times: int = 5) -> float:
    """The most eight-bit multiply-adds of so many threads, of some times."""
    sums = np.zeros(threads, np.int64)
    return threads * _ROUNDS * _CHAINS * 64 / _least(times, lambda: _multiply_all(_ROUNDS, sums))


def _least(times: int, call: Any) -> float:
    call()
    found = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return min(found)
