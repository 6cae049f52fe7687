"""No choice depends on the test split: random test labels change no choice."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import seqlab
from seqlab.distributed.signals import StopRequest
from seqlab.training.checkpoint import RunCheckpoint
from seqlab.training.session import prepare_data
from seqlab_tasks.synthetic import First

WINDOW = [
    "model=window", "model.embedding_size=4", "model.hidden_size=16", "model.context=3", "task=first", "task.choices=3",
    "task.examples=512", "task.held_out=100", "trainer.max_epochs=8", "trainer.threads=1", "trainer.progress=false",
    "optimizer.schedule=constant", "trainer.stop_when_solved=1", "logger=csv",
]  # fmt: skip
SEARCH = [word for word in WINDOW if not word.startswith(("trainer.stop", "logger"))] + [
    "hydra/sweeper=horizon", "hydra.sweeper.start=2", "hydra.sweeper.learning_rates=[0.02,0.005]",
    "hydra.sweeper.seeds=1", "hydra.sweeper.confirm_seeds=1", "trainer.max_epochs=6", "logger=none",
]  # fmt: skip


@pytest.fixture
def noise(monkeypatch):
    """Replace the labels of the test split by random ones, from now on."""
    genuine = First.splits

    def splits(self):
        made = dict(genuine(self))
        draw = torch.Generator().manual_seed(7)
        random = torch.randint(0, self.choices, made["test"].targets.shape, generator=draw)
        return made | {"test": replace(made["test"], targets=random)}

    return lambda: monkeypatch.setattr(First, "splits", splits)


def records(folder):
    found = {path.parent.name: json.loads(path.read_text()) for path in sorted(Path(folder).glob("*/results.json"))}
    return found, {name: record["metrics"]["test"]["accuracy"] for name, record in found.items()}


def test_a_run_does_not_depend_on_test_labels(tmp_path, noise):
    """Checkpoint, end of training, deciding verdict and objective are the same; the test score differs."""
    words = [*WINDOW, "task.sequence_length=3", "optimizer.lr=0.02", "trainer.early_stopping=5"]
    first = seqlab.run(seqlab.compose(words), tmp_path / "a")
    noise()
    second = seqlab.run(seqlab.compose(words), tmp_path / "b")
    assert first.metrics["accuracy"] == 1.0
    assert second.metrics["accuracy"] < 0.6
    assert first.verdict == "solved" != second.verdict
    assert first.record["best"] == second.record["best"]
    assert first.record["best"]["verdict"] == "solved"
    assert first.objective == second.objective == first.record["metrics"]["valid"]["accuracy"]
    assert first.record["chance"]["valid"] == second.record["chance"]["valid"]
    assert first.cost["epochs"] == second.cost["epochs"]


def test_the_baseline_of_the_validation_split_is_its_largest_class(tmp_path, names_folder):
    """The share of the majority class of training, counted from the encoded split."""
    words = ["task=names", f"task.data_dir={names_folder}", "trainer.max_epochs=1", "trainer.progress=false"]
    result = seqlab.run(seqlab.compose([*words, "cell.hidden_size=4", "logger=none"]), tmp_path / "run")
    _, data = prepare_data(result.record["config"])
    counts = {name: data.encoded[name][1] for name in ("train", "valid")}
    share = (counts["valid"] == counts["train"].mode().values).double().mean()
    assert result.record["chance"]["valid"]["accuracy"] == pytest.approx(float(share))


@pytest.mark.slow
def test_a_search_does_not_depend_on_test_labels(cli, noise):
    assert cli("-m", *SEARCH, "hydra.sweep.dir=a").code == 0
    noise()
    assert cli("-m", *SEARCH, "hydra.sweep.dir=b").code == 0
    (first, tested), (second, noisy) = records("a"), records("b")
    assert first.keys() == second.keys()
    assert max(tested.values()) == 1.0
    assert max(noisy.values()) < 0.7
    kept = ("label", "horizon", "lower", "upper", "budget_limited", "learning_rate", "cause", "because", "intervention")
    one, other = (json.loads(Path(folder, "horizon.json").read_text())["rows"][0] for folder in "ab")
    assert {key: one[key] for key in kept} == {key: other[key] for key in kept}
    assert one["horizon"] == 3
    assert [trial["solved"] for trial in one["trials"]] == [trial["solved"] for trial in other["trials"]]
    objectives = [[run["objective"] for run in json.loads(cli("status", each, "--json").out)] for each in "ab"]
    assert objectives[0] == objectives[1]
    for path in Path("a").glob("*/r*.json"):  # as an older version left them
        old = json.loads(path.read_text())
        del old["ranges" if path.name == "results.json" else "objective_split"]
        if path.name == "results.json":
            del old["best"]["verdict"], old["chance"]["valid"]
        path.write_text(json.dumps(old))
    assert "was done before" not in cli("-m", *SEARCH, "hydra.sweep.dir=a").out  # nothing was launched
    assert json.loads(Path("a", "horizon.json").read_text())["rows"][0] == one
    pages = [Path(each, "report", "report.md").read_text("utf-8") for each in "ab"]
    answers = [page.partition("**On ")[2].partition("**")[0] for page in pages]
    assert answers[0] == answers[1] != ""


def test_nan_does_not_stay_the_best_score(tmp_path):
    for mode in ("min", "max"):
        checkpoints = RunCheckpoint(tmp_path, "valid/loss", mode, StopRequest())
        assert checkpoints._is_better(math.nan)
        checkpoints.best = math.nan
        assert checkpoints._is_better(0.5)
        assert not checkpoints._is_better(math.nan)
        checkpoints.best = 0.5
        assert not checkpoints._is_better(math.nan)
