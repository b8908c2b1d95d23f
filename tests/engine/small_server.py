"""State, catalogue and engine of one process over a folder: real parts, a made-up encoder."""

import hashlib
import itertools

import numpy as np
import pytest

from rankstream.proto.v1 import catalog_pb2, common_pb2, ranking_pb2
from rankstream.server.announce import Announcements
from rankstream.server.batcher import Batch
from rankstream.server.candidates import GivenIds
from rankstream.server.catalog.blocks import make_layout
from rankstream.server.catalog.masks import Masks
from rankstream.server.catalog.popularity import Popularity
from rankstream.server.catalog.segments import SegmentWriter
from rankstream.server.catalog.view import Catalogue, bias_path
from rankstream.server.config import Limits, Scoring
from rankstream.server.encoder.text import ItemTemplate
from rankstream.server.engine import Engine
from rankstream.server.profiles.interaction import event_key
from rankstream.server.profiles.pooling import Pooling
from rankstream.server.profiles.settings import FoldSettings
from rankstream.server.profiles.stored import ProfileStore
from rankstream.server.profiles.texts import Keeping
from rankstream.server.store import Store
from rankstream.server.stream.apply import EventFolder
from rankstream.server.stream.event_columns import DecodedEvent
from rankstream.server.stream.indexer import ItemIndexer, ItemRecordIn
from rankstream.server.stream.item_codec import decode_item
from rankstream.server.stream.user_codec import user_attributes
from rankstream.server.types import Head, Position, RankTask, item_key

TEMPLATE = ItemTemplate.parse("{title} | {category} | {tags}")
EVENTS_ID, ITEMS_ID = b"events-topic-id.", b"items-topic-id.."
HALF_LIFE_MS = 1000.0
TEXT_DIMENSIONS = 21
TYPE_WEIGHTS = {"view": 0.25, "rate": 1.7}
NO_KEYS = np.empty(0, np.uint64)


class MadeUpEncoder:
    """The same text always gives the same vector; remembers what it was asked."""

    dimension = TEXT_DIMENSIONS

    def __init__(self):
        self.texts = []

    def encode(self, texts):
        self.texts += texts
        return np.array([self._vector(text) for text in texts], np.float32)

    def _vector(self, text):
        seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
        return np.random.default_rng(seed).standard_normal(self.dimension)


def item(item_id, title="", *, price=None, image=None, attributes=None, **fields):
    """An item as protobuf; attributes as Python values, a set of texts as a list."""
    made = catalog_pb2.Item(item_id=item_id, title=title, price=price, **fields)
    for name, value in (attributes or {}).items():
        made.attributes[name].CopyFrom(attribute(value))
    if image is not None:
        values = np.array(image, "<f4")
        made.vectors["image"].CopyFrom(
            common_pb2.Vector(
                data=values.tobytes(), dtype=common_pb2.Vector.FLOAT32, shape=values.shape
            )
        )
    return made


def attribute(value):
    """A value as protobuf."""
    if isinstance(value, bool):
        return common_pb2.AttributeValue(flag=value)
    if isinstance(value, (int, float)):
        return common_pb2.AttributeValue(number=value)
    if isinstance(value, str):
        return common_pb2.AttributeValue(text=value)
    return common_pb2.AttributeValue(texts=common_pb2.Texts(values=value))


def task(user="nobody", **given):
    """A ``RankTask`` for the whole catalogue, unless told otherwise."""
    names = given.pop("item_ids", None)
    if names is not None:
        wire = ranking_pb2.ItemIds(item_ids=names).SerializeToString()
        given["candidates"] = GivenIds(wire, len(names), 256, "item_ids")
    defaults = {
        "candidates": None,
        "k": 10,
        "excluded": keys_of(given.pop("exclude", ())),
        "exclude_seen": False,
        "explained": 0,
        "reasons": 0,
        "filter": None,
    }
    return RankTask(user=user.encode(), **{**defaults, **given})


def items_of(answer):
    """The items of an answer, as protobuf reads them."""
    return ranking_pb2.RankResponse.FromString(bytes(answer.items)).items


