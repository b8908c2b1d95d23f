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
}


def because(reasons: Iterable[Reason], titles: Mapping[str, str]) -> str:
    """The reasons of one item, as "because clicked Toy Story (+0.12)".

    Args:
        reasons: strongest first, as the server orders them.
        titles: titles by item_id; an item that has none is named by its id.
    """
    said = []
    for reason in reasons:
        word = "because" if reason.contribution >= 0 else "despite"
        did = _VERBS.get(reason.type, reason.type)
        what = titles.get(reason.item_id) or reason.item_id
        said.append(f"{word} {did} {what} ({reason.contribution:+.2f})")
    return "; ".join(said)
