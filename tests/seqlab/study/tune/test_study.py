"""Study: trials that are stored before they start, continued, never lost or repeated; successive halving."""

import pytest

pytest.importorskip("optuna")

from seqlab import Choice, Interval, UserError
from seqlab.study.tune.space import Candidate, Space
from seqlab.study.tune.study import Study

ROLES = {"linear": ["model=bow"], "default": ["model=net", "model.size=8", "lr=0.1"]}


@pytest.fixture
def opened(tmp_path):
    """Open the study in a folder, as each call of the command does."""

    def open_study(seed=0, maximises=True):
        models = [
            Candidate("net", {"size": Choice(("8", "16", "32"))}),
            Candidate("bow", {"order": Choice(("1", "2"))}, has_optimizer=False, uses_cell=False),
        ]
        groups = {"model": models, "cell": [Candidate("gru", {})], "preprocessing": []}
        space = Space([], groups, {}, {"lr": Interval(0.01, 1.0, log=True)}, {})
        return Study(tmp_path, space, maximises=maximises, seed=seed, roles=ROLES)

    return open_study


def test_what_was_asked_is_there_after_a_crash(opened):
    """The known trials come first and once; the others are not those of the first call again."""
    first = opened()
    asked = [first.ask() for _ in range(5)]
    assert [trial.role for trial in asked] == ["linear", "default", None, None, None]
    assert [list(trial.words) for trial in asked[:2]] == list(ROLES.values())
    first.tell(0, "complete", 0.5, metrics={"accuracy": 0.5})
    second = opened()
    assert [trial.number for trial in second.unfinished()] == [1, 2, 3, 4]
    assert [trial.words for trial in second.unfinished()] == [trial.words for trial in asked[1:]]
    further = [second.ask() for _ in range(3)]
    assert [trial.number for trial in further] == [5, 6, 7]
    rates = [
        {word for trial in part for word in trial.words if word.startswith("lr=")} for part in (asked[2:], further)
    ]
    assert rates[1]
    assert rates[0].isdisjoint(rates[1])
    assert [trial.state for trial in second.trials] == ["complete", *["running"] * 7]
    assert second.trials[0].metrics == {"accuracy": 0.5}


def test_a_known_trial_has_the_parameters_of_its_run(tmp_path):
    """The linear baseline names few options; the sampler must see the defaults that the others have."""
    orders = {"order": Choice(("1", "2", "3"))}
    models = [Candidate("net", {}), Candidate("bow", orders, has_optimizer=False, uses_cell=False)]
    groups = {"model": models, "cell": [Candidate("gru", {})], "preprocessing": []}
    balance = {"task.balance": Choice(("weights", "none"))}
    defaults = {"task.balance": "none", "model=bow.order": "3"}
    for seed in range(4):
        space = Space([], groups, balance, {}, defaults)
        study = Study(tmp_path / str(seed), space, maximises=True, seed=seed, roles={"linear": ["model=bow"]})
        assert study.ask().params == {"model": "bow", "model=bow.order": "3", "task.balance": "none"}


def test_other_values_than_before_are_refused_in_one_line(tmp_path):
    """A cell of another distribution was installed between two calls."""
    models = [Candidate("net", {})]
    for cells in (["gru", "lstm"], ["gru", "lstm", "mine"]):
        groups = {"model": models, "cell": [Candidate(name, {}) for name in cells], "preprocessing": []}
        study = Study(tmp_path, Space([], groups, {}, {}, {}), maximises=True, seed=0, roles={})
        if len(cells) == 2:
            study.ask()
    with pytest.raises(UserError, match="changed; start another search"):
        study.ask()


def test_the_worst_are_stopped_and_the_default_is_not(opened):
    """At a rung a trial goes on if it is in the best third of those that came there."""
    study = opened()
    kept = [study.ask() for _ in range(2)][1]
    trials = [study.ask() for _ in range(7)]
    assert not study.report(trials[0].number, 20, 0.9)
    values = (0.1, 0.2, 0.95, 0.3, 0.4, 0.5)
    stopped = [study.report(trial.number, 20, value) for trial, value in zip(trials[1:], values, strict=True)]
    assert stopped == [True, True, False, True, True, True]
    assert not study.report(kept.number, 20, 0.0)
    assert not study.report(trials[1].number, 10, 0.1), "before the first rung"


def test_a_repeated_epoch_changes_nothing(opened):
    study = opened()
    study.ask()
    study.report(0, 20, 0.5)
    study.report(0, 20, 0.9)
    assert study.trials[0].value == 0.5


@pytest.mark.parametrize(("maximises", "expected"), [(True, 2), (False, 1)])
def test_the_best_is_complete_and_the_first_of_equal_ones(opened, maximises, expected):
    study = opened(maximises=maximises)
    for number, (state, value) in enumerate(
        [("failed", None), ("complete", 0.1), ("complete", 0.7), ("complete", 0.7), ("complete", 0.1)]
    ):
        study.ask()
        study.tell(number, state, value)
    study.ask()
    study.report(5, 99, 0.99 if maximises else 0.0)
    study.tell(5, "pruned")
    assert study.best(study.trials).number == expected


def test_importance_finds_the_setting_that_decides(opened):
    study = opened()
    for number in range(16):
        trial = study.ask()
        value = 1.0 if "model=bow" in trial.words else 0.1 + 0.01 * (number % 3)
        study.tell(number, "complete", value)
    assert next(iter(study.importances())) == "model"
    assert sum(study.importances().values()) == pytest.approx(1)
    assert study.importances("bow") == {}, "all values are equal"
