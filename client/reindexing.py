"""Changes of the encoder: generations of the catalogue, and how far a change is."""

from __future__ import annotations

from dataclasses import dataclass

from rankstream.client.mirror import mirror
from rankstream.proto.v1 import admin_pb2

ENDED = ("done", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class ReindexProgress:
    """How far a change to another generation is.

    Attributes:
        id: names the change.
        kind: "reindex" or "rollback".
        phase: "loading", "encoding", "starting", "draining"; then "done", "failed" or "cancelled".
            "cancelling": it is given up as soon as its model is loaded.
        problem: why it failed.
        generation: the one that is to be served.
        model: the folder of its model, on the server; "": the default one.
        space_fingerprint: of its vectors, once it is loaded.
        items: that it has.
        items_total: that the served one has.
        texts: of events and users that it has a vector of.
        texts_total: that there are.
        elapsed_s: since it was asked for.
        rate: items and texts a second; 0: not known yet.
        eta_s: seconds that the encoding takes still; -1: not known.
        waiting: what holds it up, a full disk for example; "": nothing that is known.
    """

    id: str
    kind: str
    phase: str
    problem: str
    generation: int
    model: str
    space_fingerprint: str
    items: int
    items_total: int
    texts: int
    texts_total: int
    elapsed_s: float
    rate: float
    eta_s: float
    waiting: str = ""

    @property
    def ended(self) -> bool:
        """Whether this is the last word."""
        return self.phase in ENDED


def progress_from_pb(message: admin_pb2.ReindexProgress) -> ReindexProgress:
    """Our form of a message of progress."""
    return mirror(ReindexProgress, message)
