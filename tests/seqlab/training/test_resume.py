"""Resuming a run: keys that may change, keys that are refused, and the record of it."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import seqlab
from seqlab import UserError
from seqlab.cli.commands.verification import rerun
from seqlab.data.fingerprint import differences
from seqlab.runs.run_folder import BEST, RESULTS, RESUME
from seqlab.training import resume
from seqlab.training.checkpoint import StepReachedError
from seqlab.training.run import plain_config
from seqlab.training.verification import verify_run

from ..resumable import checkpoint_of, contents, last, record_of, same, weights_of


def test_a_record_of_an_older_release_is_trained_as_it_was():
    """It lacks options that were added since, whose defaults may be others."""
    config = plain_config(seqlab.compose(["task=textclf", "model=bow"]))
    for name in ("markers", "sublinear", "solver"):
        del config["model"][name]
    ((found, _),) = resume.config_history({"config": config})
    assert {"markers": True, "sublinear": False, "solver": "optimizer"}.items() <= found["model"].items()


def leaves(node, prefix=""):
    for name, value in node.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def other(key, value):
    """Another value of the same kind; of a run's length a larger one."""
    if key.startswith("trainer.max_"):
        return 7
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int | float) else "another"


def in_docs(key):
    """Return the documented meaning of a key: the row with the longest prefix of it."""
    page = Path(__file__).parents[3] / "docs" / "do" / "resume.md"
    rows = [line.split("|")[1:3] for line in page.read_text("utf-8").splitlines() if line.startswith("| `")]
    meanings = {name.strip("` "): meaning.strip() for names, meaning in rows for name in names.split(",")}
    fitting = [name for name in meanings if key == name or key.startswith(f"{name}.")]
    return meanings[max(fitting, key=len)]


def test_every_key_takes_effect_or_is_refused_as_documented(two_epochs, resume_config):
    """A key is refused, recorded as changed, or changes no result."""
    plain = plain_config(resume_config("optimizer=sgd", "trainer.max_epochs=2"))
    plain["optimizer"] |= plain_config(resume_config())["optimizer"]
    keys = [key for key, _ in leaves(plain) if key != "ckpt_path"]
    assert len(keys) > 60
    found, earlier = {}, resume.ResumePoint("last", two_epochs / "run" / RESUME)
    earlier._record["config"] = json.loads(json.dumps(plain))
    for key in keys:
        node = json.loads(json.dumps(plain))
        where = node
        for name in key.split(".")[:-1]:
            where = where[name]
        leaf = key.split(".")[-1]
        where[leaf] = other(key, where[leaf])
        try:
            record = earlier.start_segment(node, two_epochs / "elsewhere")
        except UserError as error:
            found[key] = "kept" if f"{key} was" in str(error) else str(error)
        else:
            changed = record.history(3, 9)[-1]["changed"]
            found[key] = "takes effect" if changed else "changes no result"
            assert not changed or set(changed) == {key}
    assert found == {key: in_docs(key) for key in found}
    assert found["seed"] == found["model.depth"] == found["optimizer.name"] == "kept"
    assert found["optimizer.lr"] == found["trainer.gradient_clip_val"] == "takes effect"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seed=1"], "seed was 0, is 1"),
        (["optimizer=sgd"], "optimizer.name was adamw, is sgd; set"),
        (["cell=lstm", "data.batch_size=8"], "cell.name was gru, is lstm; data.batch_size was 64, is 8"),
        (["task.split_seed=3"], "task.split_seed was 0, is 3; .*data.allow_change=true"),
        (["ckpt_path=."], r"ckpt_path=\.: \. is a folder; name a file, such as resume.ckpt"),
        (["trainer.max_epochs=1"], r"trainer.max_epochs must be >= 2, got 1: 2 epochs are done"),
        (["trainer.max_steps=2"], r"trainer.max_steps must be >= \d+, got 2"),
    ],
)
def test_a_refused_run_names_the_key_and_changes_no_file(base, resume_config, words, message):
    before = contents(base)
    with pytest.raises(UserError, match=message):
        seqlab.run(resume_config(*words), base)
    assert contents(base) == before


