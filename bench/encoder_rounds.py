"""The turns of ``encoder.py``: every contender in each round, one at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from encoder_contender import Contender
from encoder_figures import CALL, Figures, Pace, key_of
from encoder_quality import Change, change, cosines, gains, overlap, trials_of
from encoder_roster import GRPC, OURS, REFERENCE
from encoder_texts import MIXED, TITLES, Workload
from numpy.typing import NDArray
from report import REPEATS, Report

from rankstream.training.titled_log import TitledLog


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured.

    Attributes:
        mixes: of ``encoder_texts.MIXES``.
        seconds: of a turn, at least.
        singles: calls of one text in a round; 0: none.
    """

    mixes: Sequence[str]
    seconds: float
    singles: int


def measure(
    plan: Plan,
    loads: Mapping[str, Workload],
    files: Mapping[str, Path],
    contenders: Mapping[str, Contender],
    report: Report,
) -> Figures:
    """The rounds. Each begins with another contender, so that none always follows the same.

    Args:
        plan: what is measured.
        loads: by mix.
        files: of their texts.
        contenders: by name.
        report: takes what is found, and the ratios.
    """
    figures = Figures(missing={one.name: one.missing for one in contenders.values() if one.missing})
    asked = [one for one in contenders.values() if not one.missing]
    for repeat in range(1, REPEATS + 1):
        turn = asked[(repeat - 1) % len(asked) :] + asked[: (repeat - 1) % len(asked)]
        for mix in plan.mixes:
            for one in turn:
                _turn(one, loads[mix], files[mix], plan, figures)
                _note(one.name, mix, repeat, figures, report)
        for one in turn if plan.singles else ():
            times = one.singles(files[MIXED], plan.singles)
            figures.singles.setdefault(one.name, []).extend(times)
    for one in asked:
        figures.memory[one.name] = one.memory()
    return figures


def _turn(one: Contender, load: Workload, file: Path, plan: Plan, figures: Figures) -> None:
    def pace(call: int) -> Pace:
        spent = one.rate(file, call=call, seconds=plan.seconds)["seconds"]
        return Pace(load.tokens / spent, len(load.texts) / spent)

    place = load.name, one.name
    if one.name.startswith(GRPC):
        figures.calls.setdefault(place, []).append(pace(CALL))
        return
    whole = pace(0)
    figures.paces.setdefault(place, []).append(whole)
    if one.name.startswith(f"{OURS} ") and not one.name.startswith(GRPC):
        spent = len(load.texts) / whole.texts_per_s
        figures.shares.setdefault(place, []).append(one.tokenise_seconds(file) / spent)
        if plan.singles:
            figures.calls.setdefault(place, []).append(pace(CALL))


def _note(name: str, mix: str, repeat: int, figures: Figures, report: Report) -> None:
    found: dict[str, Any] = {}
    if paces := figures.paces.get((mix, name)):
        found |= asdict(paces[-1])
    if calls := figures.calls.get((mix, name)):
        found |= {f"{key}_by_{CALL}": value for key, value in asdict(calls[-1]).items()}
    if shares := figures.shares.get((mix, name)):
        found["tokenisation_share"] = shares[-1]
    report.add_result(f"{mix} {name}", repeat, found)


def compare(
    contenders: Mapping[str, Contender],
    titles: Path,
    data: Sequence[TitledLog],
    scratch: Path,
    report: Report,
) -> None:
    """How near each one's vectors are to the reference's; of ours also what that changes.

    Args:
        contenders: by name.
        titles: the file of the titles.
        data: sets with a catalogue and a log; none: nothing is said of rankings.
        scratch: a folder for vectors.
        report: takes what is found.
    """
    asked = [one for one in contenders.values() if not one.missing and not _is_grpc(one)]
    if REFERENCE.name not in [one.name for one in asked]:
        report.problems["encoder.titles.cosine_min"] = f"{REFERENCE.name} is missing"
        return
    reference = _vectors(contenders[REFERENCE.name], titles, scratch)
    for one in asked:
        near = cosines(_vectors(one, titles, scratch), reference)
        found = {"cosine_min": float(near.min()), "cosine_mean": float(near.mean())}
        report.add_result(f"{TITLES} {one.name} against {REFERENCE.name}", 1, found)
        if precision := our_precision(one.name):
            for what, value in found.items():
                report.ratios[key_of(TITLES, precision, what)] = value
    ours = [one for one in asked if our_precision(one.name)]
    if data:
        _compare_rankings(ours, contenders[REFERENCE.name], data, scratch, report)


def our_precision(name: str) -> str:
    """Of ours in process; "": it is another."""
    peer, _, precision = name.rpartition(" ")
    return precision if peer == OURS else ""


def _compare_rankings(
    ours: Sequence[Contender],
    reference: Contender,
    data: Sequence[TitledLog],
    scratch: Path,
    report: Report,
) -> None:
    gained: dict[str, list[NDArray[np.float64]]] = {}
    same: dict[str, list[float]] = {}
    for one_set in data:
        load = Workload(one_set.name, one_set.titles, ())
        file, trials = load.write(scratch), trials_of(one_set)
        base = _vectors(reference, file, scratch)
        gained.setdefault(reference.name, []).append(gains(base, trials))
        for one in ours:
            vectors = _vectors(one, file, scratch)
            gained.setdefault(one.name, []).append(gains(vectors, trials))
            same.setdefault(one.name, []).append(overlap(vectors, base))
            found = change(gained[one.name][-1:], gained[reference.name][-1:])
            told = {"top_10_overlap": same[one.name][-1], **_named(found)}
            report.add_result(f"{one_set.name} {one.name}", 1, told)
    for one in ours:
        found = change(gained[one.name], gained[reference.name])
        report.add_result(f"all data sets {one.name}", 1, _named(found))
        precision = our_precision(one.name)
        report.ratios[key_of(TITLES, precision, "top_10_overlap")] = min(same[one.name])
        report.ratios[key_of(TITLES, precision, "ndcg_change_low")] = found.low


def _named(found: Change) -> dict[str, float]:
    return {f"ndcg_{name}": value for name, value in asdict(found).items()}


def _vectors(one: Contender, texts: Path, scratch: Path) -> NDArray[np.float32]:
    to = scratch / "vectors.npy"
    one.write_vectors(texts, to, call=0)
    vectors: NDArray[np.float32] = np.load(to)
    return vectors


def _is_grpc(one: Contender) -> bool:
    return one.name.startswith(GRPC)