def ids_of(answer):
    """The ids of an answer's items."""
    return [item.item_id for item in items_of(answer)]


def keys_of(item_ids):
    return np.array([item_key(name) for name in item_ids], np.uint64)


class SmallServer:
    """Writes items and events, ranks; what ingest and one worker do together."""

    def __init__(
        self, folder, *, vectors="image:5:0.7", fold=None, max_rows=512, type_weights=None
    ):
        self.folder = folder
        self.scoring = Scoring(vectors=vectors)
        self.layout = make_layout(TEXT_DIMENSIONS, self.scoring)
        self.fold = FoldSettings()
        self.store = Store(folder / "state", map_size_gib=1, write=True)
        with self.store.write() as txn:
            txn.set_head(Head(1, 0, 0, 0))
        self.segments = SegmentWriter(
            folder / "segments", 1, self.layout.stride, max_rows, 64, self.layout.offsets
        )
        self.page = Announcements(folder / "announce", write=True)
        self.encoder = MadeUpEncoder()
        self.indexer = ItemIndexer(self.store, self.segments, self.layout, self.encoder.encode)
        self.popularity = Popularity(weight=0.3, half_life_s=86_400.0 * 7, bucket_s=86_400)
        self.folder_of_events = EventFolder(self.fold, self.popularity, Keeping(1000, int))
        weights = np.zeros(1 + max(self.fold.type_ids.values()))
        for name, number in self.fold.type_ids.items():
            weights[number] = TYPE_WEIGHTS.get(name, 1.0)
        self.pooling = Pooling.uniform(HALF_LIFE_MS, weights)
        self.profiles = ProfileStore(self.fold)
        self.engine = self.new_engine()
        self._offsets = itertools.count(1)
        self._bias = itertools.count(1)

    def new_catalogue(self):
        """A worker's view that has seen nothing yet."""
        return Catalogue(self.folder / "segments", self.layout)

    def new_engine(self):
        """The engine of another worker over the same state."""
        catalogue = self.new_catalogue()
        parts = self.store, catalogue, Masks(catalogue, Limits()), self.profiles
        return Engine(*parts, self.pooling, self.page, self.fold.type_names, user_attributes)

    def put(self, *items, delete=()):
        """One commit of the items lane: upserts, then deletions."""
        records = [self.record(made) for made in items]
        records += [ItemRecordIn(item_key(name), None, b"", 7) for name in delete]
        commit = self.indexer.index(records, Position("items", ITEMS_ID, 0, next(self._offsets)))
        with self.store.write() as txn:
            commit.apply(txn)
        commit.committed()
        return commit

    def record(self, made):
        """An item as the lane decodes it."""
        payload = made.SerializeToString(deterministic=True)
        read = decode_item(None, payload, Limits(), self.layout.vectors, TEMPLATE)
        return ItemRecordIn(read.key, read, payload, 7)

    def events(self, *events):
        """One commit of the events lane: (user, item_id, time_ms, type, weight) each."""
        decoded = [
            DecodedEvent(
                user.encode(),
                at,
                event_key(f"{user}/{item_id}/{at}/{name}"),
                item_key(item_id),
                weight,
                self.fold.type_ids[name],
                at,
            )
            for user, item_id, at, name, weight in events
        ]
        offset = next(self._offsets)
        batch = self.folder_of_events.batch(decoded, [Position("events", EVENTS_ID, 0, offset)])
        with self.store.write() as txn:
            batch.apply(txn)
        batch.committed()

    def set_bias(self, bias):
        """Puts a bias array in place, ``float32 [rows]``."""
        number = next(self._bias)
        np.asarray(bias, np.float32).tofile(bias_path(self.folder / "segments", 1, number))
        self.page.set_bias(number)

    def head(self):
        with self.store.read() as view:
            return view.head()

    def rank(self, *tasks):
        return self.engine.rank(Batch(list(tasks), [0] * len(tasks)))

    def close(self):
        self.segments.close()
        self.store.close()


@pytest.fixture
def server(tmp_path):
    """A small server without items."""
    made = SmallServer(tmp_path)
    yield made
    made.close()
