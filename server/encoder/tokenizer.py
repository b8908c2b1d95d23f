"""Texts to token ids, by the ``tokenizers`` library alone. Padding is done by ``batching``."""

from __future__ import annotations

import copy
import os
import queue
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tokenizers

from rankstream.server.encoder.base import ModelRefused, Tokens, UnreadableText

# No more characters than this per token of the limit are read at all; a megabyte of text would
# otherwise hold a core for half a second to throw nearly all of it away. Part of the fingerprint.
CHARS_PER_TOKEN = 64


class Tokenizer:
    """A ``tokenizer.json`` with a limit. ``tokenize`` may be called from several threads.

    Each that calls at a time has an instance of its own: threads that share one wait for its locks.
    """

    def __init__(self, file: Path, max_tokens: int, vocab_size: int, lower_case: bool) -> None:
        """Loads it.

        Args:
            file: ``tokenizer.json``.
            max_tokens: tokens kept of one text, special tokens included.
            vocab_size: rows of the model's token table; every id must be below.
            lower_case: lower-case the text first, as some models' folders demand.

        Raises:
            ModelRefused: the file does not load, or has ids that the model does not.
        """
        # One thread budget for the process: the library would otherwise start one per core.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self._tokenizer = _load(file, max_tokens)
        self._idle: queue.SimpleQueue[tokenizers.Tokenizer] = queue.SimpleQueue()
        self._idle.put(self._tokenizer)
        largest = max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
        if largest >= vocab_size:
            message = f"{file}: token id {largest}, but the model has {vocab_size} tokens"
            raise ModelRefused(message)
        self._max_chars = max_tokens * CHARS_PER_TOKEN
        self._lower_case = lower_case
        # Defined for a tokeniser that makes nothing of an empty text: token 0 stands for it.
        self._empty = [0]

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Token ids of each text, cut at the limit.

        Raises:
            UnreadableText: the library fails on one of them.
        """
        cut = [text[: self._max_chars] for text in texts]
        if self._lower_case:
            cut = [text.lower() for text in cut]
        encodings = self._encode(cut)
        ids = [encoding.ids or self._empty for encoding in encodings]
        truncated = [
            bool(encoding.overflowing) or len(text) > self._max_chars
            for encoding, text in zip(encodings, texts, strict=True)
        ]
        lengths = np.fromiter(map(len, ids), np.int32, len(ids))
        return Tokens(ids, lengths, np.array(truncated, np.bool_))

    def names(self, ids: Sequence[int]) -> list[str]:
        """What the tokeniser calls each id; "" for one that it does not know."""
        return [self._tokenizer.id_to_token(token) or "" for token in ids]

    def _encode(self, texts: list[str]) -> list[tokenizers.Encoding]:
        try:
            own = self._idle.get_nowait()
        except queue.Empty:
            own = copy.deepcopy(self._tokenizer)
        try:
            return _encodings(own, texts)
        except TypeError:
            # A lone surrogate has no UTF-8; it is read as "?", as text_hash counts it.
            clean = [text.encode("utf-8", "replace").decode() for text in texts]
            return _encodings(own, clean)
        finally:
            self._idle.put(own)


def _encodings(tokenizer: tokenizers.Tokenizer, texts: list[str]) -> list[tokenizers.Encoding]:
    try:
        return list(tokenizer.encode_batch_fast(texts))
    except TypeError:
        raise
    except Exception as error:  # the library raises bare Exception
        message = f"the tokeniser fails on a text: {error}"
        raise UnreadableText(message) from error


def _load(file: Path, max_tokens: int) -> tokenizers.Tokenizer:
    try:
        loaded = tokenizers.Tokenizer.from_file(str(file))
        # The file's own padding and truncation are habits of whoever saved it.
        loaded.no_padding()
        loaded.enable_truncation(max_tokens)
        loaded.encode("a")
    except Exception as error:  # the library raises bare Exception
        message = f"{file}: the tokeniser does not load: {error}; save the model's folder again"
        raise ModelRefused(message) from error
    return loaded
