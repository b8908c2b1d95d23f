"""Which generations the state holds, which one is served, and the change from one to another."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from rankstream.server.catalog.segments import generation_folder
from rankstream.server.generation import SLOTS, Change, Generation, Slot
from rankstream.server.profiles.texts import last_encoded
from rankstream.server.store import OF_A_SLOT, Txn, View
from rankstream.server.types import Head, Position

_CURRENT, _CHANGE, _NEWEST = b"slot", b"change", b"newest generation"
_ENCODING, _SPACE = b"encoding", "encoder space"
_LEFT, _IDS = b"left at ms", b"change ids"
_KNOWN_IDS = 16
_AT_ONCE = 2_000
# So near to the served generation that the rest is a moment's.
_NEAR_RECORDS, _NEAR_TEXTS = 512, 64


def current_slot(view: View) -> Slot:
    """The slot that is served."""
    blob = view.get("meta", _CURRENT)
    return "b" if blob is not None and bytes(blob) == b"b" else "a"


def generation_in(view: View, slot: Slot) -> Generation | None:
    """The generation that a slot holds; None where there is none, or one that is being removed."""
    blob = view.of(slot).get("generation", _ENCODING)
    if blob is None:
        return None
    return Generation.read(slot, view.of(slot).head().generation, bytes(blob).decode())


def held_slots(view: View) -> list[Slot]:
    """The slots with a generation, the served one first."""
    first = current_slot(view)
    ordered = sorted(SLOTS, key=lambda slot: slot != first)
    return [slot for slot in ordered if generation_in(view, slot) is not None]


def held_numbers(view: View) -> list[int]:
    """The numbers of the generations that there are, the served one first."""
    return [view.of(slot).head().generation for slot in held_slots(view)]


def space_of(view: View, slot: Slot) -> str:
    """The space fingerprint of a slot's vectors; "" where it is empty."""
    return (view.of(slot).setting(_SPACE, "generation") or b"").decode()


def next_number(view: View) -> int:
    """A number that no generation of this state has had."""
    return int(bytes(view.get("meta", _NEWEST) or b"0")) + 1


def put_generation(txn: Txn, generation: Generation) -> None:
    """Makes a generation, or gives it other settings of its encoder."""
    own = txn.of(generation.slot)
    own.put("generation", _ENCODING, generation.encoding_json().encode())
    if own.get("generation", b"head") is None:
        own.set_head(Head(generation.number, 0, 0, 0))
        newest = max(generation.number, next_number(txn) - 1)
        txn.put("meta", _NEWEST, str(newest).encode())


def fix_space(txn: Txn, slot: Slot, space: str, resolve: str) -> None:
    """Stores the space of a slot's vectors with the first of them, refuses another ever after.

    Raises:
        StateRefused: its vectors are of another space; ``resolve`` says what to do.
    """
    txn.of(slot).fix_setting(_SPACE, space.encode(), resolve, "generation")


def behind(view: View, slot: Slot) -> tuple[int, int]:
    """By how many records, and by how many texts, a slot is behind the one that is served."""
    served, own = view.of(current_slot(view)), view.of(slot)
    at = {(p.topic_id, p.partition): p.next_offset for p in item_positions(own)}
    records = sum(
        max(0, p.next_offset - at.get((p.topic_id, p.partition), 0)) for p in item_positions(served)
    )
    return records, max(0, last_encoded(served) - last_encoded(own))


def reached(view: View, slot: Slot) -> int:
    """How many records and texts a slot has taken up; grows by all that is encoded for it."""
    own = view.of(slot)
    return last_encoded(own) + sum(p.next_offset for p in item_positions(own))


def is_near(view: View, slot: Slot) -> bool:
    """Whether a slot has nearly what the one has that is served."""
    records, texts = behind(view, slot)
    return records <= _NEAR_RECORDS and texts <= _NEAR_TEXTS


def switch(txn: Txn, slot: Slot, at_ms: int) -> bool:
    """Serves a slot from this commit on, unless it is behind the one that is served now.

    What its readers see only moves forward: positions, vectors of texts, the catalogue's version.

    Returns:
        Whether it was not behind.
    """
    old, new = txn.of(current_slot(txn)), txn.of(slot)
    if old.slot == slot:
        return True
    if behind(txn, slot) != (0, 0):
        return False
    old.put("generation", _LEFT, str(at_ms).encode())
    was, head = old.head(), new.head()
    version = 1 + max(was.catalogue_version, head.catalogue_version)
    new.set_head(Head(head.generation, head.rows, version, head.items))
    txn.put("meta", _CURRENT, slot.encode())
    return True


def item_positions(view: View) -> list[Position]:
    """Where the items lane of a view's slot stands."""
    return [p for p in view.positions() if p.lane == "items"]


def left_at_ms(view: View, slot: Slot) -> int:
    """When a slot was last served; 0: never, or it still is."""
    return int(bytes(view.of(slot).get("generation", _LEFT) or b"0"))


def forget_generation(txn: Txn, slot: Slot) -> None:
    """A slot holds nothing any more; what lies there is for ``clear_some``."""
    txn.of(slot).delete("generation", _ENCODING)


def clear_some(txn: Txn, slot: Slot) -> bool:
    """Removes some of what a slot holds, which it holds no more; whether any is left."""
    forget_generation(txn, slot)
    own, room = txn.of(slot), _AT_ONCE
    for database in OF_A_SLOT:
        room -= own.clear(database, room)
    return room <= 0


def has_remains(view: View, slot: Slot) -> bool:
    """Whether something lies in a slot that holds nothing: it was not removed to the end."""
    own = view.of(slot)
    return generation_in(view, slot) is None and any(own.count(name) for name in OF_A_SLOT)


def put_change(txn: Txn, change: Change) -> None:
    """Notes how far a change of generations is."""
    known = known_ids(txn)
    if change.id not in known[-1:]:
        txn.put("meta", _IDS, json.dumps([*known, change.id][-_KNOWN_IDS:]).encode())
    txn.put("meta", _CHANGE, change.to_json().encode())


def known_ids(view: View) -> list[str]:
    """The ids of the last changes, the newest last."""
    blob = view.get("meta", _IDS)
    ids: list[str] = json.loads(bytes(blob)) if blob is not None else []
    return ids


def newest_change(view: View) -> Change | None:
    """The change that is under way, or was last; None: there never was one."""
    blob = view.get("meta", _CHANGE)
    return Change.from_json(bytes(blob).decode()) if blob is not None else None


def remove_files(folder: Path, kept: Iterable[int]) -> None:
    """Removes the files of all generations but some; who has them mapped keeps them."""
    stay = {generation_folder(folder, number) for number in kept}
    for place in folder.glob("generation-*"):
        if place not in stay:
            shutil.rmtree(place, ignore_errors=True)
