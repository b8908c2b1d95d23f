"""What the command line of ``load.py`` asks for."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import grpc
from load_calls import KINDS, Population
from load_plan import Plan
from load_target import NotUsable, answers_stream_rank, listed_items

DEFAULT_MIX = "rank=80,batch=5,stream=15"
_INTERVALS = 60


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asked for.

    Attributes:
        plan: of the sending processes; ``process`` and ``folder`` are filled in later.
        population: whom and what requests are about.
        admin: host:port of the Admin service; "": scores are not made again.
    """

    plan: Plan
    population: Population
    admin: str


def make_wish(given: argparse.Namespace, notes: list[str]) -> Wish:
    """Asks the server for what the command line leaves open; what that changed goes to notes.

    Raises:
        NotUsable: a flag does not read as it should, or there is nothing to send.
    """
    mix = _mix(given.mix or DEFAULT_MIX)
    with grpc.insecure_channel(given.target) as channel:
        items = _ids(given.items) if given.items else listed_items(channel, given.max_items)
        if not given.mix and not answers_stream_rank(channel):
            del mix["stream"]
            notes.append("StreamRank is not implemented by this server: left out of the mix")
    users = (
        _ids(given.users)
        if given.users
        else [f"load-user-{number:06d}" for number in range(given.made_up_users)]
    )
    population = Population(
        users, items, given.candidates, given.k, given.batch_entries, given.events_per_call
    )
    plan = Plan(
        target=given.target,
        mix=mix,
        rate=given.rate,
        seconds=given.seconds,
        warm_up_s=given.warm_up,
        poisson=not given.even,
        connections=given.connections,
        timeout_s=given.timeout,
        max_in_flight=given.max_in_flight,
        samples_per_s=given.check,
        intervals=max(1, min(_INTERVALS, int(given.seconds))),
        seed=given.seed,
        process=0,
        processes=given.processes,
        folder="",
    )
    return Wish(plan, population, given.admin)


def _mix(text: str) -> dict[str, float]:
    """Reads ``rank=80,events=20``.

    Raises:
        NotUsable: it does not read so.
    """
    mix = {}
    for part in text.split(","):
        kind, _, share = part.partition("=")
        try:
            mix[kind.strip()] = float(share)
        except ValueError:
            break
    else:
        if set(mix) <= set(KINDS) and all(0 < share < 1e9 for share in mix.values()):
            return mix
    msg = f"--mix {text!r}: expected KIND=SHARE,... with shares above 0, of {', '.join(KINDS)}"
    raise NotUsable(msg)


def _ids(path: Path) -> list[str]:
    """One id a line.

    Raises:
        NotUsable: there are none.
    """
    try:
        found = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except OSError as error:
        raise NotUsable(str(error)) from error
    if not found:
        msg = f"{path} holds no ids, expected one a line"
        raise NotUsable(msg)
    return found


def make_parser(doc: str) -> argparse.ArgumentParser:
    """The flags, with their help; ``doc`` stands above."""
    parser = argparse.ArgumentParser(
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--target", required=True, metavar="HOST:PORT", help="of the serving API")
    add("--admin", default="", metavar="HOST:PORT", help="Admin: makes checked scores again")
    add("--rate", type=_positive, default=200.0, help="calls a second (%(default)g)")
    add("--seconds", type=_positive, default=10.0, help="that count (%(default)g)")
    add("--warm-up", type=_not_negative, default=2.0, help="s that do not count (%(default)g)")
    add("--even", action="store_true", help="evenly spaced times, not Poisson")
    add("--mix", help=f"KIND=SHARE,... of {', '.join(KINDS)} ({DEFAULT_MIX})")
    add("--processes", type=_count, default=1, help="that send (%(default)d)")
    add("--connections", type=_count, default=2, help="a kind and process (%(default)d)")
    add("--max-in-flight", type=_count, default=5_000, help="calls a process (%(default)d)")
    add("--timeout", type=_positive, default=10.0, help="s until a call is given up (%(default)g)")
    add("--users", type=Path, metavar="FILE", help="user_ids, one a line")
    add("--made-up-users", type=_count, default=1_000, help="where no file is given (%(default)d)")
    add("--items", type=Path, metavar="FILE", help="item_ids, one a line")
    add("--max-items", type=_count, default=10_000, help="to list from the server (%(default)d)")
    add("--candidates", type=_count, default=256, help="of a ranking (%(default)d)")
    add("--k", type=_count, help="items answered (all candidates)")
    add("--batch-entries", type=_count, default=16, help="of a BatchRank (%(default)d)")
    add("--events-per-call", type=_count, default=10, help="of a RecordEvents (%(default)d)")
    add("--check", type=_not_negative, default=10.0, help="answers checked a second (%(default)g)")
    add("--seed", type=int, default=7, help="of times and requests (%(default)d)")
    add("--out", type=Path, metavar="FILE", help="the result as JSON")
    add("--plot", type=Path, metavar="FILE.png", help="latencies by percentile and over time")
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e9:
        msg = f"{text}: expected a number above 0"
        raise argparse.ArgumentTypeError(msg)
    return value


def _not_negative(text: str) -> float:
    return 0.0 if float(text) == 0 else _positive(text)


def _count(text: str) -> int:
    return int(_positive(str(int(text))))
