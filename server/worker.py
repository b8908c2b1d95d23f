"""A serving process: read-only state, one event loop, one engine thread; its start and its end."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import logging
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import uvloop

from rankstream import kernels
from rankstream.server.batcher import Batch
from rankstream.server.candidates import GivenIds
from rankstream.server.catalog.blocks import make_layout
from rankstream.server.child import Control, Inherited, child_main
from rankstream.server.config import Settings
from rankstream.server.derived import encoder_settings, kernel_threads
from rankstream.server.encoder.base import Encoder
from rankstream.server.encoder.load import load_encoder
from rankstream.server.endpoints import Servers
from rankstream.server.engine import Engine, Task
from rankstream.server.errors import NotFound, RankstreamError, StateRefused
from rankstream.server.generation import Generation
from rankstream.server.generations import space_of
from rankstream.server.parts import Parts, make_parts
from rankstream.server.paths import Paths
from rankstream.server.profiles.history import gather_histories
from rankstream.server.profiles.interaction import TEXT
from rankstream.server.types import Asked, ExplainTask, Query, RankTask, Session, text_key

log = logging.getLogger(__name__)

# A request's objects die with it, and none of them are in cycles.
_GC_THRESHOLDS = (50_000, 50, 100)


def run(settings: Settings, control: Control, inherited: Inherited) -> None:
    """Warms up, serves, drains on SIGTERM."""
    uvloop.run(_serve(settings, control, inherited))


async def _serve(settings: Settings, control: Control, inherited: Inherited) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    paths = Paths(Path(settings.state.data_dir))
    orders = Orders(control, stopping)
    told = await orders.wait_for("generation")
    if told is None:
        return
    # For life: nothing in this process ever sees another generation, or another encoder.
    generation = Generation.from_json(told)
    settings = dataclasses.replace(settings, encoding=generation.encoding)
    # Kernels and encoder load while ingest opens the state.
    with ThreadPoolExecutor(1, thread_name_prefix="warm-up") as pool:
        encoder = await loop.run_in_executor(pool, _warm_up, settings, paths)
    if await orders.wait_for("state") is None:
        return
    parts = make_parts(settings, paths, encoder, inherited, control, generation.slot)
    _require_same_space(parts, generation)
    await loop.run_in_executor(None, _warm_engine, parts.engine)
    # What reads profiles beside the engine: GetProfile, StreamEvents.
    await loop.run_in_executor(None, gather_histories, parts.profiles.fold, [b""], [b""])
    parts.freshness.listen(loop)
    parts.publisher.connect_soon()
    # What is loaded by now lives as long as the process: the collector need not walk it again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    control.send("warm")
    if await orders.wait_for("serve") is None:
        return
    servers = Servers(parts)
    await servers.start()
    control.send("ready")
    await stopping.wait()
    await servers.drain()
    parts.ranker.close()
    parts.embedder.close()
    parts.past_bias.close()
    parts.publisher.close()
    parts.store.close()


def _require_same_space(parts: Parts, generation: Generation) -> None:
    """Refuses a model whose files have changed since the generation was encoded by it."""
    with parts.store.read() as view:
        made = space_of(view, generation.slot)
    if made != parts.encoder.fingerprint:
        model = generation.encoding.model or "the default model"
        msg = (
            f"generation {generation.number} was encoded in space {made}, but {model} now gives "
            f"{parts.encoder.fingerprint}: its files have changed; put them back, or reindex"
        )
        raise StateRefused(msg)


def _warm_up(settings: Settings, paths: Paths) -> Encoder:
    kernels.configure_threads(kernel_threads(settings))
    log.info("warming up; the first start compiles kernels, which takes up to a minute")
    encoder = load_encoder(encoder_settings(settings, paths))
    encoder.warm_up()
    layout = make_layout(encoder.dimension, settings.scoring)
    kernels.warm_up(layout.stride, len(layout.blocks))
    return encoder


def _warm_engine(engine: Engine) -> None:
    """Ranks once for nobody: every code path of the hot line has run before the first caller."""
    nothing = np.empty(0, np.uint64)
    keys = kernels.distinct_keys(np.zeros(1, np.uint64))
    ids = GivenIds(b"", 0, 1, "item_ids")
    whole, by_key, by_id = (
        RankTask(b"\0", candidates, 1, nothing, True, 10, 3) for candidates in (None, keys, ids)
    )
    session = Session(
        target_keys=np.array([0, text_key("nothing")], np.uint64),
        weights=np.ones(2, np.float32),
        event_times_ms=np.zeros(2, np.int64),
        types=np.ones(2, np.uint16),
        exts=np.array([0, TEXT], np.uint16),
        texts={},
    )
    vector = np.ones(engine.text_dimensions, np.float32)
    query = Query("nothing", 1.0)
    for_session = Asked(
        session=session, query=query, encoded={query.text: vector}, as_of_ms=0, bias=vector[:0]
    )
    asked = [for_session, Asked(vector=vector), Asked(item_key=1, with_bias=False)]
    more = [dataclasses.replace(by_id, user=b"", asked=one) for one in asked]
    batches: list[list[Task]] = [[whole, by_key, by_id], [by_key], [by_id], [by_id] * 8]
    tasks_alone: list[Task] = [*more, dataclasses.replace(more[0], candidates=None)]
    tasks_alone += [ExplainTask(one) for one in more[:2]]
    batches += [[one] for one in tasks_alone]
    for tasks in batches:
        for answer in engine.rank(Batch(tasks, [0] * len(tasks))):
            # There is no such item.
            if isinstance(answer, RankstreamError) and not isinstance(answer, NotFound):
                raise answer


class Orders:
    """What the supervisor says to a worker before it serves, in any order."""

    def __init__(self, control: Control, stopping: asyncio.Event) -> None:
        self._control = control
        self._stopping = stopping
        self._heard: dict[str, str] = {}

    async def wait_for(self, word: str) -> str | None:
        """What stands behind this word; None when told to stop before."""
        while word not in self._heard:
            data = await self._receive()
            if not data:
                return None
            for line in self._control.lines(data):
                said, _, rest = line.partition(" ")
                self._heard[said] = rest
        return self._heard[word]

    async def _receive(self) -> bytes:
        loop, heard_on = asyncio.get_running_loop(), self._control.socket
        heard_on.setblocking(False)
        heard = asyncio.ensure_future(loop.sock_recv(heard_on, 65_536))
        stopped = asyncio.ensure_future(self._stopping.wait())
        done, left = await asyncio.wait({heard, stopped}, return_when=asyncio.FIRST_COMPLETED)
        for task in left:
            task.cancel()
        heard_on.setblocking(True)
        return heard.result() if heard in done else b""


if __name__ == "__main__":
    sys.exit(child_main(run, sys.argv[1:]))
