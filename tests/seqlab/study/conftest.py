"""Sweep folders with records of a real run, with other settings and scores."""

import copy
import json

import pytest

import seqlab
from seqlab.sweeps import ledger

COMMON = ["task.examples=64", "task.held_out=16", "trainer.max_epochs=1", "trainer.progress=false", "trainer.threads=1"]


@pytest.fixture(scope="session")
def real(tmp_path_factory):
    """A run of a few batches on a task of a distance."""
    folder = tmp_path_factory.mktemp("real") / "run"
    words = ["task=first", "cell=gru", "cell.hidden_size=4", "task.sequence_length=4", *COMMON]
    seqlab.run(seqlab.compose(words), folder, "python -m seqlab " + " ".join(words))
    return folder


@pytest.fixture(scope="session")
def record(real):
    """Return the record of a run with other settings and scores."""
    genuine = json.loads((real / "results.json").read_text("utf-8"))

    def make(cell="gru", distance=4, seed=0, score=0.5, valid=None, model=None, **settings):
        made = copy.deepcopy(genuine)
        config = made["config"]
        config["cell"]["name"], config["seed"] = cell, seed
        if model:
            config["model"] = {"name": model}
            made["kernel"] = {}
        config["task"]["sequence_length"] = made["tables"]["bounds"][0]["sequence_length"] = distance
        for key, value in settings.items():
            group, _, name = key.partition("__")
            config[group][name] = value
        made["metrics"]["test"]["accuracy"] = score
        made["best"]["valid"] = score if valid is None else valid
        made["metrics"]["valid"]["accuracy"] = made["best"]["valid"]
        validated = made["best"]["valid"]
        made["best"]["verdict"] = "solved" if validated is not None and validated >= 0.99 else "learning"
        made["verdict"] = "solved" if score is not None and score >= 0.99 else "learning"
        made["command"] = f"python -m seqlab task=first cell={cell} seed={seed} task.sequence_length={distance}"
        return made

    return make


def lay_out(folder, records, missing=()):
    """Write a sweep folder with a finished run for each record."""
    names = [f"run_{place}" for place in range(len(records))]
    planned = {each: [f"seed={each}"] for each in [*names, *missing]}
    ledger.write_plan(folder, ["task=first", "cell=rnn,gru"], planned)
    for each, made in zip(names, records, strict=True):
        with ledger.run_status(folder / each, planned[each]) as page:
            (folder / each / "results.json").write_text(json.dumps(made), "utf-8")
            page.update(state="done")
    return folder


@pytest.fixture
def sweep(tmp_path):
    """Write sweeps by name."""
    return lambda name, records, missing=(): lay_out(tmp_path / name, records, missing)


@pytest.fixture(scope="session")
def sweeps(tmp_path_factory):
    """Write sweeps that several tests share."""
    return lambda name, records, missing=(): lay_out(tmp_path_factory.mktemp("sweeps") / name, records, missing)
