"""Draws the messages of a fuzz run: mutations of valid ones, and now and then a valid one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from random import Random

from fuzz_mutation import Tree, mutated, mutated_bytes, tree_of
from fuzz_seeds import EVENTS, MERGES
from google.protobuf import json_format
from google.protobuf.message import Message

_ODD_JSON = [b"1e999", b"NaN", b'"Infinity"', b"-1", b"1.5", b'"\\ud800"', b"null", b"[[[]]]"]
_ODD_JSON += [b"{}", b'""', b"18446744073709551616", b'"\\u0000"', b"[" * 3000, b"9" * 5000]
_ODD_JSON += [b"true", b'"$merge"', b'"\xff"']
_JSON_VALUE = re.compile(rb'"[^"]*"|[-\d.]+')
_AS_JSON = [json.dumps(json_format.MessageToDict(event)).encode() for event in (*EVENTS, MERGES[0])]


def draft_messages(messages: Sequence[Message]) -> Callable[[Random], bytes]:
    """Draws from valid messages, or near them.

    Args:
        messages: at least one.
    """
    trees = [tree_of(message) for message in messages]
    return partial(_draft_message, trees, [message.SerializeToString() for message in messages])


def draft_bytes(valid: Sequence[bytes], draw: Random) -> bytes:
    """One of some valid values with some of its bytes changed; a twentieth are as they were."""
    value = valid[int(draw.random() * len(valid))]
    return value if draw.random() < 0.05 else mutated_bytes(draw, value)


def draft_event_json(draw: Random) -> bytes:
    """An event in JSON with one of its strings and numbers replaced, or some of its bytes."""
    value = _AS_JSON[int(draw.random() * len(_AS_JSON))]
    if draw.random() < 0.3:
        return mutated_bytes(draw, value)
    places = list(_JSON_VALUE.finditer(value))
    place = places[int(draw.random() * len(places))]
    odd = _ODD_JSON[int(draw.random() * len(_ODD_JSON))]
    return value[: place.start()] + odd + value[place.end() :]


def _draft_message(trees: Sequence[Tree], whole: Sequence[bytes], draw: Random) -> bytes:
    """Mostly a mutation by fields; else one by bytes, the valid message, or any bytes."""
    which, at = draw.random(), int(draw.random() * len(trees))
    if which < 0.8:
        return mutated(draw, trees[at])
    if which < 0.9:
        return mutated_bytes(draw, whole[at])
    return whole[at] if which < 0.95 else draw.randbytes(int(draw.random() * 60))
