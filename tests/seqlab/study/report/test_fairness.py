"""Warnings of unfair comparisons: each is given where its cause is, and only there."""

import pytest

from seqlab.study.report.fairness import cautions
from seqlab.study.report.figures import aggregate
from seqlab.study.report.reading import collect
from seqlab.study.report.runs import label_runs

from .sweep_folders import page_of

FAIR = {"trainer__max_epochs": 20}


def trained(made, best=9, epochs=20):
    made["best"]["epoch"], made["cost"]["epochs"] = best, epochs
    return made


@pytest.fixture
def found(sweep, record):
    """Return the warnings on runs: for each cell the seeds, rates and settings."""
    names = map(str, range(99))

    def find(change=lambda made: made, **cells):
        runs = [
            change(trained(record(cell, 4, seed, score, optimizer__lr=rate, **{**FAIR, **settings})))
            for cell, (seeds, rates, score, settings) in cells.items()
            for seed in range(seeds)
            for rate in rates
        ]
        labels = label_runs(collect([sweep(next(names), runs)]).runs)
        return " ".join(cautions(labels, aggregate(labels)))

    return find


TUNED = (3, (0.1, 0.01), 0.8, {})


def test_a_fair_comparison_has_no_warning(found):
    assert found(gru=TUNED, lstm=TUNED) == ""


def test_one_seed(found):
    assert "Every row has a single seed" in found(gru=(1, (0.1, 0.01), 0.8, {}), lstm=(1, (0.1, 0.01), 0.8, {}))
    assert "1 of 2 rows have a single seed" in found(gru=(1, (0.1, 0.01), 0.8, {}), lstm=TUNED)
    assert "unequal numbers of seeds, 2 to 3" in found(gru=(2, (0.1, 0.01), 0.8, {}), lstm=TUNED)


def test_learning_rates(found):
    assert "One learning rate (0.1) for each row" in found(gru=(3, (0.1,), 0.8, {}), lstm=(3, (0.1,), 0.8, {}))
    text = found(gru=TUNED, lstm=(3, (0.1,), 0.8, {}))
    assert "the number of learning rates tried differs between rows (gru 2, lstm 1)" in text
    assert "learning rate" not in found(gru=(3, (0.1,), 0.8, {}))  # nothing is compared


@pytest.mark.parametrize("key", ["max_epochs", "max_steps"])
def test_unequal_budgets(found, key):
    other = (3, (0.1, 0.01), 0.8, {f"trainer__{key}": 30})
    assert f"Unequal budgets: trainer.{key} differs between rows" in found(gru=TUNED, lstm=other)


def test_a_baseline_that_learned_nothing(found):
    text = found(gru=TUNED, lstm=(3, (0.1, 0.01), 0.1, {}))
    assert "No better than the input-independent baseline: lstm;" in text
    assert "No better" not in found(gru=(3, (0.1, 0.01), 0.1, {}), lstm=(3, (0.1, 0.01), 0.1, {}))  # the result says so


def test_few_epochs_and_a_budget_that_limits(found):
    assert "Fewer than 5 epochs of training: every row." in found(
        lambda made: trained(made, 0, 2), gru=TUNED, lstm=TUNED
    )
    text = found(lambda made: trained(made, 19, 20), gru=TUNED, lstm=TUNED)
    assert "Validation is best in the last epoch, so that the budget limits the score: every row." in text
    solved = (3, (0.1, 0.01), 1.0, {})
    assert found(lambda made: trained(made, 0, 1), gru=solved, lstm=solved) == ""  # it ended early


@pytest.mark.parametrize("value", [None, [], "x", {"epoch": "x", "epochs": None}])
def test_a_record_of_anything_has_no_such_warning(found, value):
    def damage(made):
        made["cost"] = value if isinstance(value, dict) else {}
        return made

    assert "epoch" not in found(damage, gru=TUNED, lstm=TUNED)


def test_they_stand_below_the_result(sweep, record):
    page = page_of(sweep("below", [trained(record(cell, 4, 0, 0.9)) for cell in ("gru", "rnn")]))
    assert page.index("On first,") < page.index("Every row has a single seed") < page.index("Test scores:")


def test_a_model_that_is_fitted_without_steps_has_no_learning_rate(found):
    def fitted(made):
        made["cost"]["steps"] *= made["config"]["cell"]["name"] != "lstm"
        return made

    assert found(fitted, gru=TUNED, lstm=(3, (0.1,), 0.8, {})) == ""
