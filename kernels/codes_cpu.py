"""Coding rows and queries; ``codes.py`` says what it means."""

import numba
import numpy as np

from rankstream.kernels.arrays import Float32, Int32, Int64, UInt8
from rankstream.kernels.code_layers import (
    COARSE_MIDDLE,
    COARSE_STEP,
    FULL,
    GROUP,
    MIDDLE,
    MOST,
    STEP,
    TILE,
    Layer,
)
from rankstream.kernels.compilation import compiled, parallel

_LEAST = 2.0**-149


@compiled
def _above(bound: float) -> np.float32:
    """An upper bound in fp32, of one whose own rounding errors are below 2^-30 of it."""
    return np.float32(bound * (1.0 + 2.0**-22) + _LEAST) if bound > 0.0 else np.float32(0.0)


@compiled
def rounding_of(blocks: int) -> float:
    """The share of ``sum |q| n + |bias|`` that a bound may be off by in fp32.

    ``codes.py`` says why it is less than ``(8 blocks + 16) 2^-24``; this leaves some room.
    """
    return (blocks + 4) * 2.0**-21


@compiled
def _code_block(values: Float32, scale: float, codes: UInt8, place: int) -> tuple[float, ...]:
    """Codes one block of a row; returns squares: lost and kept by fine codes, and by coarse."""
    lost = kept = coarsely_lost = coarsely_kept = 0.0
    for d in range(values.shape[0]):
        value = np.float64(values[d])
        code = np.rint(value / scale) if scale > 0.0 else 0.0
        code = min(max(code, -MOST), MOST)
        byte = np.int64(code) + MIDDLE
        codes[place + (d >> 2) * STEP + (d & 3)] = np.uint8(byte)
        lost += (value - scale * code) ** 2
        kept += (scale * code) ** 2
        code = 4.0 * np.float64((byte >> 2) - COARSE_MIDDLE)
        coarsely_lost += (value - scale * code) ** 2
        coarsely_kept += (scale * code) ** 2
    return lost, kept, coarsely_lost, coarsely_kept


