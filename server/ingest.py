"""The ingest process: the only writer of the state; its start and its end."""

from __future__ import annotations

import dataclasses
import gc
import queue
import signal
import sys
import threading
from pathlib import Path

from rankstream.kernels.warm_up import warm_up_codes
from rankstream.server.announce import Announcements
from rankstream.server.catalog.blocks import make_layout
from rankstream.server.child import Control, Inherited, child_main
from rankstream.server.config import Settings
from rankstream.server.derived import encoder_settings, topic_settings
from rankstream.server.encoder.graph_cache import forget_graphs
from rankstream.server.encoder.load import load_encoder
from rankstream.server.lanes import Lanes
from rankstream.server.paths import Paths
from rankstream.server.stream.apply import warm_up_fold
from rankstream.server.stream.log import wait_for_log
from rankstream.server.writable import only_writer, open_rows, open_state, served_generation

# Lists of a batch's values come and go by the thousand; none of them are in cycles.
_GC_THRESHOLDS = (200_000, 50, 100)


def run(settings: Settings, control: Control, inherited: Inherited) -> None:
    """Opens the state, then folds the log into it until told to stop.

    Raises:
        RankstreamError: the state, the model or the log refuses.
    """
    paths = Paths(Path(settings.state.data_dir))
    with only_writer(paths):
        _fold(settings, control, inherited, paths)


def _fold(settings: Settings, control: Control, inherited: Inherited, paths: Paths) -> None:
    page = Announcements(paths.page, write=True, bells=inherited.bells)
    state = open_state(settings, paths, page)
    generation = served_generation(state.store, settings.encoding)
    # Workers load its encoder meanwhile.
    control.send("current " + generation.to_json())
    settings = dataclasses.replace(settings, encoding=generation.encoding)
    encoder = load_encoder(encoder_settings(settings, paths))
    forget_graphs(encoder_settings(settings, paths).cache_dir)
    layout = make_layout(encoder.dimension, settings.scoring)
    rows = open_rows(settings, paths, state, generation, layout, encoder.fingerprint)
    # Before the first answer: without it, nothing would be popular for a second. Where the disk
    # refuses it, what is there serves on, and it is tried each second.
    rows.bias.refresh()
    with state.store.read() as view:
        known = bool(view.positions())
    if known:
        control.send("state")
    stopping = _stop_on_signal()
    # A model that fails is refused before anything is encoded with it; workers go on meanwhile.
    encoder.warm_up()
    warm_up_fold(state.fold)
    warm_up_codes()
    found = wait_for_log(
        settings.kafka, topic_settings(settings), paths.broker, state.store, page, stopping
    )
    if found is not None:
        if not known:
            # Before its first look at the log there is nothing to read, and nowhere to write to.
            control.send("state")
        control.send("ready")
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        lanes = Lanes(settings, state, found, rows, encoder, paths, control.send)
        threading.Thread(target=_listen, args=(control, lanes), name="control", daemon=True).start()
        page.listens()
        lanes.run(stopping)
    state.store.close()


def _listen(control: Control, lanes: Lanes) -> None:
    """Passes on what the supervisor says, until it is gone."""
    while data := control.socket.recv(65_536):
        for line in control.lines(data):
            lanes.reindexing.inbox.tell(line)


def _stop_on_signal() -> threading.Event:
    """An event that SIGTERM sets.

    Not from the handler: it may interrupt the event's own lock, and a second signal would then wait
    for the first for ever. ``SimpleQueue.put`` is made for handlers.
    """
    stopping = threading.Event()
    asked: queue.SimpleQueue[None] = queue.SimpleQueue()
    signal.signal(signal.SIGTERM, lambda *_: asked.put(None))

    def wait() -> None:
        asked.get()
        stopping.set()

    threading.Thread(target=wait, name="signals", daemon=True).start()
    return stopping


if __name__ == "__main__":
    sys.exit(child_main(run, sys.argv[1:]))
