"""The server's certificate: what is refused before a port is bound."""

import pytest
import trustme

from rankstream.server.config import from_mapping
from rankstream.server.errors import InvalidArgument
from rankstream.server.tls import watched_identity


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """PEM files by what they hold."""
    folder = tmp_path_factory.mktemp("pem")
    authority = trustme.CA()
    one, other = authority.issue_cert("localhost"), authority.issue_cert("elsewhere")
    held = {
        "cert": one.cert_chain_pems[0].bytes(),
        "key": one.private_key_pem.bytes(),
        "other key": other.private_key_pem.bytes(),
        "ca": authority.cert_pem.bytes(),
        "rubbish": b"rubbish",
    }
    for name, content in held.items():
        (folder / name).write_bytes(content)
    return {name: str(folder / name) for name in held} | {"nothing": str(folder / "nothing")}


def identity(**named):
    listen = from_mapping({f"tls_{name}": file for name, file in named.items()}).listen
    return watched_identity(listen)


def test_none_is_wanted_unless_settings_say_so():
    assert identity() is None


def test_callers_certificates_are_asked_for_where_there_is_a_root(files):
    alone = identity(cert=files["cert"], key=files["key"])
    both = identity(cert=files["cert"], key=files["key"], client_ca=files["ca"])

    assert alone.value.client_ca is None
    assert b"BEGIN CERTIFICATE" in both.value.client_ca
    assert b"PRIVATE KEY" in both.value.key


@pytest.mark.parametrize(
    ("named", "setting", "problem"),
    [
        ({"cert": "cert"}, "tls_key", "is not given"),
        ({"key": "key"}, "tls_cert", "is not given"),
        ({"client_ca": "ca"}, "tls_cert", "is not given"),
        ({"cert": "nothing", "key": "key"}, "tls_cert", "cannot be read"),
        ({"cert": "cert", "key": "nothing"}, "tls_key", "cannot be read"),
        ({"cert": "cert", "key": "other key"}, "tls_cert", "do not go together: .*MISMATCH"),
        ({"cert": "rubbish", "key": "key"}, "tls_cert", "do not go together"),
        ({"cert": "cert", "key": "rubbish"}, "tls_cert", "do not go together"),
        ({"cert": "cert", "key": "key", "client_ca": "rubbish"}, "tls_client_ca", "no cert"),
        ({"cert": "cert", "key": "key", "client_ca": "nothing"}, "tls_client_ca", "cannot"),
    ],
)
def test_what_cannot_be_used_is_named(files, named, setting, problem):
    with pytest.raises(InvalidArgument, match=problem) as refused:
        identity(**{name: files[file] for name, file in named.items()})

    assert refused.value.field == setting
