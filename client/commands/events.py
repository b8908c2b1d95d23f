"""``rankstream events``: write events, one or a file of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from rankstream.client.commands.choices import example
from rankstream.client.commands.imports import Tally, import_options, progress
from rankstream.client.commands.session import Session, json_option, token_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rankstream.client.readers import Format, OnError
    from rankstream.client.records import Event

# How often an import tells its progress, in events.
_REPORT_EVERY = 500


@click.group()
def events() -> None:
    """Write events: one, or a file of them."""


@events.command(
    "import",
    epilog=example(
        "events import events.csv.gz", "events import - --bootstrap-servers kafka:9092 < a.jsonl"
    ),
)
@import_options
@click.option(
    "--bootstrap-servers", envvar="RANKSTREAM_BOOTSTRAP_SERVERS", show_envvar=True,
    help="Write to this Kafka itself, which is faster. Default: through the server.",
)  # fmt: skip
@click.option("--topic", default="rankstream.events", show_default=True, help="Topic in Kafka.")
@json_option
@click.pass_obj
def import_events(
    session: Session,
    file: str,
    format: Format | None,
    on_error: OnError,
    progress_wanted: bool | None,
    bootstrap_servers: str | None,
    topic: str,
    as_json: bool,
) -> None:
    """Write the events of FILE (JSON Lines, CSV or TSV; may be gzip; - for standard input).

    Keys or columns: user_id, type, item_id, text, value, weight, event_time_ms, event_id,
    session_id, platform, position, and in JSON Lines attributes.
    """
    from rankstream.client.readers import read_events

    reader = read_events(file, format=format, on_error=on_error)
    tally = Tally("events", reader, stop=on_error == "stop")
    with (
        tally.summed_up(as_json),
        progress("events", reader, progress_wanted) as tally.advance,
    ):
        if bootstrap_servers:
            _produce(session, tally, bootstrap_servers, topic)
        else:
            _import(session, tally)


def _produce(session: Session, tally: Tally[Event], bootstrap_servers: str, topic: str) -> None:
    import logging

    from rankstream.client.events import EventProducer, Sent

    def report(sent: Sent) -> None:
        tally.written = sent.events
        tally.advance(sent.events)

    # Its warnings repeat every few ms what the raised error says once.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    timeout_s = session.timeout_s
    with EventProducer(bootstrap_servers, topic=topic, timeout_s=timeout_s) as producer:
        report(producer.send_many(tally.reader, report))


def _import(session: Session, tally: Tally[Event]) -> None:
    names: dict[int, str] = {}
    with session.client() as client:
        events = tally.records(_name, names)
        tally.take(client.import_events(_counted(events, tally.advance)), names)


def _counted(events: Iterator[Event], advance: Callable[[int], None]) -> Iterator[Event]:
    """The server answers at the end; until then what it took is the progress."""
    for count, event in enumerate(events, start=1):
        yield event
        if count % _REPORT_EVERY == 0:
            advance(count)


def _name(event: Event) -> str:
    return f"{event.type!a} of {event.user_id!a} with {event.item_id or event.text!a}"


@events.command(
    "send",
    epilog=example(
        "events send ann rate m1 --value 5 --wait", 'events send ann search --text "warm socks"'
    ),
)
@click.argument("user")
@click.argument("type_", metavar="TYPE")
@click.argument("item", default="")
@click.option("--text", default="", help="What was searched for, or written.")
@click.option("--value", type=float, help="Stars of a rate, pieces of a purchase.")
@click.option("--weight", type=float, help="Multiplies the type's weight.")
@click.option("--event-time-ms", type=int, help="ms since the epoch. Default: now.")
@click.option("--event-id", default="", help="The same id is the same event. Default: a new one.")
@click.option("--wait", is_flag=True, help="Wait until the event counts, and say how long it took.")
@click.option("--max-wait-ms", type=click.IntRange(min=0), help="Longest such wait, ms.")
@json_option
@click.pass_obj
def send(
    session: Session,
    user: str,
    type_: str,
    item: str,
    text: str,
    value: float | None,
    weight: float | None,
    event_time_ms: int | None,
    event_id: str,
    wait: bool,
    max_wait_ms: int | None,
    as_json: bool,
) -> None:
    """Write one event: USER did TYPE with ITEM or a text. Prints the token for --min-token."""
    from rankstream.client.commands.output import print_json
    from rankstream.client.records import Event

    event = Event(user, type_, item, value, weight, event_time_ms, event_id, text)
    visible_ms = None
    with session.client() as client:
        start = time.perf_counter()
        answer = client.record_events([event])
        for result in answer.results:
            if result.error is not None:
                raise result.error
        if wait:
            client.get_profile(
                user, max_interactions=0, min_token=answer.token, max_wait_ms=max_wait_ms
            )
            visible_ms = round((time.perf_counter() - start) * 1000, 2)
    sent_id = answer.results[0].event_id if answer.results else event_id
    if as_json:
        print_json({"event_id": sent_id, "token": answer.token, "visible_ms": visible_ms})
        return
    click.echo(token_text(answer.token))
    if visible_ms is not None:
        click.echo(f"visible after {visible_ms} ms")