def test_options_of_the_optimiser_take_effect_and_are_recorded(base, resume_config):
    """With a learning rate of zero no weight moves, whatever the checkpoint's was."""
    before, weights = checkpoint_of(base), weights_of(base)
    words = ["optimizer.lr=0", "optimizer.weight_decay=0.3", "optimizer.betas=[0.5,0.6]"]
    result = seqlab.run(resume_config(*words), base)
    after = checkpoint_of(base)
    assert after["global_step"] > before["global_step"]
    assert same(after["state_dict"], before["state_dict"])
    assert same(weights_of(base), weights)
    decays = [
        (group["lr"], group["weight_decay"], group["betas"]) for group in after["optimizer_states"][0]["param_groups"]
    ]
    assert decays == [(0, 0.3, (0.5, 0.6)), (0, 0.0, (0.5, 0.6))]
    first, second = result.record["history"]
    assert first == {"from": {"epoch": 0, "step": 0}, "to": {"epoch": 2, "step": before["global_step"]}, "changed": {}}
    assert second["from"] == first["to"]
    assert second["to"] == {"epoch": 3, "step": after["global_step"]}
    assert second["changed"] == {
        "optimizer.lr": [0.005, 0],
        "optimizer.weight_decay": [0.05, 0.3],
        "optimizer.betas": [[0.9, 0.999], [0.5, 0.6]],
        "trainer.max_epochs": [2, 3],
    }


@pytest.mark.slow
def test_a_run_resumed_with_another_config_is_reproduced_in_segments(two_epochs, resume_config, tmp_path):
    """Stopped within an epoch, resumed with another rate, then longer with a third: reproduced bit by bit."""
    step = 4
    with pytest.raises(StepReachedError):
        seqlab.run(resume_config("ckpt_path=null", "trainer.max_epochs=2"), tmp_path / "run", until=step)
    seqlab.run(resume_config("trainer.max_epochs=2", "optimizer.lr=0.05"), tmp_path / "run")
    result = seqlab.run(resume_config("optimizer.lr=0.001"), tmp_path / "run")
    assert [part["from"]["step"] for part in result.record["history"]][:2] == [0, step]
    assert rerun([str(tmp_path / "run"), "--out", str(tmp_path / "again")]) == 0
    assert same(weights_of(tmp_path / "run"), weights_of(tmp_path / "again"))
    assert same(last(tmp_path / "run"), last(tmp_path / "again"))
    assert record_of(tmp_path / "again")["history"] == result.record["history"]


@pytest.mark.slow
def test_other_data_are_refused_and_named(two_epochs, base, resume_config, tmp_path, caplog):
    data = tmp_path / "names"
    shutil.copytree(two_epochs / "names", data)
    seqlab.run(resume_config(data=data), base)  # the same data in another place are the same
    before = contents(base)
    (data / "Aaish.txt").write_text((data / "Aaish.txt").read_text("utf-8") + "Bananala\n", "utf-8")
    caplog.clear()
    refused = pytest.raises(UserError, match=r"the data are not those .*rows.*data.allow_change=true")
    with caplog.at_level("INFO", "seqlab"), refused:
        seqlab.run(resume_config("trainer.max_epochs=4", data=data), base)
    assert not caplog.records  # the log of the run does not say that it went on
    assert contents(base) == before
    result = seqlab.run(resume_config("trainer.max_epochs=4", "data.allow_change=true", data=data), base)
    assert "rows" in result.record["history"][-1]["data"][0]
    assert result.record["config"]["data"]["allow_change"] is True
    with pytest.raises(UserError, match="resumed with other data"):
        resume.config_history(result.record)
    (data / "Aaish.txt").rename(data / "Uuish.txt")
    with pytest.raises(UserError, match="labels are others: new Uuish, missing Aaish"):
        seqlab.run(resume_config("trainer.max_epochs=5", data=data), base)
    (data / "Xxish.txt").write_text("Xyz\nZyx\nYxx\nYyy\nXyy\nZzz\n", "utf-8")
    with pytest.raises(UserError, match="the model cannot read them"):
        seqlab.run(resume_config("trainer.max_epochs=5", "data.allow_change=true", data=data), base)


def test_differences_of_two_fingerprints():
    split = {"rows": 3, "hash": "a"}
    one = {"splits": {"train": split}, "labels": ["b", "a"], "vocabulary": {"size": 5, "hash": "v"}, "drawn": None}
    assert differences(one, one) == []
    sorted_labels = {**one, "labels": ["a", "b"], "splits": {"train": {"rows": 3, "hash": "c"}}}
    assert differences(one, sorted_labels) == ["the labels are in another order: a, b, were b, a"]
    assert differences(one, {**one, "splits": {"train": {"rows": 3, "hash": "c"}}}) == [
        "train has other rows (3, as before)"
    ]
    assert differences(one, {**one, "splits": {"train": {"rows": 4, "hash": "c"}}}) == ["train has 4 rows, had 3"]
    assert differences(one, {**one, "vocabulary": {"size": 6, "hash": "w"}}) == ["the vocabulary has 6 entries, had 5"]
    assert differences(one, {**one, "drawn": "x"}) == ["the task draws other training examples"]
    assert differences(one, {**one, "splits": {**one["splits"], "far": split}}) == ["far is new"]


