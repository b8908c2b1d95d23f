"""Load against a running server: a mix of calls at intended times, its answers checked meanwhile.

    python bench/load.py --target HOST:PORT [--rate 200] [--seconds 10] [--mix rank=80,batch=5,...]

Several processes send at times drawn before the run (Poisson, or evenly spaced with ``--even``),
however slowly answers come: an open loop. A latency runs from the *intended* time of sending, and a
call that fails ranks above every latency, so that nothing hides a stall. The first ``--warm-up``
seconds do not count.

Kinds of calls: ``rank`` (given candidates), ``whole`` (the best ten of the catalogue), ``batch``
(BatchRank), ``stream`` (StreamRank, one stream a process) and ``events`` (RecordEvents: it writes,
and is therefore in no default mix). Items are those that the server lists, or ``--items FILE``;
users are made up, ``load-user-000000`` and so on, or ``--users FILE``.

While it runs, ``--check`` answers a second are checked (``answer_oracle.py``); with ``--admin``
their scores are made again too (``score_oracle.py``). The exit status is 1 where an answer was
wrong. Connections are cleartext.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import grpc
from companion import Companion, begin_together
from environment import environment
from load_calls import KINDS, Population, Requests
from load_check import Checker
from load_plan import Plan
from load_plot import write_plot
from load_report import Found, print_found
from load_target import NotUsable, answers_stream_rank, listed_items, require_kind
from message_file import write_messages

DEFAULT_MIX = "rank=80,batch=5,stream=15"
_INTERVALS = 60
_CHECK_S = 0.1
_LARGEST = 64 << 20


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asked for.

    Attributes:
        plan: of the sending processes; ``process`` and ``folder`` are filled in later.
        population: whom and what requests are about.
        admin: host:port of the Admin service; "": scores are not made again.
        half_life_s: the server's, which no RPC tells.
    """

    plan: Plan
    population: Population
    admin: str
    half_life_s: float


def run(wish: Wish) -> Found:
    """Sends, checks, and adds up.

    Raises:
        CompanionFailed: a sending process ended before its time.
        NotUsable: the server does not answer a kind of the mix.
    """
    plan = wish.plan
    options = [("grpc.max_receive_message_length", _LARGEST)]
    with (
        tempfile.TemporaryDirectory(prefix="rankstream-load-") as folder,
        grpc.insecure_channel(plan.target, options) as channel,
    ):
        drawn = Requests(wish.population, plan.seed)
        for kind in plan.mix:
            requests = [KINDS[kind].make(drawn) for _ in range(KINDS[kind].distinct)]
            require_kind(channel, kind, requests[0])
            serialised = [request.SerializeToString() for request in requests]
            write_messages(Path(folder) / f"requests-{kind}", serialised)
        shares = [replace(plan, process=i, folder=folder) for i in range(plan.processes)]
        with Checker(channel, shares, wish.admin, wish.half_life_s) as checker:
            _send(shares, checker)
            return Found.read(shares, checker.verdict())


def _send(shares: list[Plan], checker: Checker) -> None:
    running = [Companion.start("load_sender.py", asdict(share)) for share in shares]
    try:
        begin_together(*running)
        while any(one.process.poll() is None for one in running):
            checker.check_new(_CHECK_S)
        for one in running:
            one.result()
    finally:
        for one in running:
            one.stop()
    checker.check_new(0.0)


def main() -> int:
    """Runs it; the exit status is 1 where an answer was wrong, 2 where nothing could be sent."""
    parser = _parser()
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    notes: list[str] = []
    try:
        wish = _wish(given, notes)
        found = run(wish)
    except NotUsable as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    with tempfile.TemporaryDirectory() as scratch:
        measured_with = environment(Path(scratch), given.seed, [])
    print_found(found, notes)
    if given.out is not None:
        found.write(given.out, measured_with, vars(given), notes)
    if given.plot is not None:
        write_plot(found, given.plot)
    return 1 if found.verdict.problems else 0


def _wish(given: argparse.Namespace, notes: list[str]) -> Wish:
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
    return Wish(plan, population, given.admin, given.half_life)


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
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
    add("--half-life", type=_positive, default=90 * 86_400.0, help="the server's --half-life-s")
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


if __name__ == "__main__":
    sys.exit(main())
