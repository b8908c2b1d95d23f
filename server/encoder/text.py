"""What the encoder reads: an item's text from a template, and the identity of a text."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Sequence
from dataclasses import dataclass

from rankstream.server.errors import InvalidArgument
from rankstream.server.types import normal_text

DEFAULT_TEMPLATE = "{title} | {description} | {category} | {brand} | {tags}"
FIELDS = ("title", "description", "category", "brand", "tags")
# Grows when render() changes what it makes of the same template and item.
RULES = 1


def text_hash(text: str) -> bytes:
    """The identity of a text: 16 bytes, BLAKE2b-128 of its UTF-8, personalised ``text``.

    Exact characters, without Unicode normalisation: a model may read two normal forms
    differently, so they are two texts. A lone surrogate counts as ``?``, as the tokeniser reads it.
    """
    encoded = text.encode("utf-8", "replace")
    return hashlib.blake2b(encoded, digest_size=16, person=b"text").digest()


@dataclass(frozen=True, slots=True)
class Segment:
    """One part of a template: literal text around one field."""

    before: str
    field: str
    after: str


@dataclass(frozen=True, slots=True)
class ItemTemplate:
    """How an item becomes one string.

    The format is a row of segments with ``|`` between them, each with literal text around one
    field: ``{title} | by {brand} | tags: {tags}``. A segment whose field is empty is left out
    whole, and the others are joined as sentences, so that nothing dangles. ``{{`` and ``}}`` are
    braces.
    """

    format: str
    segments: tuple[Segment, ...]

    @classmethod
    def parse(cls, template: str) -> ItemTemplate:
        """Reads a template.

        Raises:
            InvalidArgument: no such field, or a segment that has not exactly one.
        """
        return cls(template, tuple(_segment(part) for part in template.split("|")))

    @property
    def version(self) -> str:
        """Identifies the template and the rules of rendering it; part of the fingerprint."""
        named = f"{RULES}:{self.format}".encode("utf-8", "replace")
        return hashlib.blake2b(named, digest_size=8, person=b"template").hexdigest()

    def render(
        self,
        title: str = "",
        description: str = "",
        category: str = "",
        brand: str = "",
        tags: Sequence[str] = (),
    ) -> str:
        """The item's text; "" where every field is empty. White space runs become one space."""
        named = ", ".join(tag for tag in map(normal_text, tags) if tag)
        values = dict(zip(FIELDS, (title, description, category, brand, named), strict=True))
        text = ""
        for segment in self.segments:
            value = normal_text(values[segment.field])
            if value:
                text = _append(text, f"{segment.before}{value}{segment.after}")
        return text


def _append(text: str, part: str) -> str:
    if not text:
        return part
    # A sentence that already ends keeps its own mark: "Wow! A game", never "Wow!. A game".
    return f"{text} {part}" if text[-1] in ".!?…:;。!?" else f"{text}. {part}"


def _segment(part: str) -> Segment:
    before, after, field = "", "", ""
    try:
        for literal, name, spec, conversion in string.Formatter().parse(part.strip()):
            if field:
                after += literal
            else:
                before += literal
            if name is None:
                continue
            if field or name not in FIELDS or spec or conversion:
                raise _bad(part)
            field = name
    except ValueError as error:
        raise _bad(part) from error
    if not field:
        raise _bad(part)
    return Segment(before, field, after)


def _bad(part: str) -> InvalidArgument:
    fields = ", ".join(f"{{{name}}}" for name in FIELDS)
    return InvalidArgument("template", f"segment {part!r} must hold exactly one of {fields}")
