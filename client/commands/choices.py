"""Options that become parts of a query: filters, weights, attributes, session events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rankstream.client.attributes import Attribute
    from rankstream.client.filters import Filter
    from rankstream.client.records import Event

F = TypeVar("F", bound=Callable[..., Any])


def example(*lines: str) -> str:
    """The end of a help text: commands as they are typed."""
    return "\n".join(["\b", "Example:", *(f"  rankstream {line}" for line in lines)])


def filter_option(command: F) -> F:
    """Adds ``--filter``, which may be given again."""
    option = click.option(
        "--filter", "filters", multiple=True, metavar="CONDITION",
        help="Answer only such items: brand=Acme, brand!=Acme, price<=20, tags=a|b, size=@sizes "
        "(an attribute of the user), colour=* (any), or a rankstream.v1.Filter in JSON. Given "
        "again: all of them.",
    )  # fmt: skip
    return option(command)


def filter_of(texts: Sequence[str]) -> Filter | None:
    """All of the conditions; None where there is none."""
    from rankstream.client.filters import Filter

    read = [Filter.from_json(t) if t.lstrip().startswith("{") else Filter.parse(t) for t in texts]
    if len(read) < 2:
        return read[0] if read else None
    return Filter.all_of(*read)


def subject_options(command: F) -> F:
    """Adds what a query says of its subject, and how it weighs."""
    options = (
        click.option("--query", default="", help="What is wanted, in words."),
        click.option("--query-weight", type=float, help="How much the words count. Default: 1."),
        click.option(
            "--session", "session", multiple=True, metavar="TYPE:ITEM",
            help="An event of somebody who is not stored, oldest first: view:m1, or search:WORDS.",
        ),
        click.option(
            "--block-weight", "block_weights", multiple=True, metavar="BLOCK=WEIGHT",
            help="Weight of a block, as text=0.5.",
        ),
        click.option("--half-life-s", type=float, help="Seconds in which interactions halve."),
        click.option("--ttl-s", type=float, help="Count only interactions of so many seconds."),
        click.option(
            "--type-weight", "type_weights", multiple=True, metavar="TYPE=WEIGHT",
            help="Weight of an event type, as view=0.",
        ),
        click.option("--as-of-ms", type=int, help="Answer as of this time, ms since the epoch."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def subject_of(
    user: str,
    session: Sequence[str],
    block_weights: Sequence[str],
    half_life_s: float | None,
    ttl_s: float | None,
    type_weights: Sequence[str],
    **others: Any,
) -> dict[str, Any]:
    """What ``rank`` and ``explain`` of a client take of these options."""
    from rankstream.client.queries import Pooling

    pooling = Pooling(half_life_s, numbers_of("--type-weight", type_weights), ttl_s=ttl_s)
    return {
        "user_id": user,
        "session": [_event(text) for text in session] or None,
        "block_weights": numbers_of("--block-weight", block_weights),
        "pooling": None if pooling == Pooling() else pooling,
        **others,
    }


def whom(user: str, session: Sequence[str], query: str) -> str:
    """Whom a query is for, in words; there has to be somebody.

    Raises:
        click.UsageError: neither a user nor a session nor a query is given.
    """
    if not (user or session or query):
        message = "give a USER, or --session, or --query"
        raise click.UsageError(message)
    named = user or ("this session" if session else "")
    wanted = f'"{query}"' if query else ""
    return " and ".join(filter(None, (named, wanted)))


def numbers_of(option: str, pairs: Sequence[str]) -> dict[str, float]:
    """Numbers by name from ``NAME=NUMBER``."""
    found = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        try:
            found[name] = float(text)
        except ValueError:
            sign = ""
        if not (sign and name):
            raise _unreadable(pair, expected="NAME=NUMBER", option=option)
    return found


def attributes_of(option: str, pairs: Sequence[str]) -> dict[str, Attribute]:
    """Values by name from ``NAME=VALUE``: a JSON value where it is one, else text."""
    import json

    found: dict[str, Attribute] = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not (sign and name):
            raise _unreadable(pair, expected="NAME=VALUE", option=option)
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found


def _event(text: str) -> Event:
    from rankstream.client.records import Event

    kind, sign, target = text.partition(":")
    if not (kind and sign and target):
        raise _unreadable(text, expected="TYPE:ITEM", option="--session")
    if kind == "search":
        return Event("", kind, text=target)
    return Event("", kind, target)


def _unreadable(text: str, expected: str, option: str) -> click.BadParameter:
    return click.BadParameter(f"{text!r} is not {expected}", param_hint=option)
