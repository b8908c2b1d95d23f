"""Power-loss safety without a sync at every commit.

The log has every event already, so a commit need not be durable before it is visible; it must only
never leave something inconsistent. LMDB without syncs is consistent while the machine runs, however
processes die. What a power loss leaves on disk is any mixture of the pages written since the last
sync. So a checkpoint, a few times a second,

1. pins the newest commit T with a read transaction: none of T's pages is written again;
2. keeps a copy of the environment's two meta pages, which lead to T;
3. syncs the file, so T is on disk whole;
4. puts the copy into a file of its own, atomically, with the machine's boot id;
5. lets go of the pin of the checkpoint before.

Opening after another boot without a clean close puts that copy back: the state is T, bit for bit,
and the log replays what came after it.
"""

from __future__ import annotations

import logging
import os
import struct
import threading
from pathlib import Path
from typing import Any

import crc32c

from rankstream.server.errors import CorruptState

log = logging.getLogger(__name__)

CHECKPOINT_FILE = "checkpoint"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MAGIC = b"RSCHECK1"
_HEAD = struct.Struct("<8s?40sI")
_CHECKSUM = struct.Struct("<I")
# Of LMDB 0.9's MDB_meta, behind a page's header of 16 bytes: magic, the transaction's number.
_META_MAGIC = struct.Struct("<I")
_META_MAGIC_AT, _META_MAGIC_VALUE = 16, 0xBEEFC0DE
_META_TXN = struct.Struct("<Q")
_META_TXN_AT = 144
_PAGE_NUMBER = struct.Struct("<Q")


def boot_id() -> bytes:
    """What changes when the machine starts again; empty where the system does not tell."""
    try:
        return _BOOT_ID.read_bytes().strip()[:40]
    except OSError:
        return b""


def recover(folder: Path, boot: bytes) -> bool:
    """Brings an environment that is not open back to its last checkpoint, if it may be damaged.

    Args:
        folder: of the environment.
        boot: this boot's id.

    Returns:
        Whether anything was done.

    Raises:
        CorruptState: the checkpoint does not read back.
    """
    data = folder / "data.mdb"
    if not data.exists():
        return False
    path = folder / CHECKPOINT_FILE
    if not path.exists():
        # The power went while the environment was being made: nothing was in it.
        data.unlink()
        return True
    clean, written_in, metas = _read(path)
    if clean or written_in == boot:
        return False
    with data.open("r+b") as file:
        file.write(metas)
        file.flush()
        os.fsync(file.fileno())
    log.warning("the machine stopped without warning: the state goes back to its last checkpoint")
    return True


class Checkpoints:
    """Takes the checkpoints of one open environment, for any thread.

    Args:
        env: the open LMDB environment.
        folder: its folder.
        boot: this boot's id.
    """

    def __init__(self, env: Any, folder: Path, boot: bytes) -> None:
        self._env = env
        self._folder = folder
        self._boot = boot
        self._page_bytes = int(env.stat()["psize"])
        self._pin: Any = None
        self._at = -1
        self._taking = threading.Lock()

    def take(self, *, clean: bool = False) -> bool:
        """Takes one, if there is a commit since the last.

        Args:
            clean: this is the last one before a close.

        Returns:
            Whether one was taken.
        """
        with self._taking:
            if not clean and self._pin is not None and self._env.info()["last_txnid"] == self._at:
                return False
            pin, metas = self._pinned()
            try:
                self._env.sync(True)
                self._write(clean, metas)
            except BaseException:
                pin.abort()
                raise
            if self._pin is not None:
                self._pin.abort()
            self._pin, self._at = pin, pin.id()
            return True

    def close(self) -> None:
        """The last checkpoint; the environment may be closed after it."""
        self.take(clean=True)
        self._pin.abort()
        self._pin = None

    def _pinned(self) -> tuple[Any, bytes]:
        """A read transaction at the newest commit, and meta pages that lead to it."""
        writer = self._env.begin(write=True)
        try:
            # No commit can come in between.
            pin = self._env.begin()
            metas = self._read_metas()
        finally:
            writer.abort()
        return pin, lead_to(metas, self._page_bytes, pin.id())

    def _read_metas(self) -> bytes:
        with (self._folder / "data.mdb").open("rb") as file:
            return file.read(2 * self._page_bytes)

    def _write(self, clean: bool, metas: bytes) -> None:
        body = _HEAD.pack(_MAGIC, clean, self._boot, len(metas)) + metas
        temporary = self._folder / (CHECKPOINT_FILE + ".tmp")
        with temporary.open("wb") as file:
            file.write(body + _CHECKSUM.pack(crc32c.crc32c(body)))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._folder / CHECKPOINT_FILE)
        folder = os.open(self._folder, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def lead_to(metas: bytes, page_bytes: int, txn: int) -> bytes:
    """Two meta pages of which the newer leads to ``txn``, and the other one too.

    Args:
        metas: the environment's first two pages.
        page_bytes: their size.
        txn: a commit that one of them leads to.

    Raises:
        CorruptState: none of them does.
    """
    slot = txn % 2
    page = metas[slot * page_bytes : (slot + 1) * page_bytes]
    fits = len(page) == page_bytes
    if (
        not fits
        or _META_MAGIC.unpack_from(page, _META_MAGIC_AT)[0] != _META_MAGIC_VALUE
        or _META_TXN.unpack_from(page, _META_TXN_AT)[0] != txn
    ):
        msg = "the meta pages do not lead to the newest commit: is this LMDB 0.9?"
        raise CorruptState(msg)
    older = bytearray(page)
    _PAGE_NUMBER.pack_into(older, 0, 1 - slot)
    _META_TXN.pack_into(older, _META_TXN_AT, txn - 1)
    return bytes(older) + page if slot else page + bytes(older)


def _read(path: Path) -> tuple[bool, bytes, bytes]:
    raw = path.read_bytes()
    body, checksum = raw[: -_CHECKSUM.size], raw[-_CHECKSUM.size :]
    fits = len(raw) > _HEAD.size + _CHECKSUM.size
    if not fits or _CHECKSUM.unpack(checksum)[0] != crc32c.crc32c(body):
        msg = f"{path} differs from its checksum: start with an empty --data-dir"
        raise CorruptState(msg)
    magic, clean, boot, size = _HEAD.unpack_from(body)
    if magic != _MAGIC or len(body) != _HEAD.size + size:
        msg = f"{path} is not a checkpoint: start with an empty --data-dir"
        raise CorruptState(msg)
    return clean, boot.rstrip(b"\0"), body[_HEAD.size :]
