"""``rankstream serve``: settings from flags, environment and TOML, then the supervisor."""

from __future__ import annotations

import ipaddress
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from rankstream.server.access import Access
from rankstream.server.announce import MAX_PARTITIONS
from rankstream.server.child import REFUSED, configure_logging
from rankstream.server.config import Option, Settings, from_mapping, options
from rankstream.server.errors import InvalidArgument, RankstreamError, StateRefused
from rankstream.server.tls import watched_identity

Command = Callable[..., None]

# The least value of a numeric setting where it is not 1.
_MOST = {
    "bias_floor": 1,
    "events_partitions": MAX_PARTITIONS,
    "interests_trust": 1,
    "port": 65_535,
    "workers": 64,
}
_LEAST: dict[str, float] = {
    "allowed_skew_s": 0,
    "attributes_weight": 0,
    "bias_floor": 0,
    "bias_weight": 0,
    "bucket_s": 60,
    "cache_mib": 0,
    "default_wait_ms": 0,
    "dimensions": 0,
    "drain_s": 0,
    "events_retention_ms": -1,
    "fetch_max_wait_ms": 0,
    "interests_trust": 0,
    "ttl_s": 0,
    "interests_weight": 0,
    "kernels": 0,
    "linger_ms": 0,
    "longest_backoff_s": 0,
    "max_exclusions": 0,
    "poll_pace_ms": 0,
    "max_explained": 0,
    "max_reasons": 0,
    "max_tags": 0,
    "max_tokens": 0,
    "max_wait_ms": 0,
    "publish_timeout_s": 0.1,
    "text_weight": 0,
}

# LMDB's longest key, less what the state puts around a user_id (``profiles.stored.chunk_key``).
_LONGEST_ID_BYTES = 511 - 6
# The event_id that the server gives an event without one.
_ASSIGNED_ID_BYTES = 32


def _with_settings(command: Command) -> Command:
    for option in reversed(list(options())):
        command = _click_option(option)(command)
    return command


def _click_option(option: Option) -> Callable[[Command], Command]:
    flag = "--" + option.name.replace("_", "-")
    env = "RANKSTREAM_" + option.name.upper()
    if option.type is bool:
        flag = f"{flag}/--no-{flag.removeprefix('--')}"
    shown = f"{option.doc}  [default: {option.default if option.default != '' else 'none'}]"
    return click.option(flag, option.name, type=option.type, default=None, envvar=env, help=shown)


@click.command()
@click.option(
    "--config", type=click.Path(exists=True, dir_okay=False), help="TOML file of settings"
)
@_with_settings
def serve(config: str | None, **flags: Any) -> None:
    """Serve rankings, and fold the log into the state.

    Settings come from flags, else from RANKSTREAM_<NAME> in the environment, else from --config
    (the same names, flat or in any tables).

    The state keeps the encoder's settings: a later start needs none, and refuses those that would
    make other vectors. 'rankstream reindex' changes them.
    """
    from rankstream.server.supervisor import Supervisor

    configure_logging("serve")
    try:
        values = _read_toml(Path(config)) if config else {}
        values |= {name: value for name, value in flags.items() if value is not None}
        settings = check(from_mapping(values))
        Supervisor(settings, _say_serving).run()
    except StateRefused as error:
        click.echo(f"refused: {error}", err=True)
        sys.exit(REFUSED)
    except RankstreamError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)


def check(settings: Settings) -> Settings:
    """Refuses settings that contradict each other.

    Raises:
        InvalidArgument: names the setting.
    """
    kafka, listen = settings.kafka, settings.listen
    if kafka.embedded == bool(kafka.bootstrap_servers):
        problem = "give either it (a Kafka cluster) or --embedded (a broker beside the server)"
        raise InvalidArgument(field="bootstrap_servers", problem=problem)
    tls = watched_identity(listen) is not None
    if not tls and not listen.insecure and not _is_loopback(listen.host):
        problem = (
            f"{listen.host} is not loopback and there is no TLS: "
            "give --tls-cert and --tls-key, or say --insecure to allow it"
        )
        raise InvalidArgument(field="host", problem=problem)
    if listen.access_file:
        Access(Path(listen.access_file))
    if not _ASSIGNED_ID_BYTES <= settings.limits.max_id_bytes <= _LONGEST_ID_BYTES:
        range_of = f"{_ASSIGNED_ID_BYTES} to {_LONGEST_ID_BYTES}"
        problem = f"{settings.limits.max_id_bytes}, expected {range_of}"
        raise InvalidArgument(field="max_id_bytes", problem=problem)
    limits = settings.limits
    for name, most in _MOST.items():
        _require_at_most(settings, name, most)
    for name in ("max_batch_rank_entries", "max_texts"):
        # Otherwise a request within its limit would find the queue too small for ever.
        _require_at_most(settings, name, limits.max_queued)
    for option in options():
        value = getattr(getattr(settings, option.section), option.name)
        least = _LEAST.get(option.name, 1)
        if option.type in (int, float) and not value >= least:
            raise InvalidArgument(option.name, f"{value}, expected at least {least}")
    return settings


def _require_at_most(settings: Settings, name: str, most: int) -> None:
    (section,) = [o.section for o in options() if o.name == name]
    value = getattr(getattr(settings, section), name)
    if value > most:
        raise InvalidArgument(name, f"{value}, expected at most {most}")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        read = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problem = f"{path} is not TOML: {error}"
        raise InvalidArgument(field="config", problem=problem) from None
    flat: dict[str, Any] = {}
    for name, value in read.items():
        flat |= value if isinstance(value, dict) else {name: value}
    return flat


def _say_serving(settings: Settings) -> None:
    listen = settings.listen
    click.echo(
        f"SERVING on {listen.host}:{listen.port}, admin on {listen.host}:{listen.admin_port}, "
        f"log at {settings.kafka.bootstrap_servers}"
    )
