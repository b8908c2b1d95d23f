"""Reasons in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rankstream.client.rankings import Reason

# What a user did, in the past tense; a type that is not here is named as it is.
_VERBS = {
    "impression": "was shown",
    "view": "viewed",
    "click": "clicked",
    "cart": "put in the cart",
    "purchase": "bought",
    "rate": "rated",
    "like": "liked",
    "dislike": "disliked",
    "search": "searched",
    "review": "wrote",
    "comment": "wrote",
}
# What is no interaction.
_ELSE = {"$query": "the query", "$vector": "the given vector", "$profile": "the profile's text"}


def because(
    reasons: Iterable[Reason], titles: Mapping[str, str], *, with_share: bool = True
) -> str:
    """The reasons of one item, as "because clicked Toy Story (+0.12)".

    Args:
        reasons: strongest first, as the server orders them.
        titles: titles by item_id; an item that has none is named by its id.
        with_share: say what each adds.
    """
    said = []
    for reason in reasons:
        word = "because" if reason.contribution >= 0 else "despite"
        share = f" ({reason.contribution:+.2f})" if with_share else ""
        said.append(f"{word} {_said(reason, titles)}{share}")
    return "; ".join(said)


def _said(reason: Reason, titles: Mapping[str, str]) -> str:
    if reason.type in _ELSE:
        return f'{_ELSE[reason.type]} "{reason.text}"' if reason.text else _ELSE[reason.type]
    quoted = f'"{reason.text}"' if reason.text else ""
    what = titles.get(reason.item_id) or reason.item_id or quoted
    return f"{_VERBS.get(reason.type, reason.type)} {what}"
