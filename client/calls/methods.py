"""Methods that describe a call, and that a client's class turns into methods that do it.

The decorators are descriptors: seen through ``Client`` a method answers, seen through
``AsyncClient`` it has to be awaited, and type checkers and ``help`` see it so.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import update_wrapper
from types import MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeAlias, TypeVar, overload

from rankstream.client.calls.shapes import Plan, Unary
from rankstream.client.calls.streams import Conversation, Listing, Upload

if TYPE_CHECKING:
    from rankstream.client.aio import AsyncHost
    from rankstream.client.client import BlockingHost
    from rankstream.client.host import Host

P = ParamSpec("P")
R = TypeVar("R")
# What describes a call with one answer, and with a stream of them.
Answer: TypeAlias = Unary[R] | Plan[R] | Upload[Any, R]
Stream: TypeAlias = Conversation[R] | Listing[R]


class _Method:
    """A method by the class it is looked up in; made once for each."""

    def __init__(self, describe: Callable[..., Any]) -> None:
        self.__doc__ = describe.__doc__
        self._describe = describe
        self._made: dict[type, Callable[..., Any]] = {}

    def _bound(self, client: Host | None, owner: type[Host]) -> Any:
        if owner not in self._made:
            self._made[owner] = self._make(owner)
        made = self._made[owner]
        return made if client is None else MethodType(made, client)

    def _make(self, owner: type[Host]) -> Callable[..., Any]:
        raise NotImplementedError


class answers(_Method, Generic[P, R]):  # noqa: N801 - a decorator
    """Decorates a method that describes a call with one answer."""

    def __init__(self, describe: Callable[Concatenate[Any, P], Answer[R]]) -> None:
        super().__init__(describe)

    @overload
    def __get__(self, client: BlockingHost, owner: type) -> Callable[P, R]: ...
    @overload
    def __get__(self, client: AsyncHost, owner: type) -> Callable[P, Coroutine[Any, Any, R]]: ...
    @overload
    def __get__(self, client: Host | None, owner: type) -> Callable[..., Any]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        return self._bound(client, owner)

    def _make(self, owner: type[Host]) -> Callable[..., Any]:
        return _shown(owner.answering(self._describe), self._describe, "{}")


class streams(_Method, Generic[P, R]):  # noqa: N801 - a decorator
    """Decorates a method that describes a call with a stream of answers."""

    def __init__(self, describe: Callable[Concatenate[Any, P], Stream[R]]) -> None:
        super().__init__(describe)

    @overload
    def __get__(self, client: BlockingHost, owner: type) -> Callable[P, Iterator[R]]: ...
    @overload
    def __get__(self, client: AsyncHost, owner: type) -> Callable[P, AsyncIterator[R]]: ...
    @overload
    def __get__(self, client: Host | None, owner: type) -> Callable[..., Any]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        return self._bound(client, owner)

    def _make(self, owner: type[Host]) -> Callable[..., Any]:
        return _shown(owner.streaming(self._describe), self._describe, owner.STREAM_TYPE)


def _shown(
    made: Callable[..., Any], describe: Callable[..., Any], returns: str
) -> Callable[..., Any]:
    """``made`` with the name, docstring and signature of ``describe``, but what it returns."""
    if made is describe:
        return made
    update_wrapper(made, describe)
    signature = inspect.signature(describe)
    inner = str(signature.return_annotation).partition("[")[2].removesuffix("]")
    shown = returns.format(inner)
    made.__annotations__ = {**describe.__annotations__, "return": shown}
    made.__signature__ = signature.replace(return_annotation=shown)  # type: ignore[attr-defined]
    return made
