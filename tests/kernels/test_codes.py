"""Codes and their products: what they lose is known, and every way makes the same integers."""

import numba
import numpy as np
import pytest
from test_top_k import KINDS, vectors

from rankstream.kernels import KernelArgumentError
from rankstream.kernels.code_layers import COARSE_MIDDLE, GROUP, MIDDLE, STEP, TILE
from rankstream.kernels.code_tiles import bound_tile
from rankstream.kernels.code_ways import NAMES, WIDTHS, supported
from rankstream.kernels.codes import code_items, empty_codes, write_codes

WAYS = [
    pytest.param(
        number,
        id=name,
        marks=pytest.mark.skipif(not supported(number), reason=f"this processor has no {name}"),
    )
    for number, name in NAMES.items()
]


@pytest.mark.parametrize("kind", KINDS)
def test_the_items_side_of_the_bound_holds(kind):
    rng = np.random.default_rng(8)
    items, queries = vectors(rng, kind, 200, 24), vectors(rng, kind, 5, 24)
    offsets = np.array([0, 10, 24])
    codes = code_items(items, offsets)
    for b in range(2):
        block = slice(*offsets[b : b + 2])
        check_layer(codes, codes.fine, decoded(codes, b), b, items[:, block], queries[:, block])
        coarse = decoded_coarse(codes, b)
        check_layer(codes, codes.coarse, coarse, b, items[:, block], queries[:, block])


def check_layer(codes, layer, numbers, b, items, queries):
    """One block of 200 rows: what is lost, what is kept, and what a product misses by."""
    scales = per_row(layer.scales, b)[:200].astype(float)
    errors = per_row(layer.errors, b)[:200].astype(float)
    tops = np.repeat(layer.tops.reshape(-1, 2)[:, b], TILE)[:200].astype(float)
    kept = scales[:, None] * numbers[:200, : items.shape[1]]
    exact = items.astype(float)
    with np.errstate(over="ignore"):
        assert (np.linalg.norm(exact - kept, axis=1) <= errors).all()
        assert (np.linalg.norm(kept, axis=1) + errors <= tops * (1 + 1e-6)).all()
        for q in queries.astype(float):
            missed = np.abs(exact @ q - kept @ q)
            assert (missed <= np.linalg.norm(q) * errors * (1 + 1e-12)).all()


def per_row(column, block, blocks=2):
    """One block's column of all rows."""
    return column.reshape(-1, blocks, TILE)[:, block].reshape(-1)


def decoded(codes, block):
    """The fine codes of a block, ``[rows, 4 * steps]``."""
    return bytes_of(codes, codes.fine, block, GROUP).astype(float) - MIDDLE


def decoded_coarse(codes, block):
    """Likewise the coarse ones."""
    packed = bytes_of(codes, codes.coarse, block, GROUP - 1)
    packed = packed.reshape(len(packed), -1, GROUP - 1, 4)
    fourth = sum((packed[:, :, place] >> 6) << 2 * place for place in range(3))
    numbers = np.concatenate([packed & 63, fourth[:, :, None]], axis=2)
    return numbers.reshape(len(packed), -1).astype(float) - COARSE_MIDDLE


def bytes_of(codes, layer, block, a_group):
    """A block's bytes of all rows, so many words to a group."""
    groups = codes.steps // GROUP
    tiles = layer.codes.reshape(-1, int(groups[-1]) * a_group, TILE, 4)
    tiles = tiles[:, groups[block] * a_group : groups[block + 1] * a_group]
    return tiles.transpose(0, 2, 1, 3).reshape(tiles.shape[0] * TILE, -1)


def test_codes_written_bit_by_bit_are_those_written_at_once():
    rng = np.random.default_rng(9)
    items, offsets = vectors(rng, "random", 300, 14), np.array([0, 9, 14])
    made, done = empty_codes(300, offsets), 0

    for stop in (1, 2, 63, 64, 65, 200, 300):
        assert write_codes(made, items[done:stop], done) == -1
        done = stop

    whole = code_items(items, offsets)
    assert all(np.array_equal(*pair) for pair in zip(made.arrays, whole.arrays, strict=True))


