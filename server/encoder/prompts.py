"""What some models were taught to read before a text, by name: one for queries, one for items."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rankstream.server.errors import InvalidArgument

# How folders name what is put before an item or a query; the first that there is.
ITEM_NAMES = ("document", "passage", "corpus")
QUERY_NAMES = ("query",)


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompts of a model, and which of them are used for what.

    Attributes:
        texts: name -> what is put before a text, exactly; a name is not empty.
        default: the name that is used where none is asked for; None: nothing is put before a text.
        item: the name used for items; None: nothing is put before them.
        query: the name used for what users and requests say; None: as above.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    default: str | None = None
    item: str | None = None
    query: str | None = None

    def before(self, name: str | None) -> str:
        """What stands before a text under the prompt ``name``; None: the default.

        Raises:
            InvalidArgument: there is no such prompt; names those there are.
        """
        self.require("prompt_name", name)
        known = self.default if name is None else name
        return "" if known is None else self.texts[known]

    def require(self, field_name: str, name: str | None) -> None:
        """Refuses a name that is not among the prompts.

        Raises:
            InvalidArgument: for the field ``field_name``; names the prompts there are.
        """
        if name is not None and name not in self.texts:
            there = ", ".join(map(repr, sorted(self.texts))) or "none: the model has no prompts"
            raise InvalidArgument(field_name, f"no prompt {name!r}; there are {there}")

    def in_use(self, item: str, query: str) -> Prompts:
        """These, used as the settings ``item_prompt`` and ``query_prompt`` say.

        Args:
            item: a name; "": ``document`` or its like where there is one, else the default.
            query: a name; "": ``query`` where there is one, else the default.

        Raises:
            InvalidArgument: one of them does not exist.
        """
        for_items = item or self._first(ITEM_NAMES)
        for_queries = query or self._first(QUERY_NAMES)
        self.require("item_prompt", for_items)
        self.require("query_prompt", for_queries)
        return dataclasses.replace(self, item=for_items, query=for_queries)

    def _first(self, names: Sequence[str]) -> str | None:
        return next((name for name in names if name in self.texts), self.default)
