"""Scores taken apart: by block, by interaction, and by both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankstream.kernels.explain import block_parts
from rankstream.kernels.query import Extras, Space
from rankstream.kernels.rank import pick_candidates
from rankstream.kernels.texts import text_at
from rankstream.server.catalog.view import Catalogue
from rankstream.server.reading import Read, fallback_of
from rankstream.server.retrieval import Retrieval, read_candidates
from rankstream.server.subjects import Subject, updated_at_ms
from rankstream.server.types import Head, Position


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that a vector is made of.

    Attributes:
        item_id: "" where it is no item.
        text: "" where it is no text.
        type_id: of the event, or of what is none.
        event_time_ms: 0 where it has no time.
    """

    item_id: str
    text: str
    type_id: int
    event_time_ms: int


@dataclass(frozen=True, slots=True, eq=False)
class ExplainedScore:
    """One item's score.

    Attributes:
        place: of the item among those asked for.
        score: fp32.
        parts: ``float64 [n_blocks]``.
        bias: fp32.
        contributions: ``float64 [C, n_blocks]``, a row a cause.
    """

    place: int
    score: float
    parts: NDArray[np.float64]
    bias: float
    contributions: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class ExplainAnswer:
    """Some scores of one subject, taken apart.

    Attributes:
        scores: of the items that exist, in the order asked for.
        causes: what the subject's vector is made of.
        missing: places of the items that do not exist.
        fallback: why the answer is not personal, or "".
        updated_at_ms: the broker's timestamp of the newest record in the profile; 0: none.
        applied: the positions that this answer has seen.
        head: the catalogue it is from.
        queue_us: how long the task waited.
    """

    scores: list[ExplainedScore]
    causes: list[Cause]
    missing: list[int]
    fallback: str
    updated_at_ms: int
    applied: tuple[Position, ...]
    head: Head
    queue_us: int


def explain(
    read: Read, subject: Subject, catalogue: Catalogue, retrieval: Retrieval, queue_us: int
) -> ExplainAnswer:
    """Takes the scores of one task's candidates apart.

    Args:
        read: the task, and what was read for it.
        subject: its vector.
        catalogue: whose rows.
        retrieval: which rows the candidates are, and their bias.
        queue_us: how long the task waited.
    """
    (task,), extras, past = read.tasks, read.gathered.extras, subject.past
    rows = retrieval.rows_of(read_candidates(task))
    scores, causes = explain_scores(
        subject, catalogue.space, extras, retrieval.bias(read.tasks), rows
    )
    header, personal = past.headers[0], bool(subject.pooled.norms.any())
    return ExplainAnswer(
        scores=scores,
        causes=[
            Cause(
                item_id=catalogue.item_id(row) if row >= 0 else "",
                text=text_at(extras.labels, -2 - row) if row < 0 else "",
                type_id=int(past.types[t]),
                event_time_ms=int(past.event_times_ms[t]),
            )
            for t, row in zip(causes.tolist(), past.rows[causes].tolist(), strict=True)
        ],
        missing=np.flatnonzero(rows < 0).tolist(),
        fallback=fallback_of(header, read.gathered.people[0], personal=personal),
        updated_at_ms=updated_at_ms(header),
        applied=read.applied,
        head=catalogue.head,
        queue_us=queue_us,
    )


def explain_scores(
    subject: Subject,
    space: Space,
    extras: Extras,
    bias: NDArray[np.float32],
    rows: NDArray[np.int32],
) -> tuple[list[ExplainedScore], NDArray[np.int64]]:
    """Takes the scores of items apart.

    Interaction t adds ``w_t * (v_n / norm_n) * (x_t . x_r)`` over block n: the definition of
    ``kernels/explain.py``, here with every interaction and block apart.

    Args:
        subject: of one task.
        space: the rows of the items.
        extras: the rows of the texts.
        bias: ``float32 [.]`` by row; 0 behind its end.
        rows: ``int32 [P]``; -1 does not exist.

    Returns:
        The scores of those that exist, in order; and which interactions the rows of
        ``contributions`` are: ``int64 [C]``.
    """
    past, pooled = subject.past, subject.pooled
    causes = np.flatnonzero(past.rows != -1)
    vectors = _vectors(past.rows[causes], space, extras)
    found = np.flatnonzero(rows >= 0)
    chosen, indptr = rows[found], np.array([0, len(found)])
    parts = block_parts(pooled.queries, space.items, indptr, chosen, space.offsets)
    ks = np.array([len(found)])
    best = pick_candidates(pooled.queries, space.items, indptr, chosen, ks, bias)
    scores = dict(zip(best.rows.tolist(), best.scores.tolist(), strict=True))
    scales = np.divide(
        subject.block_weights[0],
        pooled.norms[0],
        out=np.zeros_like(pooled.norms[0]),
        where=pooled.norms[0] > 0,
    )
    made = []
    for i, (place, row) in enumerate(zip(found.tolist(), chosen.tolist(), strict=True)):
        products = vectors * space.items[row].astype(np.float64)
        blocks = np.add.reduceat(products[:, : space.offsets[-1]], space.offsets[:-1], axis=1)
        contributions = past.weights[causes, None] * scales * blocks
        own = float(bias[row]) if row < len(bias) else 0.0
        made.append(ExplainedScore(place, scores[row], parts[i], own, contributions))
    return made, causes


def _vectors(rows: NDArray[np.int32], space: Space, extras: Extras) -> NDArray[np.float64]:
    """The vector of each interaction: ``float64 [C, D]``."""
    vectors = np.empty((len(rows), space.items.shape[1]))
    are_items = rows >= 0
    vectors[are_items] = space.items[rows[are_items]]
    vectors[~are_items] = extras.vectors[-2 - rows[~are_items]]
    return vectors
