"""A store of profiles in dictionaries, which drives the fold exactly as the real store does."""

from collections import Counter

import numpy as np
from profile_oracle import TYPE_IDS

from rankstream.server.profiles.fold import fold_batch
from rankstream.server.profiles.history import canonical_profile, read_profile
from rankstream.server.profiles.interaction import EVENT
from rankstream.server.profiles.layout import CELL_BYTES, CHUNK_RECORDS, read_header
from rankstream.server.profiles.seen import canonical_seen, seen_targets
from rankstream.server.profiles.settings import FoldSettings


def settings_of(caps, recent_cap=30):
    """The fold's settings for an oracle's."""
    return FoldSettings(
        history_cap=caps.history,
        seen_cap=caps.seen,
        recent_cap=recent_cap,
        history_types=caps.history_types,
        seen_types=caps.seen_types,
        counted_types=caps.counted_types,
        bucket_ms=caps.bucket_ms,
    )


def events_of(log):
    """Log records as EVENT[E]."""
    events = np.zeros(len(log), EVENT)
    events["event_time_ms"] = [r.time for r in log]
    events["event_key"] = np.array([r.key for r in log], np.uint64)
    events["target_key"] = np.array([r.target for r in log], np.uint64)
    events["weight"] = [r.weight for r in log]
    events["type"] = [TYPE_IDS[r.type] for r in log]
    events["broker_ms"] = [r.broker for r in log]
    return events


class Transaction:
    """What one batch reads: views that show garbage once the batch has been folded."""

    def __init__(self, store, users):
        self.store = store
        self.users = users
        self.views = []
        self.reads = Counter()

    def recent(self, users):
        return [self._view("recent", self.store.recent, self.users[u]) for u in users]

    def settled(self, users):
        return [self._view("settled", self.store.settled, self.users[u]) for u in users]

    def archive(self, user, chunks):
        keys = [(self.users[user], number) for number in range(chunks)]
        return [self._view("archive", self.store.chunks, key) for key in keys]

    def _view(self, what, values, key):
        self.reads[what] += 1
        copy = bytearray(values.get(key, b""))
        self.views.append(copy)
        return memoryview(copy)

    def close(self):
        for view in self.views:
            view[:] = b"\xa5" * len(view)


class MemoryProfiles:
    """Recent, settled and archived values by user, and counters."""

    def __init__(self, settings):
        self.settings = settings
        self.recent = {}
        self.settled = {}
        self.chunks = {}
        self.counts = Counter()

    def fold(self, log):
        """Folds one batch; returns what it changed, and what it read."""
        users = list(dict.fromkeys(r.user for r in log))
        owners = np.array([users.index(r.user) for r in log], np.int32)
        transaction = Transaction(self, users)
        changes = fold_batch(self.settings, transaction, owners, len(users), events_of(log))
        transaction.close()
        self._write(users, changes)
        for user in users:
            self._check(user)
        return changes, transaction.reads

    def fold_all(self, batches):
        for batch in batches:
            self.fold(batch)
        return self

    def _write(self, users, changes):
        written = [user for user, _ in changes.recent]
        assert len(written) == len(set(written))
        self.recent.update((users[u], bytes(value)) for u, value in changes.recent)
        for u, value in changes.settled:
            self.settled[users[u]] = bytes(value)
            if not value:
                del self.settled[users[u]]
        for write in changes.archives:
            for number in write.stale:
                del self.chunks[users[write.user], number]
            for number, value in enumerate(write.chunks, write.first):
                self.chunks[users[write.user], number] = bytes(value)
        counts = changes.counts
        columns = counts.target_keys.tolist(), counts.buckets.tolist(), counts.deltas.tolist()
        for target, bucket, delta in zip(*columns, strict=True):
            assert delta != 0
            self.counts[target, bucket] += delta

    def _check(self, user):
        """The bounds that every stored value keeps."""
        header = read_header(self.recent[user])
        prefix = 1 + 8 * (header.settled > 0)
        assert len(self.recent[user]) <= CELL_BYTES * (prefix + self.settings.recent_cap)
        assert header.settled <= self.settings.history_cap
        assert header.archived <= self.settings.seen_cap * 5 // 4
        numbers = sorted(number for owner, number in self.chunks if owner == user)
        assert numbers == list(range(header.chunks))
        assert all(len(c) <= CELL_BYTES * CHUNK_RECORDS for c in self.chunks.values())

    def archive(self, user):
        return [value for (owner, _), value in sorted(self.chunks.items()) if owner == user]

    def values(self, user):
        return self.recent.get(user, b""), self.settled.get(user, b"")

    def stored_bytes(self):
        return b"".join([*self.recent.values(), *self.settled.values(), *self.chunks.values()])

    def profile(self, user):
        return read_profile(self.settings, *self.values(user))

    def profile_bytes(self, user):
        return canonical_profile(self.settings, *self.values(user))

    def seen_bytes(self, user):
        return canonical_seen(self.settings, *self.values(user), self.archive(user))

    def seen_targets(self, user):
        return seen_targets(self.settings, *self.values(user), self.archive(user)).tolist()

    def counted(self):
        return {key: count for key, count in self.counts.items() if count}