@pytest.mark.slow
def test_a_changed_generator_is_other_data(tmp_path, monkeypatch):
    from seqlab_tasks.synthetic import First

    small = ["task=first", "task.sequence_length=4", "task.examples=128", "task.held_out=32", "cell=rnn", "logger=none"]
    small += ["cell.hidden_size=3", "trainer.progress=false", "trainer.max_epochs=1"]
    seqlab.run(seqlab.compose(small), tmp_path / "run")
    draw = First.draw
    monkeypatch.setattr(First, "draw", lambda self, count, seed: draw(self, count, seed + 1))
    with pytest.raises(UserError, match="draws other training examples"):
        seqlab.run(seqlab.compose([*small, "trainer.max_epochs=2", "ckpt_path=last"]), tmp_path / "run")


@pytest.mark.slow
def test_a_checkpoint_without_a_record_resumes_with_a_warning(base, resume_config, caplog):
    saved = checkpoint_of(base)
    del saved[resume.RECORD]
    torch.save(saved, base / RESUME)
    with caplog.at_level("WARNING", "seqlab"):
        result = seqlab.run(resume_config(), base)
    assert "recorded neither config nor data" in caplog.text
    assert result.record["history"][0]["unrecorded"] is True
    with pytest.raises(UserError, match="cannot be reproduced"):
        resume.config_history(result.record)


@pytest.mark.slow
def test_a_checkpoint_of_another_folder_brings_its_best_weights(base, resume_config, tmp_path):
    """No later epoch is better, as no weight moves: the run ends with the best weights of the other one."""
    words = ["optimizer.lr=0", f"ckpt_path={base / RESUME}"]
    result = seqlab.run(resume_config(*words), tmp_path / "new")
    assert same(weights_of(tmp_path / "new"), weights_of(base))
    assert result.record["best"] == record_of(base)["best"]
    shutil.copy(base / RESUME, tmp_path / "alone.ckpt")
    (tmp_path / "alone").mkdir()
    shutil.copy(base / BEST, tmp_path / "alone" / "some.ckpt")
    result = seqlab.run(
        resume_config("optimizer.lr=0", f"ckpt_path={tmp_path / 'alone' / 'some.ckpt'}"), tmp_path / "third"
    )
    assert same(weights_of(tmp_path / "third"), weights_of(base))
    with pytest.raises(UserError, match="holds a finished run"):
        seqlab.run(resume_config(f"ckpt_path={tmp_path / 'alone.ckpt'}"), base)


@pytest.mark.slow
def test_patience_takes_effect(base, resume_config):
    """With a rate of zero no epoch is better than the last: the patience says how many there are."""
    before = checkpoint_of(base)["epoch"]
    words = ["optimizer.lr=0", "trainer.max_epochs=20"]
    seqlab.run(resume_config(*words, "trainer.early_stopping=2"), base)
    assert 2 <= checkpoint_of(base)["epoch"] - before <= 3


@pytest.mark.slow
def test_changed_labels_are_not_scored(two_epochs, base, tmp_path):
    data = tmp_path / "names"
    shutil.copytree(two_epochs / "names", data)
    record = record_of(base)
    record["config"]["task"]["data_dir"] = str(data)
    card = json.loads((base / "model.json").read_text("utf-8"))
    card["task"]["parameters"]["data_dir"] = str(data)
    (base / RESULTS).write_text(json.dumps(record))
    (base / "model.json").write_text(json.dumps(card))
    findings = {finding.what: finding for finding in verify_run(base)}
    assert findings["data"].state == findings["test metrics"].state == "ok"
    (data / "Aaish.txt").rename(data / "Zzish.txt")
    findings = {finding.what: finding for finding in verify_run(base)}
    assert findings["data"].state == "differs"
    assert "new Zzish, missing Aaish" in findings["data"].message
    assert findings["test metrics"].state == "wrong"
    assert "not computed" in findings["test metrics"].message