@numba.njit
def run_tile(way, width, codes, scales, errors, queries, starts, factors, out, cuts, masks, packed):
    bound_tile(
        way, width, codes, 0, queries.shape[1], scales, errors, 0, queries, 0, 0, starts,
        factors, factors, 0, out, 1, out, cuts, masks, packed,
    )  # fmt: skip


@pytest.mark.parametrize("number", WAYS)
@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_every_way_makes_the_same_integers(number, extreme, packed):
    rng = np.random.default_rng(2)
    steps, top, middle = 1000, 64 if packed else 256, COARSE_MIDDLE if packed else MIDDLE
    codes = rng.integers(0, top, (steps, TILE, 4)).astype(np.uint8)
    queries = rng.integers(-127, 128, (6, 4 * steps)).astype(np.int8)
    if extreme:
        codes[:], queries[:3], queries[3:] = top - 1, 127, -127
    sums = queries.astype(np.int64) @ (
        codes.transpose(0, 2, 1).reshape(-1, TILE).astype(np.int64) - middle
    )
    starts = (-middle * queries.astype(np.int64).sum(1, keepdims=True)).astype(np.int32)
    words, ones = queries.view(np.int32), np.ones((6, 1), np.float32)
    laid = pack(codes) if packed else codes
    for width in (1,) if packed else WIDTHS[number]:
        out, masks = np.zeros((6, TILE), np.float32), np.zeros(6, np.uint64)
        cuts = np.full(6, 1000.0, np.float32)
        columns = np.ones(TILE, np.float32), np.zeros(TILE, np.float32)
        asked = words, starts, ones, out, cuts, masks, int(packed)
        run_tile(number, width, laid.reshape(-1), *columns, *asked)
        assert np.array_equal(out[:width], sums[:width].astype(np.float32))
        reached = (out[:width] >= 1000) @ (1 << np.arange(TILE, dtype=np.uint64))
        assert np.array_equal(masks[:width], reached)


def pack(codes):
    """Six-bit codes of ``[steps, 64, 4]``, four steps in the place of three."""
    groups = codes.reshape(-1, GROUP, TILE, 4)
    shifts = 2 * np.arange(GROUP - 1, dtype=np.uint8)[:, None, None]
    return groups[:, :3] | ((groups[:, 3:] >> shifts) & 3) << 6


def test_a_bound_that_is_no_number_is_reached():
    out, masks = np.full((1, TILE), np.nan, np.float32), np.zeros(6, np.uint64)
    ones, zeros = np.ones(TILE, np.float32), np.zeros((1, 1), np.int32)
    for number in NAMES:
        run_tile(
            number, 1, np.zeros(STEP, np.uint8), ones, ones, zeros, zeros,
            np.ones((1, 1), np.float32), out, np.zeros(6, np.float32), masks, 0,
        )  # fmt: skip
        assert masks[0] == np.uint64(2**64 - 1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_items_that_are_not_finite_have_no_codes(value):
    items = np.zeros((200, 3), np.float32)
    items[150, 2] = value

    with pytest.raises(KernelArgumentError, match="not finite in row 150"):
        code_items(items)


def test_rows_without_a_place_are_refused():
    room = empty_codes(100, np.array([0, 4]))
    for rows, first in ((np.zeros((9, 4)), 92), (np.zeros((1, 3)), 0), (np.zeros((1, 4)), -1)):
        with pytest.raises(KernelArgumentError, match="rows of 4 dimensions"):
            write_codes(room, rows.astype(np.float32), first)


@pytest.mark.parametrize(
    ("items", "offsets", "problem"),
    [
        (np.zeros((3, 4)), None, "float32"),
        (np.zeros((3, 4), np.float32).T, None, "C-contiguous"),
        (np.zeros(4, np.float32), None, "shape"),
        (np.zeros((3, 0), np.float32), None, "dimension"),
        (np.zeros((1, 65_537), np.float32), None, "65537 dimensions"),
        (np.zeros((3, 4), np.float32), np.array([0, 5]), "offsets"),
        (np.zeros((3, 4), np.float32), np.array([1, 4]), "offsets"),
    ],
)
def test_what_cannot_be_coded_is_refused(items, offsets, problem):
    with pytest.raises(KernelArgumentError, match=problem):
        code_items(items, offsets)
