"""Ledger: states of runs, read from their folders."""

import json
import multiprocessing

import pytest

from seqlab import UserError
from seqlab.runs import run_folder
from seqlab.runs.ownership import OwnedError, owned_folder
from seqlab.sweeps import ledger


def done(folder, objective=0.5):
    with ledger.run_status(folder, ["seed=1"]) as record:
        (folder / run_folder.RESULTS).write_text("{}")
        record.update(state="done", objective=objective)


def hold(folder, began, end):
    with owned_folder(folder), ledger.run_status(folder, ["seed=2"]):
        began.set()
        end.wait(60)


@pytest.fixture
def sweep(tmp_path):
    ledger.write_plan(tmp_path, ["seed=1,2,3"], {name: [f"seed={name}"] for name in "abcdef"})
    return tmp_path


def test_each_state(sweep):
    done(sweep / "a")
    with ledger.run_status(sweep / "b", []) as record:
        record.update(state="failed", cause="no such file")
    with pytest.raises(KeyboardInterrupt), ledger.run_status(sweep / "c", []):
        raise KeyboardInterrupt
    began, end = multiprocessing.Event(), multiprocessing.Event()
    process = multiprocessing.get_context("fork").Process(target=hold, args=(sweep / "d", began, end))
    process.start()
    began.wait(60)
    (sweep / "e").mkdir()
    (sweep / "e" / ledger.RUN).write_text('{"state": "ru')
    states = {entry.name: entry.state for entry in ledger.read_entries(sweep)}
    assert states == {"a": "done", "b": "failed", "c": "stopped", "d": "running", "e": "failed", "f": "missing"}
    assert ledger.read_entries(sweep)[0].objective == 0.5
    assert ledger.read_entries(sweep)[1].cause == "no such file"
    with pytest.raises(OwnedError, match="another process"), owned_folder(sweep / "d"):
        pass
    process.kill()
    process.join()
    assert ledger.read_entry(sweep / "d").state == "stopped"
    assert "is gone" in ledger.read_entry(sweep / "d").cause
    with owned_folder(sweep / "d"), owned_folder(sweep / "d"):  # free again, and a process may own it twice
        pass


def test_the_objective_is_of_the_validation_split(sweep):
    """A run record without ``objective_split`` has the test score, so that the results are read."""
    done(sweep / "a", objective=0.25)
    assert ledger.read_entry(sweep / "a").objective == 0.25
    record = json.loads((sweep / "a" / ledger.RUN).read_text())
    del record["objective_split"]
    (sweep / "a" / ledger.RUN).write_text(json.dumps(record))
    for best, value in (({"valid": 0.75}, 0.75), ({"valid": None}, None), ({}, None), ("text", None)):
        (sweep / "a" / run_folder.RESULTS).write_text(json.dumps({"best": best}))
        assert ledger.read_entry(sweep / "a").objective == value


def test_a_run_without_results_is_missing(sweep):
    done(sweep / "a")
    (sweep / "a" / run_folder.RESULTS).unlink()
    assert ledger.read_entry(sweep / "a").state == "missing"


def test_runs_beside_the_plan_are_listed(sweep):
    done(sweep / "zz")
    assert [entry.name for entry in ledger.read_entries(sweep)] == [*"abcdef", "zz"]
    assert ledger.read_entries(sweep)[-1].overrides == ("seed=1",)


def test_other_folders_and_schemas_are_refused(tmp_path):
    with pytest.raises(UserError, match="no sweep's folder"):
        ledger.read_entries(tmp_path)
    (tmp_path / ledger.SWEEP).write_text('{"schema": 99}')
    with pytest.raises(UserError, match="has schema 99"):
        ledger.read_entries(tmp_path)
