"""Bold in tables of scores: the best of several rows, whose interval lies beyond that of every other."""

import pytest

from seqlab.study.intervals import student_interval
from seqlab.study.report.document import Document, Section, html, markdown
from seqlab.study.report.scores import clearly_best, score_table

from .sweep_folders import points_of


@pytest.fixture
def bold(sweep, record):
    """Return the rows in bold, by label, of runs with these scores (one a seed)."""

    def find(metric="accuracy", **cells):
        made = [record(cell, 4, seed, score) for cell, scores in cells.items() for seed, score in enumerate(scores)]
        points = points_of(sweep(f"bold{len(cells)}{hash(str(cells))}", made))
        return [point.label for point in clearly_best(points)]

    return find


def test_only_a_row_whose_interval_lies_beyond_the_others_is_bold(bold):
    near, far = [0.60, 0.62, 0.64], [0.70, 0.72, 0.74]
    apart = student_interval(near).high < student_interval(far).low
    assert apart
    assert bold(rnn=near, gru=far) == ["gru"]
    assert bold(rnn=near, gru=far, lstm=[0.69, 0.73, 0.71]) == []  # two that overlap
    assert bold(rnn=near, gru=[0.60, 0.72, 0.84]) == []  # a wide one
    assert bold(rnn=[1.0, 1.0], gru=[1.0, 1.0]) == []  # a tie


def test_one_row_or_one_seed_has_no_best(bold):
    assert bold(gru=[0.7, 0.71, 0.72]) == []
    assert bold(gru=[0.9], rnn=[0.1]) == []
    assert bold(gru=[0.9, 0.91], rnn=[0.1]) == []


def test_a_row_that_learned_nothing_is_not_best(bold):
    assert bold(gru=[0.20, 0.20, 0.20], rnn=[0.10, 0.10, 0.10]) == []  # the baseline is 1/8, its noise 0.37


def test_each_distance_has_its_own_best(sweep, record):
    scores = {("gru", 4): 0.9, ("rnn", 4): 0.6, ("gru", 8): 0.6, ("rnn", 8): 0.9}
    made = [record(*key, seed, score + seed / 1000) for key, score in scores.items() for seed in range(3)]
    points = points_of(sweep("two", made))
    table = score_table(points)
    assert [(points[at].label, points[at].distance) for at in sorted(table.bold)] == [("gru", 4), ("rnn", 8)]
    assert table.in_print == ("", "distance", "test accuracy", "95 % interval", "seeds")
    document = Document("x", [Section("y", blocks=[table])])
    assert html(document, {}).count('class="best"') == 2
    assert markdown(document).count("**gru**") == 1
