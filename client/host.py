"""What both clients are: a server's addresses, deadlines, and the same methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from rankstream.client import checks
from rankstream.client.calls.shapes import Unary
from rankstream.client.credentials import Credentials
from rankstream.client.errors import FailedPrecondition, invalid


class Host:
    """What the calls know of the client that they belong to.

    Args:
        target: host:port of the serving API.
        admin_target: host:port of the Admin service.
        timeout_s: deadline of a call that is given none, in seconds; a wait for ``min_token`` of
            known length comes on top.
        connections: how many connections to open; at least twice the server's workers is good.
        max_batch_rank_entries: entries of one BatchRank call where the Admin service does not say.
        credentials: an access token, TLS, or both; None: neither.
    """

    STREAM_TYPE: ClassVar[str] = "{}"

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        admin_target: str = "127.0.0.1:50052",
        timeout_s: float = 5.0,
        connections: int = 2,
        max_batch_rank_entries: int = 1024,
        credentials: Credentials | None = None,
    ) -> None:
        if max_batch_rank_entries < 1:
            raise invalid(field="max_batch_rank_entries", problem="expected 1 or more")
        if connections < 1:
            raise invalid(field="connections", problem=f"is {connections}; expected 1 or more")
        self.target = target
        self.admin_target = admin_target
        self.credentials = credentials if credentials is not None else Credentials()
        self._timeout_s = timeout_s
        self.connection_count = connections
        self.batch_fallback = max_batch_rank_entries
        self.batch_limit: int | None = None

    @staticmethod
    def answering(describe: Callable[..., Any]) -> Callable[..., Any]:
        """The method that does what ``describe`` describes and returns the answer."""
        return describe

    @staticmethod
    def streaming(describe: Callable[..., Any]) -> Callable[..., Any]:
        """The method that does what ``describe`` describes and returns an iterator."""
        return describe

    def _limit_s(self, call: Unary[Any]) -> float:
        """The given deadline; else the default one with a read's own wait on top."""
        if call.timeout_s is not None:
            return call.timeout_s
        wait_ms = 0 if call.wait_ms is None else checks.count("max_wait_ms", call.wait_ms)
        return self._timeout_s + wait_ms / 1000

    def _closed(self) -> FailedPrecondition:
        return FailedPrecondition(f"the client of {self.target} is closed; make a new one")
