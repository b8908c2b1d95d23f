"""Changes of generations, asked for and followed by a worker.

A worker only asks: what becomes of it, ingest notes in the state, where every worker sees it.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import TypeVar

from rankstream.proto.v1 import admin_pb2
from rankstream.server.announce import Announcements
from rankstream.server.clock import now_ms
from rankstream.server.config import Encoding, encoding_from
from rankstream.server.errors import InvalidArgument, NotFound, StateRefused, Unavailable
from rankstream.server.generation import SWITCHED, Change, Generation, absolute, other_slot
from rankstream.server.generations import (
    current_slot,
    generation_in,
    known_ids,
    newest_change,
    next_number,
)
from rankstream.server.services.progress import Meter, progress_of, refusal_of
from rankstream.server.store import Store, View

T = TypeVar("T")

_LOOK_S = 0.25
_ANSWER_LOOK_S = 0.02
# So long an answer to CancelReindex waits for the end, once it is noted: a model may be loading.
_GRACE_S = 1.0
_LONGEST_PATH = 4096
# Ingest shows several times a second that it is there, except while it starts.
_BEAT_MS = 5_000
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Changes:
    """Begins, follows and gives up changes.

    Args:
        store: this worker's.
        page: what ingest tells without a commit.
        ask: tells ingest, by way of the supervisor.
        check: refuses settings of an encoder that cannot be loaded.
        answer_s: how long ingest has to take up what it is asked.
    """

    def __init__(
        self,
        store: Store,
        page: Announcements,
        ask: Callable[[str], None],
        check: Callable[[Encoding], None],
        answer_s: float,
    ) -> None:
        self._store = store
        self._page = page
        self._ask = ask
        self._check = check
        self._answer_s = answer_s

    async def reindex(
        self, change_id: str, model: str, settings: Mapping[str, str]
    ) -> AsyncGenerator[admin_pb2.ReindexProgress, None]:
        """Has a generation made, or goes on with what this id began; yields its progress.

        Raises:
            InvalidArgument: a setting that there is not, or out of the model's range.
            ModelRefused: no model is there.
            StateRefused: another change is under way, or the id is another's.
        """
        known, served = self._look_up(change_id)
        if known is not None:
            _refuse_other(known, "reindex", model)
        else:
            encoding = _encoding(model, settings, served.encoding)
            await asyncio.get_running_loop().run_in_executor(None, self._checked, encoding)
            with self._store.read() as view:
                target = Generation(other_slot(served.slot), next_number(view), encoding)
            known = await self._begin(change_id, "reindex", target)
        async for progress in self.follow(known.id):
            yield progress

    async def rollback(self, change_id: str) -> AsyncGenerator[admin_pb2.ReindexProgress, None]:
        """Has the kept generation served, or goes on with what this id began.

        Raises:
            NotFound: none is kept.
            StateRefused: another change is under way, or the id is another's.
        """
        known, served = self._look_up(change_id)
        if known is not None:
            _refuse_other(known, "rollback", "")
        else:
            known = await self._begin(change_id, "rollback", self._kept(served))
        async for progress in self.follow(known.id):
            yield progress

    async def follow(self, change_id: str = "") -> AsyncGenerator[admin_pb2.ReindexProgress, None]:
        """Yields the progress of a change, the newest by default, until it has ended.

        Raises:
            NotFound: there never was one, or another has begun since.
            Unavailable: this worker has been replaced; another one goes on.
        """
        meter = Meter()
        while True:
            with self._store.read() as view:
                change = newest_change(view)
                if change is None or change_id not in ("", change.id):
                    msg = "there is no such change of generations, or another has begun since"
                    raise NotFound(msg)
                change_id = change.id
                progress = progress_of(view, change, self._page)
                served = current_slot(view) == self._store.slot
            meter.measure(progress)
            yield progress
            if change.ended:
                return
            if not served:
                msg = "this worker is being replaced: ask again, with the same id"
                raise Unavailable(msg)
            await asyncio.sleep(_LOOK_S)

    async def cancel(self) -> admin_pb2.ReindexProgress:
        """Gives up the change that is under way; how it ended, or "cancelling".

        Raises:
            StateRefused: there is none, or it is served already.
        """
        change = self._running()
        if change is None:
            msg = "no change of generations is under way"
            raise StateRefused(msg)
        _refuse_served(change)
        self._say({"verb": "cancel", "id": change.id})

        grace_until = time.monotonic() + _GRACE_S

        def given_up(view: View) -> admin_pb2.ReindexProgress | None:
            now = newest_change(view)
            if now is None or now.id != change.id:
                msg = f"{change.kind} {change.id} ended before it could be given up"
                raise StateRefused(msg)
            _refuse_served(now)
            noted = now.phase == "cancelling" and time.monotonic() > grace_until
            return progress_of(view, now, self._page) if now.ended or noted else None

        return await self._until(given_up, "give it up")

    async def drop(self, number: int = 0) -> int:
        """Removes the generation that is kept; its number.

        Args:
            number: which one is meant; 0: whichever is kept.

        Raises:
            NotFound: none is kept, or another one.
            StateRefused: a change is under way.
        """
        running, served = self._look_up("")
        assert running is None
        kept = self._kept(served)
        if number not in (0, kept.number):
            msg = f"generation {number} is not kept; generation {kept.number} is"
            raise NotFound(msg)
        self._say({"verb": "drop", "number": str(kept.number)})

        def gone(view: View) -> bool:
            return generation_in(view, kept.slot) is None

        await self._until(gone, "remove it")
        return kept.number

    def _checked(self, encoding: Encoding) -> None:
        if encoding.cache_mib < 0:
            problem = f"{encoding.cache_mib}, expected MiB, at least 0"
            raise InvalidArgument(field="settings[cache_mib]", problem=problem)
        try:
            self._check(encoding)
        except InvalidArgument as error:
            raise _of_settings(error) from None

    def _look_up(self, change_id: str) -> tuple[Change | None, Generation]:
        """The change that this id began, and the generation that is served.

        Raises:
            StateRefused: another one is under way, or has begun since that of this id.
        """
        with self._store.read() as view:
            change, served = newest_change(view), generation_in(view, current_slot(view))
            known = known_ids(view)
        if served is None:
            msg = "the state has no generation yet: ingest has still to open it"
            raise Unavailable(msg)
        if change is not None and change_id and change.id == change_id:
            return change, served
        if change_id in known:
            msg = f"change {change_id} ended, and another has begun since: give another id"
            raise StateRefused(msg)
        self._refuse_second(change)
        return None, served

    def _refuse_second(self, change: Change | None) -> None:
        if change is not None and not change.ended:
            _refuse_served(change)
            msg = (
                f"{change.kind} {change.id} to generation {change.target.number} is under way "
                f"({change.phase}): follow it with WatchReindex, or give it up with CancelReindex"
            )
            raise StateRefused(msg)

    def _kept(self, served: Generation) -> Generation:
        with self._store.read() as view:
            kept = generation_in(view, other_slot(served.slot))
        if kept is None:
            msg = "no generation is kept beside the one that is served"
            raise NotFound(msg)
        return kept

    async def _begin(self, change_id: str, kind: str, target: Generation) -> Change:
        if change_id and _ID.fullmatch(change_id) is None:
            problem = f"{change_id[:80]!r}, expected up to 64 letters, digits, '-' or '_'"
            raise InvalidArgument(field="id", problem=problem)
        asked = Change(
            id=change_id or uuid.uuid4().hex,
            kind="reindex" if kind == "reindex" else "rollback",
            target=target,
            phase="loading",
            started_at_ms=now_ms(),
        )
        self._say({"verb": "begin", "change": asked.to_json()})

        def begun(view: View) -> Change | None:
            change = newest_change(view)
            if change is not None and change.id == asked.id:
                return change
            self._refuse_second(change)
            return None

        return await self._until(begun, "begin")

    def _running(self) -> Change | None:
        with self._store.read() as view:
            change = newest_change(view)
        return change if change is not None and not change.ended else None

    def _say(self, asked: dict[str, str]) -> None:
        """Asks ingest, where it is there to hear: it must not do later what nobody waits for."""
        beat_ms = self._page.beat_age_ms
        if not 0 <= beat_ms < _BEAT_MS:
            msg = "ingest is not there: it starts, or was stopped; ask again in a few seconds"
            raise Unavailable(msg)
        if not self._page.found_log:
            msg = "ingest waits for the log: the broker does not answer; ask again when it does"
            raise Unavailable(msg)
        self._ask("ask " + json.dumps(asked))

    async def _until(self, look: Callable[[View], T | None], what: str) -> T:
        until = time.monotonic() + self._answer_s
        while time.monotonic() < until:
            with self._store.read() as view:
                found = look(view)
            if found:
                return found
            await asyncio.sleep(_ANSWER_LOOK_S)
        why = refusal_of(self._page) or "it may yet"
        msg = f"ingest did not {what} within {self._answer_s:g} s: {why}; watch it (WatchReindex)"
        raise Unavailable(msg)


def _refuse_other(known: Change, kind: str, model: str) -> None:
    """An id that began one change is not that of another."""
    if known.kind != kind:
        msg = f"id {known.id} is of a {known.kind}: give another id"
        raise StateRefused(msg)
    if model and absolute(Encoding(model=model)).model != known.target.encoding.model:
        target = known.target.encoding.model or "the default model"
        msg = f"id {known.id} is of a {known.kind} to {target}: give another id"
        raise StateRefused(msg)


def _refuse_served(change: Change) -> None:
    """Once the new generation is served, the change cannot be given up, only taken back."""
    served = f"generation {change.target.number} is served already"
    if change.phase == "done":
        msg = f"{served}: roll back instead (RollbackReindex)"
        raise StateRefused(msg)
    if change.phase in SWITCHED:
        msg = (
            f"{served} by {change.kind} {change.id} ({change.phase}): wait until the workers of "
            "before have finished (WatchReindex), then roll back (RollbackReindex) or ask again"
        )
        raise StateRefused(msg)


def _encoding(model: str, settings: Mapping[str, str], served: Encoding) -> Encoding:
    if len(model) > _LONGEST_PATH:
        problem = f"{len(model)} characters, expected a folder's path of at most {_LONGEST_PATH}"
        raise InvalidArgument(field="model", problem=problem)
    base = Encoding(model=model) if model else served
    for name, value in settings.items():
        if name == "model" or len(value) > _LONGEST_PATH:
            problem = f"expected a setting beside the model, of at most {_LONGEST_PATH} characters"
            raise InvalidArgument(field=f"settings[{name[:80]}]", problem=problem)
    try:
        return absolute(encoding_from(settings, base))
    except InvalidArgument as error:
        raise _of_settings(error) from None


def _of_settings(error: InvalidArgument) -> InvalidArgument:
    """The same of a request's settings."""
    return InvalidArgument(f"settings[{error.field[:80]}]", error.problem)
