"""The benchmark of top-k: a tiny run of ours and NumPy, and its ratios from made-up times."""

import numpy as np
import pytest
import top_k
from report import REPEATS, Report
from top_k_contender import READ, VNNI, WrongAnswer, running, timed
from top_k_data import given_data, random_data
from top_k_figures import Figures, Reached, Turn
from top_k_peers import FLAT, FP32, OURS, PEERS, Answer
from top_k_plot import draw, points

K = 10
PLAN = top_k.Plan(K, (1, 8), ("numpy",), 0.0, 1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return random_data(tmp_path_factory.mktemp("cache"), 2_000, 32)


@pytest.fixture
def contenders(data):
    with running((OURS, FP32, "numpy"), data, 1) as started:
        yield started


def figures_of(peer_ms, *, missing=()):
    """Ours take 1 ms a batch; the peers what is given, FLAT ten times as much as ours."""
    figures = Figures(elements=1_000, one_bytes=2_000, missing=dict.fromkeys(missing, "not here"))
    for _ in range(REPEATS):
        for batch in (1, 8, 64):
            figures.add(batch, OURS, Turn(1.0, 1.0, 7, 1.0, 7 * batch, 0))
            for name in PEERS:
                if name not in missing:
                    ms = 10.0 if name == FLAT else peer_ms.get((batch, name), 9.0)
                    figures.add(batch, name, Turn(ms, 1.0, 7, 1.0, 7 * batch, 0))
        figures.limits.setdefault(READ, []).append(Reached(4e6, 1.0))
        figures.limits.setdefault(VNNI, []).append(Reached(256e6, 1.0))
    return figures


def test_a_tiny_run_is_right_and_timed(contenders, tmp_path):
    contenders[FP32].write_answer(K, tmp_path / "known.npz")
    report = Report({}, {})

    figures = top_k.measure(PLAN, 64_000, contenders, tmp_path / "known.npz", report)

    assert report.ratios == {"top_k.widened": 0.0}
    assert len(figures.turns[8, "numpy"]) == REPEATS
    assert all(turn.recall == 1.0 for turns in figures.turns.values() for turn in turns)
    assert all(turn.p50_ms > 0 for turns in figures.turns.values() for turn in turns)


def test_a_wrong_answer_of_ours_ends_the_run(contenders, tmp_path):
    known = tmp_path / "known.npz"
    contenders[FP32].write_answer(K, known)
    with np.load(known) as file:
        rows, scores = file["rows"], file["scores"]
    scores[100] = np.nextafter(scores[100], np.float32(9))
    np.savez(known, rows=rows, scores=scores)

    with pytest.raises(WrongAnswer, match=r"ours, batches of 8, k 10: 1 of 32 answers are wrong"):
        contenders[OURS].time(known, batch=8, k=K, seconds=0.0, calls=32)


def test_recall_counts_rows_and_a_lower_one_is_no_error():
    class Fixed:
        pass_bytes = 0

        def answer(self, queries, k):
            return Answer(np.tile(np.arange(k), (len(queries), 1)))

    known = Answer(np.array([[1, 0], [1, 7]]), np.zeros((2, 2), np.float32))

    found = timed(Fixed(), np.zeros((2, 4), np.float32), known, batch=2, k=2, seconds=0.0, calls=1)

    assert (found["recall"], found["different"], found["queries"]) == (0.75, 0, 2)


def test_the_ratios():
    figures = figures_of({(1, "numpy"): 2.0, (8, "usearch i8"): 3.0, (64, "torch bf16"): 4.0})

    found = {key: np.median(np.divide(*series)) for key, series in figures.ratios().items()}

    assert found == {
        "top_k.b1.vs_faiss_flat": 10.0,
        "top_k.b8.vs_faiss_flat": 10.0,
        "top_k.b64.vs_faiss_flat": 10.0,
        "top_k.b1.vs_best_peer": 2.0,
        "top_k.b8.vs_best_peer": 3.0,
        "top_k.b64.vs_best_peer": 4.0,
        "top_k.b1.of_read_bandwidth": 0.5,
        "top_k.b64.of_vnni_peak": 0.5,
        "top_k.widened": 0.0,
    }
    assert figures.best_peers() == {"b1": "numpy", "b8": "usearch i8", "b64": "torch bf16"}
    assert figures.problems() == {}
    assert set(figures.targets()) == set(found) - {"top_k.widened"}


def test_a_missing_peer_is_a_problem_of_its_keys():
    figures = figures_of({}, missing=(FLAT, "usearch i8"))

    assert set(figures.problems()) == {"top_k.vs_faiss_flat", "top_k.vs_best_peer"}
    assert not any("faiss_flat" in key or "best_peer" in key for key in figures.ratios())


def test_given_vectors_have_profiles_as_queries(tmp_path):
    rows = np.random.default_rng(1).standard_normal((50, 8), np.float32)
    np.save(tmp_path / "titles.npy", rows)
    np.save(tmp_path / "halves.npy", rows.astype(np.float16))

    items, queries = given_data(tmp_path / "titles.npy", tmp_path).load()

    np.testing.assert_array_equal(items, rows)
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1, rtol=1e-6)
    with pytest.raises(ValueError, match="expected float32"):
        given_data(tmp_path / "halves.npy", tmp_path)


def test_the_plot_is_drawn(contenders, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is in rankstream[bench]")
    contenders[FP32].write_answer(K, tmp_path / "known.npz")
    figures = Figures(elements=64_000, one_bytes=64_000)
    figures.add(8, "numpy", Turn(1.0, 1.0, 1, 1.0, 8, 0))
    figures.limits.update({READ: [Reached(1e10, 1.0)], VNNI: [Reached(1e12, 1.0)]})

    found = points(figures, contenders, K, tmp_path / "known.npz")
    draw(found, figures.limits, tmp_path / "roof.png")

    assert (tmp_path / "roof.png").read_bytes().startswith(b"\x89PNG")
