"""The ways to multiply codes: what each needs of a processor, and the instructions it emits.

Items are unsigned, queries signed, as ``vpdpbusd`` wants them. All sums fit int32 up to 2^31 / (255
* 127) = 66,000 dimensions, so every way gives the same integers: VNNI in 512 or 256 bits, AVX2
(``pmaddwd`` on sixteen-bit halves; six bits are few enough for ``pmaddubsw``, which takes twice as
many at once) and one for any processor.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import llvmlite.binding
from llvmlite import ir
from numba.core import cgutils, config

PLAIN, AVX2, VNNI_256, VNNI_512 = range(4)
"""The ways, each of which gives the same result."""

_NEEDS = {
    AVX2: ("avx2", "fma"),
    VNNI_256: ("avx2", "fma", "avxvnni"),
    VNNI_512: ("avx512f", "avx512bw", "avx512vl", "avx512vnni"),
}
WIDTHS: Final = {PLAIN: (1,), AVX2: (4, 1), VNNI_256: (4, 1), VNNI_512: (6, 4, 2, 1)}
"""How many queries a way takes together; of the coarse layer, one."""
NAMES: Final = {PLAIN: "plain", AVX2: "avx2", VNNI_256: "vnni-256", VNNI_512: "vnni-512"}

_I8, _I16, _I32 = (ir.IntType(bits) for bits in (8, 16, 32))


def _features() -> set[str]:
    """What numba compiles for: this processor, unless its settings name another."""
    if config.CPU_NAME in (None, "host") and config.CPU_FEATURES is None:
        host = llvmlite.binding.get_host_cpu_features()
        return {name for name, there in host.items() if there}
    named = (config.CPU_FEATURES or "").split(",")
    return {name.strip()[1:] for name in named if name.strip().startswith("+")}


@cache
def supported(way: int) -> bool:
    """Whether the processor that kernels are compiled for has what a way needs."""
    return _features().issuperset(_NEEDS.get(way, ()))


def fastest() -> int:
    """The best way that this processor has."""
    return max(way for way in NAMES if supported(way))


def vector(kind: Any, bits: int) -> Any:
    """The type of a register of so many bits."""
    return ir.VectorType(kind, bits // kind.width)


def splat(builder: Any, value: Any, lanes: int) -> Any:
    """A register with a value in each lane."""
    kind = ir.VectorType(value.type, lanes)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(_I32, 0))
    zeros = ir.Constant(ir.VectorType(_I32, lanes), [0] * lanes)
    return builder.shuffle_vector(one, one, zeros)


def constant(kind: Any, value: int) -> Any:
    """A register of ``kind`` with a number in each lane."""
    return ir.Constant(kind, [value] * kind.count)


class _Way(ABC):
    """What every way emits; ``rows`` and ``query`` make of words what ``add`` multiplies."""

    bits = 256

    @abstractmethod
    def rows(self, builder: Any, word: Any) -> Any:
        """A register of rows: four codes each, unsigned."""

    @abstractmethod
    def query(self, builder: Any, word: Any) -> Any:
        """Four codes of a query, signed."""

    @abstractmethod
    def add(self, builder: Any, total: Any, rows: Any, query: Any) -> Any:
        """Sums of products, added to ``total``."""

    def add_six(self, builder: Any, total: Any, rows: list[Any], query: list[Any]) -> Any:
        """Those of ``GROUP`` steps, all words, whose unsigned codes have six bits."""
        for row, part in zip(rows, query, strict=True):
            total = self.add(builder, total, self.rows(builder, row), self.query(builder, part))
        return total


class _Vnni(_Way):
    """One instruction for four dimensions of 16 or 8 rows."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self._bytes, self._words = vector(_I8, bits), vector(_I32, bits)

    def rows(self, builder: Any, word: Any) -> Any:
        return builder.bitcast(word, self._bytes)

    def query(self, builder: Any, word: Any) -> Any:
        return builder.bitcast(splat(builder, word, self.bits // 32), self._bytes)

    def add(self, builder: Any, total: Any, rows: Any, query: Any) -> Any:
        name = f"llvm.x86.avx512.vpdpbusd.{self.bits}"
        kind = ir.FunctionType(self._words, [self._words, self._bytes, self._bytes])
        call = cgutils.get_or_insert_function(builder.module, kind, name)
        return builder.call(call, [total, rows, query])


class _Halves(_Way):
    """Even and odd bytes as sixteen-bit numbers, and ``pmaddwd`` on both."""

    def __init__(self) -> None:
        self._words, self._halves = vector(_I32, 256), vector(_I16, 256)
        self._bytes = vector(_I8, 256)

    def rows(self, builder: Any, word: Any) -> Any:
        low = constant(self._words, 0x00FF00FF)
        odd = builder.lshr(word, constant(self._words, 8))
        return [builder.bitcast(builder.and_(one, low), self._halves) for one in (word, odd)]

    def query(self, builder: Any, word: Any) -> Any:
        halves = builder.bitcast(splat(builder, word, 8), self._halves)
        eight = constant(self._halves, 8)
        return [builder.ashr(builder.shl(halves, eight), eight), builder.ashr(halves, eight)]

    def add(self, builder: Any, total: Any, rows: Any, query: Any) -> Any:
        for row, part in zip(rows, query, strict=True):
            total = builder.add(total, self._added_in_pairs(builder, row, part))
        return total

    def add_six(self, builder: Any, total: Any, rows: list[Any], query: list[Any]) -> Any:
        """Four products, of two steps, fit sixteen bits: 4 * 63 * 128 = 32,256."""
        kind = ir.FunctionType(self._halves, [self._bytes, self._bytes])
        call = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx2.pmadd.ub.sw")
        products = [
            builder.call(
                call,
                [
                    builder.bitcast(row, self._bytes),
                    builder.bitcast(splat(builder, part, 8), self._bytes),
                ],
            )
            for row, part in zip(rows, query, strict=True)
        ]
        ones = constant(self._halves, 1)
        for first, second in zip(products[::2], products[1::2], strict=True):
            both = builder.add(first, second)
            total = builder.add(total, self._added_in_pairs(builder, both, ones))
        return total

    def _added_in_pairs(self, builder: Any, left: Any, right: Any) -> Any:
        kind = ir.FunctionType(self._words, [self._halves, self._halves])
        call = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx2.pmadd.wd")
        return builder.call(call, [left, right])


class _Bytes(_Way):
    """Byte by byte, in vectors that every target has in some width."""

    def __init__(self) -> None:
        self._words = vector(_I32, 256)

    def rows(self, builder: Any, word: Any) -> Any:
        low = constant(self._words, 0xFF)
        shifts = [constant(self._words, 8 * place) for place in range(4)]
        return [builder.and_(builder.lshr(word, shift), low) for shift in shifts]

    def query(self, builder: Any, word: Any) -> Any:
        last = ir.Constant(_I32, 24)
        lifted = [builder.shl(word, ir.Constant(_I32, 24 - 8 * place)) for place in range(4)]
        return [splat(builder, builder.ashr(one, last), 8) for one in lifted]

    def add(self, builder: Any, total: Any, rows: Any, query: Any) -> Any:
        for row, part in zip(rows, query, strict=True):
            total = builder.add(total, builder.mul(row, part))
        return total


def arithmetic(way: int) -> _Way:
    """What a way emits; on a processor that has not what it needs, what every one has."""
    if not supported(way):
        way = PLAIN
    makers: dict[int, Callable[[], _Way]] = {
        PLAIN: _Bytes,
        AVX2: _Halves,
        VNNI_256: lambda: _Vnni(256),
        VNNI_512: lambda: _Vnni(512),
    }
    return makers[way]()
