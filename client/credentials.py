"""How a client shows who it is, and knows the server by."""

from __future__ import annotations

from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankstream.client.errors import invalid

if TYPE_CHECKING:
    import grpc

PemFile = str | PathLike[str]


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access token, TLS, or both. Without TLS a token is sent as it is: keep to trusted nets.

    Attributes:
        access_token: as ``rankstream access`` showed it; empty: none.
        tls: whether the connection is encrypted; the files below imply it.
        ca: PEM of the roots that the server's certificate must come from; None: gRPC's own.
        certificate: PEM of the client's own, for a server that asks for one.
        key: PEM of its private key.
    """

    access_token: str = field(default="", repr=False)
    tls: bool = False
    ca: PemFile | None = None
    certificate: PemFile | None = None
    key: PemFile | None = None

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call carries.

        Raises:
            InvalidArgument: no header can hold the token.
        """
        token = self.access_token
        if not token:
            return ()
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise invalid(field="credentials.access_token", problem="is not printable ASCII")
        return (("authorization", f"Bearer {token}"),)

    @property
    def channel_credentials(self) -> grpc.ChannelCredentials | None:
        """As gRPC takes them; None: no TLS.

        Raises:
            InvalidArgument: a file cannot be read, or one of two is missing.
        """
        if (self.certificate is None) != (self.key is None):
            missing = "certificate" if self.certificate is None else "key"
            problem = "is not given: a certificate and its key go together"
            raise invalid(field=f"credentials.{missing}", problem=problem)
        if not self.tls and self.ca is None and self.key is None:
            return None
        import grpc

        return grpc.ssl_channel_credentials(
            _read("ca", self.ca), _read("key", self.key), _read("certificate", self.certificate)
        )


class Authorized:
    """A method of a channel that sends this metadata with every call."""

    def __init__(self, method: Any, metadata: tuple[tuple[str, str], ...]) -> None:
        self._method = method
        self._metadata = metadata

    def __call__(self, *sent: Any, **how: Any) -> Any:
        """Calls it."""
        return self._method(*sent, metadata=self._metadata, **how)

    def future(self, *sent: Any, **how: Any) -> Any:
        """Calls it without waiting for the answer."""
        return self._method.future(*sent, metadata=self._metadata, **how)


def _read(name: str, file: PemFile | None) -> bytes | None:
    if file is None:
        return None
    try:
        return Path(file).read_bytes()
    except OSError as error:
        problem = f"{file} cannot be read: {error.strerror}"
        raise invalid(field=f"credentials.{name}", problem=problem) from None
