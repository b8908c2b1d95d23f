"""The server's certificate and key, and whom it asks for one."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path

from rankstream.server.config import Listen
from rankstream.server.errors import InvalidArgument
from rankstream.server.watched import Watched


@dataclass(frozen=True, slots=True)
class Identity:
    """PEM.

    Attributes:
        key: private.
        certificate: and what is between it and a root.
        client_ca: the roots that callers' certificates must come from; None: none are asked for.
    """

    key: bytes = field(repr=False)
    certificate: bytes
    client_ca: bytes | None


def watched_identity(listen: Listen) -> Watched[Identity] | None:
    """What the settings name, read again when it changes; None: no TLS.

    Raises:
        InvalidArgument: names the setting that does not read, or that is missing.
    """
    named = {name: getattr(listen, name) for name in ("tls_cert", "tls_key", "tls_client_ca")}
    if not any(named.values()):
        return None
    for name in ("tls_cert", "tls_key"):
        if not named[name]:
            raise InvalidArgument(
                field=name, problem="is not given: TLS needs both --tls-cert and --tls-key"
            )
    files = [Path(path) for path in named.values() if path]
    return Watched(files, lambda: _read(listen))


def _read(listen: Listen) -> Identity:
    identity = Identity(
        _bytes("tls_key", listen.tls_key),
        _bytes("tls_cert", listen.tls_cert),
        _bytes("tls_client_ca", listen.tls_client_ca) if listen.tls_client_ca else None,
    )
    # gRPC refuses what does not fit together as a port that cannot be bound.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(listen.tls_cert, listen.tls_key, password="")
    except (ssl.SSLError, OSError) as error:
        problem = f"{listen.tls_cert} and {listen.tls_key} do not go together: {_reason(error)}"
        raise InvalidArgument(field="tls_cert", problem=problem) from None
    if listen.tls_client_ca:
        try:
            context.load_verify_locations(listen.tls_client_ca)
        except (ssl.SSLError, OSError) as error:
            problem = f"{listen.tls_client_ca} has no certificates: {_reason(error)}"
            raise InvalidArgument(field="tls_client_ca", problem=problem) from None
    return identity


def _bytes(setting: str, file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise InvalidArgument(
            field=setting, problem=f"{file} cannot be read: {error.strerror}"
        ) from None


def _reason(error: OSError) -> str:
    reason = getattr(error, "reason", None)
    return str(reason or error)
