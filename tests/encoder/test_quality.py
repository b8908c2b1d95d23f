import numpy as np
import pytest

from rankstream.server.encoder.quality import GATES, Gate, Quality, compare


def random_units(rows, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(rows, 24)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def overlap_by_hand(a, b):
    def nearest(vectors, row):
        scores = {i: float(vectors[row] @ vectors[i]) for i in range(len(vectors)) if i != row}
        return set(sorted(scores, key=lambda i: -scores[i])[:10])

    return np.mean([len(nearest(a, row) & nearest(b, row)) / 10 for row in range(len(a))])


def test_vectors_equal_themselves_whatever_their_length():
    vectors = random_units(200)

    found = compare(vectors, 3 * vectors)

    assert found.min_cosine == pytest.approx(1)
    assert found.max_difference < 1e-6
    assert found.top_10_overlap == 1
    assert all(not gate.problem(found) for gate in GATES.values())


def test_the_figures_are_those_of_their_definitions():
    a = random_units(150)
    b = a + 0.05 * random_units(150, seed=1)
    unit = b / np.linalg.norm(b, axis=1, keepdims=True)

    found = compare(a, b)

    cosines = (a * unit).sum(axis=1)
    assert found.min_cosine == pytest.approx(cosines.min(), abs=1e-6)
    assert found.mean_cosine == pytest.approx(cosines.mean(), abs=1e-6)
    assert found.max_difference == pytest.approx(np.abs(a - unit).max(), abs=1e-6)
    assert found.top_10_overlap == pytest.approx(overlap_by_hand(a, unit))
    assert found.texts == 150


def test_few_texts_have_no_neighbours_to_speak_of():
    vectors = random_units(20)

    assert compare(vectors, vectors).top_10_overlap is None


def test_a_gate_names_all_that_is_below_it():
    found = Quality(500, 0.9, 0.99, 0.1, 0.8)

    problem = Gate(0.95, 0.98, 0.9).problem(found)

    assert "minimum cosine 0.90000 < 0.95" in problem
    assert "top-10 overlap 0.80000 < 0.9" in problem
    assert "mean" not in problem


def test_nothing_that_is_not_a_number_passes_a_gate():
    vectors = random_units(12)
    broken = vectors.copy()
    broken[3] = np.nan

    assert GATES["int8"].problem(compare(vectors, broken))
