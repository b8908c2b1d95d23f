"""Texts, items and events as numbers: keys, vectors and weights by their definition."""

import hashlib
import math

import numpy as np
from small_server import MadeUpEncoder

ATTRIBUTES = 64
IMAGE = 5


def hashed(text, person):
    digest = hashlib.blake2b(text.encode(), digest_size=8, person=person).digest()
    return int.from_bytes(digest, "little")


def squeezed(text):
    return " ".join(text.split())


def signed(said):
    """The signed weight of an event, as fp32."""
    value, weight = said.value, 1.0
    if said.type in ("rate", "review") and value is not None:
        weight = min(max((value - 3.0) / 2.0, -1.0), 1.0)
    elif said.type == "purchase" and value is not None:
        weight = 4.0 * (value / (3.0 + abs(value)))
    elif said.type == "dislike":
        weight = -1.0
    return float(np.float32((1.0 if said.weight is None else said.weight) * weight + 0.0))


def features(item):
    found = [f"tag={tag}" for tag in dict.fromkeys(item.tags)]
    found += [f"category={item.category}"] if item.category else []
    return found + ([f"price={math.floor(2 * math.log2(item.price))}"] if item.price else [])


def encoded(text):
    return MadeUpEncoder().encode([text])[0].astype(np.float64)


def text_blocks(text):
    return [encoded(text), np.zeros(ATTRIBUTES), np.zeros(IMAGE)]


def unit(block):
    norm = np.linalg.norm(block)
    return block / norm if norm else block * 0.0


def pooled(past):
    """The weighted sum by block, and what its norm would be without cancellation."""
    total = [np.zeros(len(block)) for block in text_blocks("")]
    absolute = [0.0] * len(total)
    for weight, blocks, *_ in past:
        for b, block in enumerate(blocks):
            total[b] = total[b] + weight * block
            absolute[b] += abs(weight) * np.linalg.norm(block)
    return total, absolute
