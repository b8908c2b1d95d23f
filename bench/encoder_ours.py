"""Our encoder as ``encoder.py`` measures it: in process and over gRPC."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from encoder_peers import Spec, Vectors
from serving import running_server

from rankstream.client.client import Client
from rankstream.server.encoder.base import EncoderSettings
from rankstream.server.encoder.find import find_model
from rankstream.server.encoder.load import load_encoder
from rankstream.server.encoder.tokenizer import Tokenizer

CALLS_IN_FLIGHT = 2
"""Over gRPC: one is computed while the next one's texts and the last one's vectors travel."""

_TIMEOUT_S = 120.0


class InProcess:
    """``load_encoder`` and nothing between."""

    libraries = ("openvino", "tokenizers")

    def __init__(self, spec: Spec) -> None:
        told = EncoderSettings(
            cache_dir=Path(spec.cache),
            model=spec.model,
            precision=spec.precision,
            threads=spec.threads,
        )
        self._spec = spec
        self._encoder = load_encoder(told)
        self._encoder.warm_up()
        self.settings: dict[str, Any] = {
            "max_batch_tokens": told.max_batch_tokens,
            "numerics": self._encoder.numerics,
        }

    def prepare(self, texts: list[str]) -> list[str]:
        """The texts."""
        return texts

    def encode(self, prepared: list[str]) -> Vectors:
        """Unit vectors ``[B, D]``."""
        return self._encoder.encode(prepared)

    def tokenise_seconds(self, texts: list[str]) -> float:
        """What the first of its steps takes for all texts, alone."""
        folder = find_model(self._spec.model)
        lower = folder.modules.lower_case
        tokenizer = Tokenizer(
            folder.tokenizer_file, self._encoder.max_tokens, folder.vocab_size, lower
        )
        tokenizer.tokenize(texts)
        started = time.perf_counter()
        tokenizer.tokenize(texts)
        return time.perf_counter() - started

    def close(self) -> None:
        """Frees the model."""
        self._encoder.close()


class OverGrpc:
    """``rankstream serve`` and our client, over loopback."""

    libraries = ("grpcio", "openvino", "protobuf")

    def __init__(self, spec: Spec) -> None:
        self._stack = ExitStack()
        self._server = self._stack.enter_context(encoder_server(spec))
        self._client = self._stack.enter_context(Client(self._server.address, timeout_s=_TIMEOUT_S))
        self._senders = self._stack.enter_context(ThreadPoolExecutor(CALLS_IN_FLIGHT))
        self.settings: dict[str, Any] = {"calls_in_flight": CALLS_IN_FLIGHT, "cache_mib": 0}

    def prepare(self, texts: list[str]) -> list[str]:
        """The texts."""
        return texts

    def encode(self, prepared: list[str]) -> Vectors:
        """One call."""
        return self._client.embed(prepared).vectors

    def encode_calls(self, parts: Sequence[list[str]]) -> None:
        """All calls, some in flight."""
        for vectors in self._senders.map(self.encode, parts):
            if not vectors.any(axis=1).all():
                msg = "the server answered a text with zeros"
                raise ValueError(msg)

    def pids(self) -> list[int]:
        """Of the server: its supervisor and all below."""
        return family(self._server.process.pid)

    def close(self) -> None:
        """Ends the server."""
        self._stack.close()


def encoder_server(spec: Spec) -> Any:
    """A context: a server of this model, its folder kept, so that the graph is converted once."""
    folder = Path(spec.cache) / f"serve-{spec.precision}"
    folder.mkdir(parents=True, exist_ok=True)
    flags = ["--model", spec.model, "--precision", spec.precision]
    flags += ["--encoder", str(spec.threads), "--cache-mib", "0"]
    # A slow machine is measured, too: nothing is dropped because it took long.
    flags += ["--default-timeout-s", str(_TIMEOUT_S)]
    return running_server("", folder, *flags)


def family(root: int) -> list[int]:
    """A process and its descendants."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found.extend(parents.get(pid, []))
    return found


KINDS: dict[str, type[Any]] = {
    "ours": InProcess,
    "ours-grpc": OverGrpc,
}
