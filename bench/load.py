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

import importlib.util
import signal
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import grpc
from companion import Companion, CompanionFailed, begin_together
from environment import environment
from load_calls import KINDS, Requests
from load_check import Checker
from load_plan import Plan
from load_plot import write_plot
from load_report import Found, print_found
from load_target import NotUsable, require_kind, unusable
from load_wish import Wish, make_parser, make_wish
from message_file import write_messages
from score_oracle import Rules, read_rules

_CHECK_S = 0.1
_LARGEST = 64 << 20


def run(wish: Wish) -> Found:
    """Sends, checks, and adds up.

    Raises:
        CompanionFailed: a sending process ended before its time.
        NotUsable: the server does not answer a kind of the mix.
    """
    plan, rules = wish.plan, _rules(wish)
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
        with Checker(channel, shares, rules) as checker:
            _send(shares, checker)
            return Found.read(shares, checker.verdict())


def _rules(wish: Wish) -> Rules | None:
    if not wish.admin:
        return None
    try:
        return read_rules(wish.admin)
    except grpc.RpcError as error:
        raise unusable(error, f"GetServerInfo of --admin {wish.admin}") from error


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
    """Runs it; the exit status is 1 where an answer was wrong, 2 where it could not run."""
    parser = make_parser(__doc__ or "")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    notes: list[str] = []
    if given.plot is not None and importlib.util.find_spec("matplotlib") is None:
        parser.error(
            "--plot draws with matplotlib, which is not installed (pip install matplotlib)"
        )
    try:
        wish = make_wish(given, notes)
        found = run(wish)
    except (NotUsable, CompanionFailed) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    with tempfile.TemporaryDirectory() as scratch:
        measured_with = environment(Path(scratch), given.seed, [])
    print_found(found, notes)
    if given.out is not None:
        found.write(given.out, measured_with, vars(given), notes)
    if given.plot is not None:
        write_plot(found, given.plot)
    return 1 if found.verdict.problems else 0


if __name__ == "__main__":
    sys.exit(main())
