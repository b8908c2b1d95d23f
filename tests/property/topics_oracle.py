"""What the three topics come to, read one record after the other: plain Python and NumPy, fp64.

It shares no code with the product but the made-up encoder, which is a given function of a text.
Profiles and counters are those of ``profile_oracle``, the definition of the merging set.
"""

import math
from typing import NamedTuple

import numpy as np
from profile_oracle import (
    MOVED,
    RESET,
    TEXT,
    Counters,
    Logged,
    canonical,
    identity,
    profile_bytes,
    seen_bytes,
)
from profile_oracle import history as history_of
from profile_oracle import seen as seen_of
from topics_records import READ_AT, Bad, Item, Merge, Reset, User
from topics_vectors import (
    ATTRIBUTES,
    IMAGE,
    encoded,
    features,
    hashed,
    pooled,
    signed,
    squeezed,
    text_blocks,
    unit,
)


class Scores(NamedTuple):
    """One user's answer: by item_id (score, blocks, bias, reasons), and how sure it is."""

    items: dict
    personal: bool
    known: bool
    shaky: bool


class Oracle:
    """Folds records in the order in which they were produced."""

    def __init__(self, caps, tuning):
        self.caps, self.tuning = caps, tuning
        self.items, self.users, self.log, self.texts = {}, {}, [], {}

    def fold(self, topic, place, timestamp, record):
        """One record of the log; ``place`` names an event without an id."""
        if topic == "events":
            self.log += self._interactions(record, place, timestamp)
        elif isinstance(record, Item):
            self.items[record.item_id] = record
        elif isinstance(record, User):
            self.users[record.user] = (timestamp, record)
            self.texts.update((hashed(t, b"text"), t) for t in self.interests(record.user))
        else:
            (self.items if topic == "items" else self.users).pop(record.name, None)

    def _interactions(self, record, place, timestamp):
        if isinstance(record, Bad):
            return []
        if isinstance(record, Reset):
            return [Logged(record.user, 0, record.time, 0, RESET, 0.0, timestamp)]
        if isinstance(record, Merge):
            moved = [m._replace(user=record.user, ext=m.ext | MOVED) for m in record.moved]
            return [m._replace(broker=timestamp) for m in moved]
        at = timestamp if record.time is None else record.time
        name, weight, found = record.event_id or place, signed(record), []
        if record.item:
            target, key = hashed(record.item, b"item"), hashed(name, b"event")
            what = at, target, record.type, weight, timestamp, record.position
            found.append(Logged(record.user, key, *what))
        if text := squeezed(record.text):
            target, key = hashed(text, b"text"), hashed(name + "\0text", b"event")
            self.texts[target] = text
            what = at, target, record.type, weight, timestamp, TEXT
            found.append(Logged(record.user, key, *what))
        return found

    def profile_bytes(self, user):
        return profile_bytes(self.caps, self.log, user)

    def seen_bytes(self, user):
        return seen_bytes(self.caps, self.log, user)

    def retained(self, user):
        """What a merge of this user brings."""
        both = history_of(self.caps, self.log, user) + seen_of(self.caps, self.log, user)
        plain = {r._replace(broker=0) for r in both}
        return tuple(sorted(plain, key=canonical))

    def counters(self):
        return Counters(self.caps).fold(self.log)

    def owner(self, user):
        claims = [
            (at, name)
            for name, (at, who) in self.users.items()
            if user in who.identities and not self.is_claimed(name)
        ]
        return max(claims)[1] if claims else user

    def is_claimed(self, user):
        return any(user in who.identities for _, who in self.users.values())

    def person(self, user):
        """The ids of one person, the owner first."""
        owner = self.owner(user)
        named = self.users[owner][1].identities if owner in self.users else ()
        return [owner, *(i for i in dict.fromkeys(named) if i != owner and self.owner(i) == owner)]

    def interests(self, user):
        said = self.users[user][1].interests if user in self.users else ()
        return [t for t in dict.fromkeys(map(squeezed, said)) if t]

    def history(self, ids):
        """The interactions of one person, oldest first."""
        found = {}
        for record in (r for user in ids for r in history_of(self.caps, self.log, user)):
            mine = identity(self.caps, record)
            found[mine] = max(found.get(mine, record), record, key=canonical)
        return sorted(found.values(), key=canonical)[-self.caps.history :]

    def bias(self):
        """By item_id."""
        levels, half_life = {}, self.tuning.popularity_half_life
        counts = self.counters()
        now = max((bucket for _, bucket in counts), default=0)
        for (target, bucket), count in counts.items():
            fresh = count * 2.0 ** ((bucket - now) / half_life)
            levels[target] = levels.get(target, 0.0) + fresh
        power = {i: math.log1p(levels.get(hashed(i, b"item"), 0.0)) for i in self.items}
        most = max(power.values(), default=0.0)
        return {i: self.tuning.bias_weight * p / most if most else 0.0 for i, p in power.items()}

    def vectors(self, name):
        """An item's blocks."""
        item = self.items[name]
        parts = [item.title, squeezed(item.category), ", ".join(item.tags)]
        text = encoded(". ".join(part for part in parts if part))
        attributes = np.zeros(ATTRIBUTES)
        for feature in features(item):
            value = hashed(feature, b"attribute")
            attributes[value % ATTRIBUTES] += 1.0 if value >> 63 else -1.0
        image = np.zeros(IMAGE) if item.image is None else np.array(item.image, np.float32)
        return [
            unit(block).astype(np.float32).astype(np.float64) for block in (text, attributes, image)
        ]

    def past(self, ids):
        """(weight, blocks, label, type, time) of all that counts for one person."""
        tuning, owner = self.tuning, ids[0]
        records, found, counts = self.history(ids), [], {}
        names = {hashed(name, b"item"): name for name in self.items}
        lives, weights, caps, ttls = map(
            dict, (tuning.half_lives_ms, tuning.type_weights, tuning.type_caps, tuning.ttls_ms)
        )
        newest = None
        for r in reversed(records):
            counts[r.type] = counts.get(r.type, 0) + 1
            if READ_AT - r.time > ttls.get(r.type, math.inf):
                continue
            if counts[r.type] <= caps.get(r.type, math.inf) and newest is None:
                newest = r.time
            age = 0 if newest is None else newest - r.time
            life = lives.get(r.type, tuning.half_life_ms)
            weight = weights.get(r.type, 1.0) * r.weight * 2.0 ** (-age / life)
            weight *= counts[r.type] <= caps.get(r.type, math.inf)
            if r.ext & TEXT:
                text = self.texts[r.target]
                found.append((weight, text_blocks(text), ("", text), r.type, r.time))
            elif r.target in names:
                name = names[r.target]
                found.append((weight, self.vectors(name), (name, ""), r.type, r.time))
        wanted = self.interests(owner)
        share = tuning.interests_weight / max(1, len(wanted))
        said = [(share, text_blocks(text), ("", text), "$interest", 0) for text in wanted]
        return found[::-1] + said

    def rank(self, user, query=None):
        """Scores of the whole catalogue; ``query``: (text, weight)."""
        ids, tuning = self.person(user), self.tuning
        past = self.past(ids)
        total, absolute = pooled(past)
        if query is not None:
            norm = np.linalg.norm(total[0]) or 1.0
            past.append((query[1] * norm, text_blocks(query[0]), ("", query[0]), "$query", 0))
            total, absolute = pooled(past)
        weights = tuning.text_weight, tuning.attributes_weight, tuning.image_weight
        norms = [np.linalg.norm(block) for block in total]
        trust = trust_in(past, tuning.interests_trust)
        scales = [trust * w / n if n else 0.0 for w, n in zip(weights, norms, strict=True)]
        bias, items = self.bias(), {}
        for name in self.items:
            mine = self.vectors(name)
            blocks = [s * (t @ v) for s, t, v in zip(scales, total, mine, strict=True)]
            reasons = sorted(
                (
                    label,
                    kind,
                    at,
                    w * sum(s * (b @ v) for s, b, v in zip(scales, own, mine, strict=True)),
                )
                for w, own, label, kind, at in past
            )
            items[name] = sum(blocks) + bias[name], blocks, bias[name], reasons
        shaky = any(n <= 1e-8 * a for n, a in zip(norms, absolute, strict=True) if a)
        known = any(r.user in ids for r in self.log)
        return Scores(items, max(norms) > 0, known, shaky)

    def seen_items(self, user):
        """The item_ids that any id of the person has acted on."""
        seen = (r for i in self.person(user) for r in seen_of(self.caps, self.log, i))
        targets = {r.target for r in seen}
        return {name for name in self.items if hashed(name, b"item") in targets}

    def attributes(self, user):
        owner = self.owner(user)
        return self.users[owner][1] if owner in self.users else User(owner)


def trust_in(past, trust):
    """How far a vector is trusted: less for its part of what users say of themselves."""
    total = sum(abs(weight) for weight, *_ in past)
    stated = sum(abs(weight) for weight, _, _, kind, _ in past if kind == "$interest")
    return (total - (1.0 - trust) * stated) / total if total else 1.0
