"""The ways to find the k best of many rows that ``top_k.py`` compares, ours among them.

Each is made from the items once, and then answers batches of queries. What it needs is imported
when it is made: a process has one of them, and nothing of the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

OURS, FP32, FLAT = "ours", "ours fp32", "faiss flat"
_I8_MOST = 127


class Answer(NamedTuple):
    """The best rows of each query, best first.

    Attributes:
        rows: ``[B, k]`` integers.
        scores: ``[B, k]`` float32 of ours; None of a peer.
        widened: queries that the codes were too coarse for.
    """

    rows: NDArray[Any]
    scores: NDArray[np.float32] | None = None
    widened: int = 0


class Method(Protocol):
    """One way.

    Attributes:
        pass_bytes: what is read of the items at least, if a batch reads them once.
        one_bytes: the same of a batch of one.
    """

    pass_bytes: int

    @property
    def one_bytes(self) -> int:
        """As ``pass_bytes``, unless one query reads something else."""
        return self.pass_bytes

    def answer(self, queries: NDArray[np.float32], k: int) -> Answer:
        """The k best for ``[B, D]`` queries."""


class _Ours(Method):
    """By codes, multiplied in one of the ways; or by the rows themselves."""

    def __init__(self, items: NDArray[np.float32], threads: int, way: str) -> None:
        from rankstream.kernels import configure_threads, top_k
        from rankstream.kernels.codes import code_items
        from rankstream.kernels.scan import use_way

        configure_threads(threads)
        self._top_k, self._items, self._codes = top_k, items, None
        self.pass_bytes = items.nbytes
        if way:
            use_way(way)
            self._codes = code_items(items)
            self.pass_bytes = sum(array.nbytes for array in self._codes.fine)

    @property
    def one_bytes(self) -> int:
        from rankstream.kernels.scan import reads_coarse

        if self._codes is None or not reads_coarse(self._codes, 1):
            return self.pass_bytes
        return sum(array.nbytes for array in self._codes.coarse)

    def answer(self, queries: NDArray[np.float32], k: int) -> Answer:
        best = self._top_k(queries, self._items, k, codes=self._codes)
        return Answer(best.rows, best.scores, best.widened)


class _Faiss(Method):
    """IndexFlatIP, or IndexScalarQuantizer of some kind."""

    def __init__(self, items: NDArray[np.float32], threads: int, kind: str) -> None:
        import faiss

        faiss.omp_set_num_threads(threads)
        count, dimensions = items.shape
        self._index: Any = faiss.IndexFlatIP(dimensions)
        if kind:
            quantizer = getattr(faiss.ScalarQuantizer, kind)
            metric = faiss.METRIC_INNER_PRODUCT
            self._index = faiss.IndexScalarQuantizer(dimensions, quantizer, metric)
        # It takes the integer part of items and queries: so they are codes of one step already.
        self._coded = _as_i8 if kind == "QT_8bit_direct_signed" else np.asarray
        items = self._coded(items).astype(np.float32, copy=False)
        self._index.train(items)
        self._index.add(items)
        self.pass_bytes = count * int(self._index.code_size)

    def answer(self, queries: NDArray[np.float32], k: int) -> Answer:
        coded = self._coded(queries).astype(np.float32, copy=False)
        return Answer(self._index.search(coded, k)[1])


class _Usearch(Method):
    """The exact search over an array; eight-bit codes have one step for all items."""

    def __init__(self, items: NDArray[np.float32], threads: int, kind: str) -> None:
        from usearch.index import MetricKind, search

        coded: Mapping[str, Callable[[Any], NDArray[Any]]]
        coded = {"f32": np.array, "bf16": _as_bf16, "i8": _as_i8}
        self._coded = coded[kind]
        self._items = self._coded(items)
        self._more = {"metric": MetricKind.IP, "exact": True, "threads": threads, "dtype": kind}
        self._search = search
        self.pass_bytes = self._items.nbytes

    def answer(self, queries: NDArray[np.float32], k: int) -> Answer:
        found = self._search(self._items, self._coded(queries), k, **self._more)
        return Answer(found.keys.reshape(len(queries), -1))


def _as_bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The upper halves, rounded to even."""
    words = np.ascontiguousarray(values).view(np.uint32)
    return ((words + 0x7FFF + ((words >> 16) & 1)) >> 16).astype(np.uint16)


