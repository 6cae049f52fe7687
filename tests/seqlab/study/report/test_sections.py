"""Sections of classes, scores by setting, and gradient flow."""

import pytest

from seqlab.study.report.figures import scores_by_setting
from seqlab.study.report.sections import class_section

from .sweep_folders import flow_of, page_of, points_of


def rows_of(count, support):
    """Return classes whose recall and F1 rise with their number."""
    return [
        {"language": f"<L{at}>", "examples": support, "precision": None if at == 0 else 1.0, "recall": at / support,
         "f1": 2 * at / (support + at)}
        for at in range(count)
    ]  # fmt: skip


@pytest.fixture
def made(sweep, record):
    def make(*runs):
        records = []
        for seed, (score, valid, rows) in enumerate(runs):
            records.append(record(seed=seed, score=score, valid=valid))
            records[-1]["tables"]["by_language"] = rows
        return sweep("classes", records)

    return make


def test_classes_are_those_of_the_run_that_validates_best(made):
    folder = made((0.9, 0.5, rows_of(3, 10)), (0.2, 0.7, rows_of(4, 20)), (0.8, 0.6, rows_of(5, 30)))
    section = class_section(points_of(folder), "accuracy")
    text, table = section.blocks
    assert "best validation accuracy: gru at distance 4, run_1." in text.text
    assert table.head == ("language", "precision", "recall", "F1", "support")
    assert table.rows == (
        ("<L0>", "-", "0.000", "0.000", "20"),
        ("<L1>", "1.000", "0.050", "0.095", "20"),
        ("<L2>", "1.000", "0.100", "0.182", "20"),
        ("<L3>", "1.000", "0.150", "0.261", "20"),
    )
    assert "<L3>" in page_of(folder)


def test_of_many_classes_the_worst_are_shown(made):
    rows = rows_of(31, 40)[::-1]
    text, table = class_section(points_of(made((0.9, 0.5, rows))), "accuracy").blocks
    assert [row[0] for row in table.rows] == [f"<L{at}>" for at in range(30)]
    assert text.text.startswith("Test split. 30 of 31 classes, those with the lowest F1;")


@pytest.mark.parametrize("rows", [None, [], "x", [1], [{"f1": 1}], [{**rows_of(1, 4)[0], "f1": "x"}]])
def test_a_record_without_classes_has_no_section(made, rows):
    assert class_section(points_of(made((0.9, 0.5, rows))), "accuracy") is None


def test_settings_of_one_distance_are_drawn_apart(sweep, record):
    """Against distance, marks of equal scores would overlap."""
    folder = sweep("one", [record(cell, 4, seed, 0.5) for cell in ("rnn", "gru", "lstm") for seed in (0, 1)])
    (axes,) = scores_by_setting("x", points_of(folder), "accuracy").figure.axes
    marks = [line for line in axes.lines if line.get_linestyle() == "None"]
    assert sorted(line.get_ydata()[0] for line in marks) == [0, 1, 2]
    assert {line.get_label() for line in axes.lines} >= {"baseline", "best possible", "solved"}
    assert "a mark per seed" in page_of(folder)


def test_a_cell_without_gates_is_no_damage(sweep, record):
    """Its file of gates is a header alone; a file without the columns is damaged."""
    folder = sweep("gateless", [record("gru"), record("rnn", 4), record("lstm", 4)])
    for name in ("run_0", "run_1", "run_2"):
        flow_of(folder / name)
    (folder / "run_1" / "curves" / "saturation.csv").write_text("step,layer,direction,gate,low,high\n")
    (folder / "run_2" / "curves" / "saturation.csv").write_text("step,layer\n")
    page = page_of(folder)
    assert "1 damaged" in page
    assert "run_2/curves/saturation.csv" in page
    assert "run_1/curves" not in page
    assert "No gate activations (the cell names no gates): rnn, lstm." in page
