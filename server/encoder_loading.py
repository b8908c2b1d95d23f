"""An encoder that is loaded beside: loading one cannot be broken off, and may take minutes."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future

from rankstream.server.encoder.base import Encoder, EncoderSettings
from rankstream.server.encoder.load import load_encoder

# As the lanes that will run it: what it computes with inherits this.
_NICENESS = 10


class EncoderLoading:
    """Loads and warms up an encoder on a thread of its own, from now on.

    Args:
        settings: which one.
    """

    def __init__(self, settings: EncoderSettings) -> None:
        self._settings = settings
        self._made: Future[Encoder] = Future()
        threading.Thread(target=self._run, name="encoder-loading", daemon=True).start()

    def done(self) -> bool:
        """Whether ``encoder`` answers at once."""
        return self._made.done()

    def encoder(self) -> Encoder:
        """The encoder; the caller closes it.

        Raises:
            RankstreamError: it does not load, or does not work.
        """
        return self._made.result()

    def discard(self) -> None:
        """Closes it, as soon as it is there."""
        self._made.add_done_callback(_close)

    def _run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        try:
            self._made.set_result(_warm(self._settings))
        except BaseException as error:  # noqa: BLE001 - carried to another thread
            self._made.set_exception(error)


def _warm(settings: EncoderSettings) -> Encoder:
    encoder = load_encoder(settings)
    try:
        encoder.warm_up()
    except BaseException:
        encoder.close()
        raise
    return encoder


def _close(made: Future[Encoder]) -> None:
    if made.exception() is None:
        made.result().close()