def _as_i8(values: NDArray[np.float32]) -> NDArray[np.int8]:
    codes: NDArray[np.int8] = np.rint(values * (_I8_MOST / np.abs(values).max())).astype(np.int8)
    return codes


class _Torch(Method):
    """A product of matrices and topk, in whichever of two layouts is faster for the batch."""

    def __init__(self, items: NDArray[np.float32], threads: int, kind: str) -> None:
        import torch

        torch.set_num_threads(threads)
        self._torch, self._type = torch, getattr(torch, kind)
        # A copy also where the type stays: the mapping has pages of 4 KiB.
        self._items = torch.from_numpy(np.array(items)).to(self._type)
        self._layouts: dict[int, Callable[[Any, int], Any]] = {}
        self.pass_bytes = self._items.nbytes

    def answer(self, queries: NDArray[np.float32], k: int) -> Answer:
        with self._torch.inference_mode():
            coded = self._torch.tensor(queries).to(self._type)
            layout = self._layouts.get(len(queries)) or self._faster(coded, k)
            return Answer(layout(coded, k).numpy())

    def _by_query(self, queries: Any, k: int) -> Any:
        return (queries @ self._items.T).topk(k).indices

    def _by_item(self, queries: Any, k: int) -> Any:
        return (self._items @ queries.T).T.topk(k).indices

    def _faster(self, queries: Any, k: int) -> Callable[[Any, int], Any]:
        def duration(layout: Callable[[Any, int], Any]) -> float:
            layout(queries, k)
            started = time.perf_counter()
            layout(queries, k)
            return time.perf_counter() - started

        chosen = min((self._by_query, self._by_item), key=duration)
        self._layouts[len(queries)] = chosen
        return chosen


class _Numpy(Method):
    """A product of matrices and argpartition; its threads are OPENBLAS_NUM_THREADS."""

    def __init__(self, items: NDArray[np.float32], threads: int, kind: str) -> None:
        self._items = np.array(items)
        self.pass_bytes = items.nbytes

    def answer(self, queries: NDArray[np.float32], k: int) -> Answer:
        scores = queries @ self._items.T
        rows = np.argpartition(scores, -k, axis=1)[:, -k:]
        order = np.argsort(-np.take_along_axis(scores, rows, 1), axis=1)
        return Answer(np.take_along_axis(rows, order, 1))


_Way = tuple[Callable[[NDArray[np.float32], int, str], Method], str]

OUR_WAYS: Mapping[str, _Way] = {
    OURS: (_Ours, "auto"),
    FP32: (_Ours, ""),
    "ours avx2": (_Ours, "avx2"),
    "ours plain": (_Ours, "plain"),
}
PEERS: Mapping[str, _Way] = {
    FLAT: (_Faiss, ""),
    "faiss fp16": (_Faiss, "QT_fp16"),
    "faiss bf16": (_Faiss, "QT_bf16"),
    "faiss 8bit": (_Faiss, "QT_8bit"),
    "faiss 8bit direct signed": (_Faiss, "QT_8bit_direct_signed"),
    "usearch f32": (_Usearch, "f32"),
    "usearch bf16": (_Usearch, "bf16"),
    "usearch i8": (_Usearch, "i8"),
    "torch fp32": (_Torch, "float32"),
    "torch bf16": (_Torch, "bfloat16"),
    "numpy": (_Numpy, ""),
}


def make(name: str, items: NDArray[np.float32], threads: int) -> Method:
    """The method of a name of ``OUR_WAYS`` or ``PEERS``, over ``[N, D]`` items."""
    method, kind = OUR_WAYS[name] if name in OUR_WAYS else PEERS[name]
    return method(items, threads, kind)
