"""Imports: many entries over one stream, and what became of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rankstream.client.calls.streams import MAX_FAILURES_KEPT, Source, Upload
from rankstream.client.errors import RankstreamError, error_from_status
from rankstream.client.records import Event, Item, event_to_pb, item_to_pb
from rankstream.proto.v1 import catalog_pb2, events_pb2


@dataclass(frozen=True, slots=True)
class ImportFailure:
    """An entry that was refused; ``index`` counts from 0; ``item_id`` is empty of an event."""

    index: int
    item_id: str
    error: RankstreamError


@dataclass(frozen=True, slots=True)
class ImportProgress:
    """How far an import is.

    Attributes:
        accepted: entries in the log so far.
        rejected: entries that were refused so far.
        failures: the refused ones since the last report.
        token: a read that carries it sees what is in the log so far.
    """

    accepted: int
    rejected: int
    failures: tuple[ImportFailure, ...]
    token: bytes


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of an import; ``failures`` holds the first thousand at most.

    A read that carries ``token`` sees all that was accepted.
    """

    accepted: int
    rejected: int
    failures: tuple[ImportFailure, ...]
    token: bytes


class ItemImport(Upload[Item, Imported]):
    """``ImportItems``; see ``Client.import_items``."""

    def __init__(
        self,
        items: Source[Item],
        on_progress: Callable[[ImportProgress], None] | None,
        timeout_s: float | None,
    ) -> None:
        super().__init__(
            path="Catalog/ImportItems",
            source=items,
            timeout_s=timeout_s,
            one_answer=False,
            write=item_to_pb,
            wrap=lambda entries: catalog_pb2.ImportItemsRequest(items=entries),
            empty=catalog_pb2.Item,
        )
        self._on_progress = on_progress
        self._last = ImportProgress(0, 0, (), b"")
        self._failures: list[ImportFailure] = []

    def read(self, answer: Any) -> None:
        """Takes a report on."""
        failures = tuple(self._failure(failure) for failure in answer.failures)
        self._failures += failures[: MAX_FAILURES_KEPT - len(self._failures)]
        self._last = ImportProgress(answer.accepted, answer.rejected, failures, answer.token)
        self.answered = answer.accepted + answer.rejected
        if self._on_progress is not None:
            self._on_progress(self._last)

    def result(self) -> Imported:
        """What became of all items."""
        last = self._last
        return Imported(last.accepted, last.rejected, tuple(self._failures), last.token)

    def _failure(self, failure: catalog_pb2.ItemFailure) -> ImportFailure:
        error = self.problem_at(failure.index, error_from_status(failure.status))
        return ImportFailure(failure.index, failure.item_id, error)


class EventImport(Upload[Event, Imported]):
    """``ImportEvents``; see ``Client.import_events``."""

    def __init__(self, events: Source[Event], timeout_s: float | None) -> None:
        super().__init__(
            path="Events/ImportEvents",
            source=events,
            timeout_s=timeout_s,
            one_answer=True,
            write=event_to_pb,
            wrap=lambda entries: events_pb2.ImportEventsRequest(events=entries),
            empty=events_pb2.Event,
        )
        self._result = Imported(0, 0, (), b"")

    def read(self, answer: Any) -> None:
        """Takes the answer."""
        failures = (
            ImportFailure(f.index, "", self.problem_at(f.index, error_from_status(f.status)))
            for f in answer.failures
        )
        self._result = Imported(answer.accepted, answer.rejected, tuple(failures), answer.token)
        self.answered = answer.accepted + answer.rejected

    def result(self) -> Imported:
        """What became of all events."""
        return self._result
