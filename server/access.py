"""Who may call what: access tokens, of which a file holds the hashes.

The file is TOML, a table a caller; ``rankstream access NAME`` makes one::

    [shop]
    sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    allow = ["Ranking", "Events.RecordEvents"]

A call shows its token as ``authorization: Bearer TOKEN``. The hash of a random token says nothing
of it, so a file that is read by others lets nobody in.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from rankstream.proto.v1 import (
    admin_pb2,
    catalog_pb2,
    encoder_pb2,
    events_pb2,
    profiles_pb2,
    ranking_pb2,
)
from rankstream.server.errors import InvalidArgument, PermissionDenied, Unauthenticated
from rankstream.server.watched import Watched

ALL: Final = "*"
_MODULES = (ranking_pb2, events_pb2, catalog_pb2, profiles_pb2, encoder_pb2, admin_pb2)
_METHODS = {
    service.full_name: [f"{service.name}.{method.name}" for method in service.methods]
    for module in _MODULES
    for service in module.DESCRIPTOR.services_by_name.values()
}
_SERVICE_NAMES = {full.rpartition(".")[2]: methods for full, methods in _METHODS.items()}
_EVERY_METHOD = frozenset(method for methods in _METHODS.values() for method in methods)
OPEN: Final = frozenset({("grpc.health.v1.Health", "Check")})
"""What orchestrators and load balancers ask, who have no token. Watching would hold a call each."""
FOR_EVERY_CALLER: Final = frozenset(
    {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
)
"""Services that need a token and no permission."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HASH = re.compile(r"[0-9a-f]{64}")

Caller = tuple[str, frozenset[str]]


class Access:
    """The callers of a file, which may change at any time.

    Args:
        file: TOML, as above.

    Raises:
        InvalidArgument: it does not read.
    """

    def __init__(self, file: Path) -> None:
        self._callers = Watched([file], lambda: _read(file))

    def check(self, metadata: Iterable[tuple[str, str | bytes]], service: str, method: str) -> None:
        """Lets a call pass. ``OPEN`` methods are for who has no token, too.

        Args:
            metadata: what the call says beside its request.
            service: its full name.
            method: of the service.

        Raises:
            Unauthenticated: there is no token, or nobody has it.
            PermissionDenied: it is somebody's who may not call this.
        """
        if (service, method) in OPEN:
            return
        shown = next((value for key, value in metadata if key == "authorization"), None)
        if shown is None:
            msg = "no access token: send the metadata 'authorization: Bearer TOKEN'"
            raise Unauthenticated(msg)
        caller = self._callers.value.get(_hash_of(shown))
        if caller is None:
            msg = "the access token is nobody's here: is it whole, and in the server's file?"
            raise Unauthenticated(msg)
        name, allowed = caller
        called = f"{service.rpartition('.')[2]}.{method}"
        if called not in allowed and service not in FOR_EVERY_CALLER:
            msg = f"{name} may not call {called}: add it to what the access file allows {name}"
            raise PermissionDenied(msg)


def hash_of(token: str) -> str:
    """What the file holds of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def checked_name(name: str) -> str:
    """A caller's name.

    Raises:
        InvalidArgument: it is none.
    """
    if not _NAME.fullmatch(name):
        problem = f"{name!r}, expected 1 to 64 letters, digits, hyphens and underscores"
        raise InvalidArgument(field="name", problem=problem)
    return name


def methods_of(field: str, allowed: object) -> frozenset[str]:
    """What a list of services and methods names.

    Raises:
        InvalidArgument: it names something else.
    """
    if not isinstance(allowed, list):
        raise InvalidArgument(field=field, problem=f'{allowed!r}, expected a list, as ["Ranking"]')
    found: set[str] = set()
    for name in allowed:
        if name == ALL:
            found |= _EVERY_METHOD
        elif name in _SERVICE_NAMES:
            found.update(_SERVICE_NAMES[name])
        elif name in _EVERY_METHOD:
            found.add(name)
        else:
            known = ", ".join(_SERVICE_NAMES)
            problem = f"{name!r}, expected {ALL}, a service ({known}) or a method as Ranking.Rank"
            raise InvalidArgument(field=field, problem=problem)
    return frozenset(found)


def _hash_of(shown: str | bytes) -> str:
    """Of the token in a header; of anything else, of nothing that anybody has."""
    text = shown if isinstance(shown, str) else shown.decode(errors="replace")
    scheme, _, token = text.partition(" ")
    return hash_of(token.strip()) if scheme.lower() == "bearer" else ""


def _read(file: Path) -> dict[str, Caller]:
    """Callers by the hash of their token."""
    try:
        tables: Mapping[str, Any] = tomllib.loads(file.read_text())
    except OSError as error:
        problem = f"{file} cannot be read: {error.strerror}"
        raise InvalidArgument(field="access_file", problem=problem) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(field="access_file", problem=f"{file} is not TOML: {error}") from None
    callers: dict[str, Caller] = {}
    for name, table in tables.items():
        where = f"access_file: {file}: [{checked_name(name)}]"
        if not isinstance(table, dict) or set(table) != {"sha256", "allow"}:
            raise InvalidArgument(
                field=where, problem="expected sha256 and allow, and nothing else"
            )
        digest = table["sha256"]
        if not isinstance(digest, str) or not _HASH.fullmatch(digest):
            problem = "expected 64 hexadecimal digits, as 'rankstream access' prints them"
            raise InvalidArgument(field=f"{where} sha256", problem=problem)
        if digest in callers:
            raise InvalidArgument(
                field=f"{where} sha256", problem=f"is that of {callers[digest][0]}, too"
            )
        callers[digest] = name, methods_of(f"{where} allow", table["allow"])
    return callers