@compiled
def _pack_block(fine: UInt8, place: int, steps: int, coarse: UInt8, coarse_place: int) -> None:
    """Writes the upper six bits of a row's codes: of four steps, the fourth beside the others."""
    for group in range(steps // GROUP):
        for d in range(4):
            at = place + group * (GROUP * STEP) + d
            to = coarse_place + group * ((GROUP - 1) * STEP) + d
            fourth = fine[at + 3 * STEP] >> 2
            for i in range(3):
                two = (fourth >> np.uint8(2 * i)) & 3
                coarse[to + i * STEP] = np.uint8((fine[at + i * STEP] >> 2) | (two << 6))


@compiled
def _note(layer: Layer, top: int, at: int, scale: np.float32, lost: float, kept: float) -> None:
    """Writes what one block of a row loses; ``top`` and ``at`` are its places in the columns."""
    error = _above(np.sqrt(lost))
    layer.scales[at], layer.errors[at] = scale, error
    layer.tops[top] = max(layer.tops[top], _above(np.sqrt(kept) + np.float64(error)))


@compiled
def _code_row(
    row: int, item: Float32, offsets: Int64, steps: Int64, fine: Layer, coarse: Layer
) -> bool:
    """Codes one row; returns whether it is finite."""
    tile, place = row // TILE, row % TILE
    blocks = offsets.shape[0] - 1
    for block in range(blocks):
        values = item[offsets[block] : offsets[block + 1]]
        most = 0.0
        for d in range(values.shape[0]):
            if not np.isfinite(values[d]):
                return False
            most = max(most, np.abs(np.float64(values[d])))
        scale = np.float32(most / FULL)
        first = tile * steps[blocks] + steps[block]
        start, packed = first * STEP + 4 * place, first * COARSE_STEP + 4 * place
        squares = _code_block(values, np.float64(scale), fine.codes, start)
        _pack_block(fine.codes, start, steps[block + 1] - steps[block], coarse.codes, packed)
        at = tile * blocks + block
        _note(fine, at, at * TILE + place, scale, squares[0], squares[1])
        scale = np.float32(np.float32(4.0) * scale)
        _note(coarse, at, at * TILE + place, scale, squares[2], squares[3])
    return True


@compiled
def _code_part(
    part: int,
    items: Float32,
    first: int,
    offsets: Int64,
    steps: Int64,
    fine: Layer,
    coarse: Layer,
    bad: Int64,
) -> None:
    """Codes one of as many parts as ``bad`` has, each of whole tiles."""
    parts, start_tile, end = bad.shape[0], first // TILE, first + items.shape[0]
    tiles = (end + TILE - 1) // TILE - start_tile
    start = max(first, (start_tile + tiles * part // parts) * TILE)
    stop = min(end, (start_tile + tiles * (part + 1) // parts) * TILE)
    for row in range(start, stop):
        finite = _code_row(row, items[row - first], offsets, steps, fine, coarse)
        if not finite and bad[part] < 0:
            bad[part] = row - first


@compiled
def code_rows_serial(
    items: Float32,
    first: int,
    offsets: Int64,
    steps: Int64,
    fine: Layer,
    coarse: Layer,
    bad: Int64,
) -> None:
    """Codes rows into the places from ``first`` on; ``bad [1]`` becomes one that is not finite."""
    _code_part(0, items, first, offsets, steps, fine, coarse, bad)


@parallel
def code_rows_parallel(
    items: Float32,
    first: int,
    offsets: Int64,
    steps: Int64,
    fine: Layer,
    coarse: Layer,
    bad: Int64,
) -> None:
    """As ``code_rows_serial``, in as many parts as ``bad`` has."""
    for i in numba.prange(bad.shape[0]):
        part = int(np.int64(i))
        _code_part(part, items, first, offsets, steps, fine, coarse, bad)


@compiled
def code_queries(
    queries: Float32,
    offsets: Int64,
    steps: Int64,
    codes: Int32,
    starts: Int32,
    coarse_starts: Int32,
    query_scales: Float32,
    norms: Float32,
    slacks: Float32,
) -> None:
    """Codes queries ``[B, D]``.

    Args:
        queries: finite.
        offsets: of the blocks, int64 [n_blocks + 1].
        steps: where the blocks' steps begin, likewise.
        codes: int32 [B, steps], four codes each.
        starts: int32 [B, n_blocks]: the sum of a block's codes, times what to fine ones was added,
            below zero.
        coarse_starts: likewise of coarse ones.
        query_scales: float32 [B, n_blocks], t.
        norms: float32 [B, n_blocks], at least |q|.
        slacks: float32 [B, n_blocks], f, enlarged for what fp32 rounds.
    """
    for b in range(queries.shape[0]):
        for block in range(offsets.shape[0] - 1):
            values = queries[b, offsets[block] : offsets[block + 1]]
            most = total = lost = 0.0
            for d in range(values.shape[0]):
                most = max(most, np.abs(np.float64(values[d])))
                total += np.float64(values[d]) ** 2
            scale = np.float32(most / 127.0)
            codes[b, steps[block] : steps[block + 1]] = 0
            added = 0
            for d in range(values.shape[0]):
                code = np.rint(np.float64(values[d]) / np.float64(scale)) if scale > 0.0 else 0.0
                code = min(max(code, -127.0), 127.0)
                word = (np.int64(code) & 0xFF) << (8 * (d & 3))
                codes[b, steps[block] + (d >> 2)] |= np.int32(np.uint32(word))
                added += int(code)
                lost += (np.float64(values[d]) - np.float64(scale) * code) ** 2
            norm = _above(np.sqrt(total))
            starts[b, block] = -MIDDLE * added
            coarse_starts[b, block] = -COARSE_MIDDLE * added
            query_scales[b, block] = scale
            norms[b, block] = norm
            rounded = rounding_of(offsets.shape[0] - 1) * np.float64(norm)
            slacks[b, block] = _above(np.sqrt(lost) + rounded)
