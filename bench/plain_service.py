"""The peer of BatchRank: what one would write first. A plain grpc.aio service with NumPy.

It holds everything in memory: the matrix, a dict of item rows, and for each user that will be asked
for the rows and weights of their history. It pools, scores and sorts as rankstream defines them
(fp32 products by BLAS instead of ordered fp64 sums), and answers ids, scores and the blocks' parts
as ``repeated float``. It reads no store, waits for no token, and knows no limits.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from companion import Companion, await_word, read_spec, report
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from numpy.typing import NDArray
from sizes import ITEMS, item_id

from rankstream.kernels.query import weigh
from rankstream.server.catalog.blocks import Layout, make_layout
from rankstream.server.clock import now_ms
from rankstream.server.config import Settings
from rankstream.server.derived import fold_settings, pooling_of
from rankstream.server.paths import Paths
from rankstream.server.profiles.stored import ProfileStore
from rankstream.server.store import Store
from rankstream.server.types import item_key

METHOD = "/plain.Ranking/BatchRank"
_TEXT_DIMENSIONS = 384
_FIELDS = {
    "Entry": [("user_id", "string", False), ("item_ids", "string", True)],
    "Request": [("entries", "Entry", True)],
    "Ranked": [("item_ids", "string", True), ("scores", "float", True), ("parts", "float", True)],
    "Response": [("entries", "Ranked", True)],
}


def messages() -> dict[str, Any]:
    """The service's protobuf classes, by name."""
    kinds = {
        "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
        "float": descriptor_pb2.FieldDescriptorProto.TYPE_FLOAT,
    }
    file = descriptor_pb2.FileDescriptorProto(name="plain.proto", package="plain", syntax="proto3")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for number, (field, kind, many) in enumerate(fields, start=1):
            made = message.field.add(name=field, number=number, label=3 if many else 1)
            if kind in kinds:
                made.type = kinds[kind]
            else:
                made.type = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
                made.type_name = f".plain.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"plain.{name}"))
        for name in _FIELDS
    }


@dataclass(frozen=True, slots=True, eq=False)
class PlainRanker:
    """NumPy and dicts.

    Attributes:
        matrix: ``float32 [N, stride]``.
        bias: ``float32 [N]``.
        rows: item_id -> row.
        histories: user_id -> (rows ``int32 [T]``, weights ``float32 [T]``).
        layout: the blocks of a row.
    """

    matrix: NDArray[np.float32]
    bias: NDArray[np.float32]
    rows: dict[str, int]
    histories: dict[str, tuple[NDArray[np.int32], NDArray[np.float32]]]
    layout: Layout

    def rank(
        self, user_id: str, item_ids: list[str]
    ) -> tuple[list[str], NDArray[np.float32], NDArray[np.float32]]:
        """Ids and scores ``float32 [C]``, best first, and parts ``float32 [C, blocks]``."""
        rows, weights = self.histories[user_id]
        query = weights @ self.matrix[rows]
        for block in self.layout.blocks:
            part = query[block.start : block.stop]
            norm = np.linalg.norm(part)
            part *= block.weight / norm if norm else 0.0
        asked = [self.rows[name] for name in item_ids]
        found = self.matrix[asked]
        parts = np.column_stack(
            [found[:, b.start : b.stop] @ query[b.start : b.stop] for b in self.layout.blocks]
        )
        scores = parts.sum(axis=1) + self.bias[asked]
        order = np.argsort(-scores, kind="stable")
        return [item_ids[i] for i in order], scores[order], parts[order]


def load_ranker(data_dir: Path, users: list[str]) -> PlainRanker:
    """Reads a state once, into memory."""
    settings = Settings()
    paths, layout = Paths(data_dir), make_layout(_TEXT_DIMENSIONS, settings.scoring)
    file = next(paths.segments.glob("generation-*/rows.f32"))
    matrix = np.fromfile(file, np.float32, ITEMS * layout.stride).reshape(ITEMS, layout.stride)
    newest = max(paths.segments.glob("generation-*/bias-*.f32"))
    fold = fold_settings(settings)
    store = Store(paths.store, map_size_gib=settings.state.map_size_gib, write=False)
    with store.read() as view:
        histories = ProfileStore(fold).read(view, [user.encode() for user in users]).histories
    store.close()
    pooling = pooling_of(settings, fold)
    weights = weigh(
        histories.indptr,
        histories.event_times_ms,
        histories.types,
        histories.weights,
        pooling.weighing(now_ms()),
    ).astype(np.float32)
    keys = {item_key(item_id(row)): row for row in range(ITEMS)}
    rows = np.array([keys[key] for key in histories.target_keys.tolist()], np.int32)
    spans = zip(histories.indptr[:-1], histories.indptr[1:], strict=True)
    held = {user: (rows[a:b], weights[a:b]) for user, (a, b) in zip(users, spans, strict=True)}
    ids = {item_id(row): row for row in range(ITEMS)}
    return PlainRanker(matrix, np.fromfile(newest, np.float32, ITEMS), ids, held, layout)


def start(data_dir: Path, users: list[str], port: int) -> Companion:
    """Starts the service's process; it serves until its word, and then ends."""
    spec = {"data_dir": str(data_dir), "users": users, "port": port}
    return Companion.start("plain_service.py", spec)


async def _serve(spec: dict[str, Any]) -> None:
    kinds, ranker = messages(), load_ranker(Path(spec["data_dir"]), spec["users"])

    async def batch_rank(request: Any, context: object) -> Any:
        response = kinds["Response"]()
        for entry in request.entries:
            ids, scores, parts = ranker.rank(entry.user_id, list(entry.item_ids))
            response.entries.add(item_ids=ids, scores=scores, parts=parts.ravel())
        return response

    handler = grpc.unary_unary_rpc_method_handler(
        batch_rank,
        request_deserializer=kinds["Request"].FromString,
        response_serializer=kinds["Response"].SerializeToString,
    )
    service, method = METHOD.strip("/").split("/")
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 16 << 20)])
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {method: handler}),)
    )
    server.add_insecure_port(f"127.0.0.1:{spec['port']}")
    await server.start()
    await asyncio.get_running_loop().run_in_executor(None, await_word)
    await server.stop(0)
    report({})


if __name__ == "__main__":
    sys.exit(asyncio.run(_serve(read_spec())))
