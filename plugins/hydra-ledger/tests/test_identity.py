"""Identity, values of records, and numbers of jobs."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from hydra_ledger import LedgerCallback, LedgerError
from hydra_ledger.identity import config_difference, override_difference, sweep_key
from hydra_ledger.locks import take
from hydra_ledger.sweep import Sweep, decode, encode

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=6, max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.permutations(["x=1,2", "y=3", "+z=4"]))
def test_a_sweep_is_its_overrides_in_any_order(overrides):
    assert sweep_key(overrides) == sweep_key(["x=1,2", "y=3", "+z=4"])
    assert override_difference(["x=1,2", "y=3", "+z=4"], overrides) is None
    assert override_difference(overrides, overrides[:2]) is not None


def test_differences_name_the_first_value():
    assert override_difference(["x=1,2"], ["x=1,2,3"]) == "x=1,2 there, x=1,2,3 here"
    assert override_difference(["x=1"], ["x=1", "y=2"]) == "no y there, y=2 here"
    assert override_difference(["x=1"], ["x=1", "y=2"], lambda each: each[0] == "x") is None
    there, here = {"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}
    assert config_difference(there, here, []) == "a.c=2 there, 3 here"
    assert config_difference(there, here, ["a.c"]) is config_difference(there, here, ["a"]) is None
    assert config_difference(there, here, ["a.cc"]) is not None


@given(JSON | JSON.map(lambda value: {"float": value}))
def test_values_come_back(value):
    assert decode(encode(value)["value"]) == value


def test_values_that_json_has_not():
    assert math.isnan(decode(encode(math.nan)["value"]))
    assert decode(encode((1.0, -math.inf))["value"]) == [1.0, -math.inf]
    assert encode(object()) == {}


def config(folder, *overrides, subdir="${hydra.job.num}", **values):
    hydra = {
        "sweep": {"dir": str(folder), "subdir": subdir}, "overrides": {"task": list(overrides)},
        "sweeper": {"_target_": "any", "n_trials": values.pop("n_trials", 3)}, "job": {"config_name": "config"},
    }  # fmt: skip
    return OmegaConf.create({**values, "hydra": hydra})


def never(*_):
    raise AssertionError


def numbers(sweep, *overrides, compose=never):
    return [(job.number, job.name) for job in sweep.assign([each.split() for each in overrides], compose)]


def test_numbers_continue_and_equal_jobs_have_one_each(tmp_path):
    first = Sweep(config(tmp_path, "x=1", a=1))
    assert numbers(first, "x=1", "x=2") == [(0, "0"), (1, "1")]
    assert numbers(first, "x=1") == [(2, "2")]
    with pytest.raises(LedgerError, match="another process runs the sweep"):
        Sweep(config(tmp_path, "x=1", a=1))
    first.finish()
    second = Sweep(config(tmp_path, "x=1", a=1, n_trials=5))
    assert second.is_resumed
    assert numbers(second, "x=3", "x=1", "x=2", "x=1") == [(3, "3"), (0, "0"), (1, "1"), (2, "2")]
    second.finish()


def test_ignored_keys_change_no_job(tmp_path):
    first = Sweep(config(tmp_path, "x=1", "path=a", path="a"), ["path"])
    assert numbers(first, "x=1 path=a") == [(0, "0")]
    first.finish()
    second = Sweep(config(tmp_path, "x=1", "path=b", path="b"), ["path"])
    (job,) = second.assign([["x=1", "path=b"]], never)
    assert (job.number, job.overrides) == (0, ("x=1", "path=b"))
    second.finish()


def test_another_sweep_is_refused_and_the_folder_is_free_again(tmp_path):
    Sweep(config(tmp_path, "x=1", a=1)).finish()
    for other, text in (
        (config(tmp_path, "x=2", a=1), "x=1 there, x=2 here"),
        (config(tmp_path, "x=1", a=2), "config.a=1 there, 2 here"),
        (config(tmp_path, "x=1", subdir="${x}", a=1), "subdir="),
    ):
        with pytest.raises(LedgerError, match=text):
            Sweep(other)
    lock = take(tmp_path)
    assert lock is not None
    lock.release()


def test_no_sweep_runs_without_its_ledger(tmp_path):
    """Hydra makes a warning of any exception but SystemExit."""
    plan = '{"schema": 1, "words": [], "working_folder": "", "runs": [], "about": null}'
    (tmp_path / "sweep.json").write_text(plan)
    with pytest.raises(SystemExit, match=r"sweep\.json"):
        LedgerCallback().on_multirun_start(config(tmp_path, "x=1"))
    with pytest.raises(SystemExit, match="no ledger can be kept of this sweep"):
        LedgerCallback().on_multirun_start(OmegaConf.create({"hydra": {}}))


def test_a_folder_named_by_a_job_is_one_name(tmp_path):
    sweep = Sweep(config(tmp_path, "x=1", subdir="x_${x}"))

    def compose(overrides, number):
        return OmegaConf.create({"hydra": {"sweep": {"subdir": overrides[0].replace("=", "_")}}})

    assert numbers(sweep, "x=1", compose=compose) == [(0, "x_1")]
    assert numbers(sweep, "x=1", compose=compose) == [(0, "x_1")]
    with pytest.raises(LedgerError, match="must be the name of one folder"):
        numbers(sweep, "x=a/b", compose=compose)
    with pytest.raises(LedgerError, match="gives the folder x_1 to x=1 and to x=1 y=2"):
        numbers(sweep, "x=1 y=2", compose=compose)
    sweep.finish()


@pytest.mark.parametrize("subdir", ["${now:%H-%M-%S}", "${hydra.job.id}_${x}"])
def test_a_folder_that_changes_with_the_process_is_refused(subdir, tmp_path):
    with pytest.raises(LedgerError, match="another folder each time"):
        Sweep(config(tmp_path, "x=1", subdir=subdir))


def test_records_without_their_plan_are_of_another_sweep(tmp_path):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "run.json").write_text('{"state": "done", "words": ["x=1"], "value": 1}')
    with pytest.raises(LedgerError, match="of another sweep"):
        Sweep(config(tmp_path, "x=2"))
