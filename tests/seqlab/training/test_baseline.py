"""The linear baseline against scikit-learn's, and where it stands in a record."""

import json

import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import seqlab
from seqlab.runs.run_folder import PREDICTIONS, read_weights
from seqlab.training.baseline import fit_baseline
from seqlab.training.session import prepare_data
from tests.tickets import write_tickets

FAST = ["cell.hidden_size=4", "model.embedding_size=4", "trainer.max_epochs=1", "trainer.progress=false", "logger=none"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path / "cache"))


def prepared(*overrides):
    config = seqlab.compose([*FAST, *overrides])
    plain = seqlab.config.schema.plain_config(config)
    return plain, *prepare_data(plain)


def accuracy_of_scikit_learn(data):
    """Words and pairs of words with TF-IDF, and logistic regression, at the defaults of scikit-learn."""
    pipeline = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression())
    pipeline.fit(data.texts["train"], data.encoded["train"][1].numpy())
    return pipeline.score(data.texts["test"], data.encoded["test"][1].numpy())


def task_of(source, tmp_path):
    if source == "reviews":
        return ["task=textclf"]
    return ["task=textclf", f"task.data={write_tickets(tmp_path / 'tickets.csv')}", "task.quoting=standard"]


@pytest.mark.parametrize("source", ["reviews", "tickets"])
def test_it_is_at_most_half_a_point_below_scikit_learn(source, tmp_path):
    """In the mean of three splits; the rarest of the tickets' classes has 4 % of them."""
    gains = []
    for seed in range(3):
        config, task, data = prepared(*task_of(source, tmp_path), f"task.split_seed={seed}")
        found = fit_baseline(config, task, data)
        gains.append(found.metrics["test"]["accuracy"] - accuracy_of_scikit_learn(data))
    assert sum(gains) / 3 > -0.005


def test_a_record_has_its_scores_and_those_of_single_examples(names_folder, tmp_path):
    config = seqlab.compose([*FAST, "task=names", f"task.data_dir={names_folder}"])
    record = json.loads(json.dumps(seqlab.run(config, tmp_path / "run").record))
    assert record["linear"]["model"]["name"] == "bow"
    assert record["linear"]["test"].keys() == record["metrics"]["test"].keys()
    assert record["linear"]["test"]["accuracy"] > record["metrics"]["test"]["accuracy"]
    kept = read_weights(tmp_path / "run" / PREDICTIONS)
    for split in ("valid", "test"):
        hits = (kept[f"{split}.predicted"] == kept[f"{split}.target"]).double().mean()
        assert float(hits) == pytest.approx(record["metrics"][split]["accuracy"])
        assert float(kept[f"{split}.loss"].mean()) == pytest.approx(record["metrics"][split]["loss"], rel=1e-4)
    intervals, ranges = record["intervals"]["test"], record["ranges"]
    for name, value in record["metrics"]["test"].items():
        (low, high), (least, most) = intervals[name], ranges[name]
        assert low <= value <= high
        assert least is None or low >= least
        assert most is None or high <= most


def test_examples_are_in_the_order_of_the_split(names_folder, tmp_path):
    """Batches are sorted by length; the predictions are those of the texts one by one."""
    config = seqlab.compose([*FAST, "task=names", f"task.data_dir={names_folder}", "data.eval_batch_size=7"])
    record = seqlab.run(config, tmp_path / "run").record
    _, _, data = prepared("task=names", f"task.data_dir={names_folder}")
    trained, kept = seqlab.load(tmp_path / "run"), read_weights(tmp_path / "run" / PREDICTIONS)
    labels = trained.task.label_names()
    answers = [best["label"] for best, *_ in trained.predict(data.texts["test"])]
    assert answers == [labels[index] for index in kept["test.predicted"].tolist()]
    assert kept["test.target"].equal(data.encoded["test"][1])
    wrong = {text for text, label, target in zip(data.texts["test"], answers, kept["test.target"].tolist(), strict=True)
             if label != labels[target]}  # fmt: skip
    errors = record["tables"].get("confident_errors", [])
    assert {row["text"] for row in errors} <= wrong
    assert [row["confidence"] for row in errors] == sorted((row["confidence"] for row in errors), reverse=True)


def test_a_second_run_on_the_data_reads_the_outputs(names_folder, tmp_path, monkeypatch):
    config, task, data = prepared("task=names", f"task.data_dir={names_folder}")
    first = fit_baseline(config, task, data)
    monkeypatch.setattr("seqlab.training.baseline.build_model", None)
    second = fit_baseline(config, task, data)
    assert first.metrics == second.metrics
    assert torch.equal(first.outputs["test"], second.outputs["test"])


def test_the_cache_knows_the_options_that_a_task_leaves_to_the_model(names_folder, monkeypatch):
    """A release with another default of one fits again."""
    found = []
    monkeypatch.setattr("seqlab.training.baseline.cached_arrays", lambda folder, key, make: found.append(key) or make())
    fit_baseline(*prepared("task=names", f"task.data_dir={names_folder}"))
    (key,) = found
    assert {"max_order", "markers", "sublinear", "solver"} <= key[1]["model"].keys()
    assert {"steps", "min_count"} <= key[1]["preprocessing"].keys()


@pytest.mark.parametrize(
    "override", ["task.baseline=none", "model=bow", "trainer.limit_train_batches=1", "trainer.overfit_batches=1"]
)
def test_there_is_none(names_folder, override):
    small = [] if override == "model=bow" else FAST
    config = seqlab.compose([*small, "task=names", f"task.data_dir={names_folder}", override])
    plain = seqlab.config.schema.plain_config(config)
    assert fit_baseline(plain, *prepare_data(plain)) is None


def test_class_weights_reach_the_baseline(tmp_path):
    """The rarest class has a higher probability on its own examples with task.balance=weights."""
    found = []
    for balance in ("none", "weights"):
        config, task, data = prepared(*task_of("tickets", tmp_path), f"task.balance={balance}")
        outputs, targets = fit_baseline(config, task, data).outputs["test"], data.encoded["test"][1]
        rarest = torch.bincount(targets).argmin()
        found.append(float(outputs.softmax(1)[targets == rarest][:, rarest].mean()))
    assert found[1] > found[0] + 0.1
