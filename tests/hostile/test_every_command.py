"""A run folder full of pickles, given to every command that reads one: none is unpickled."""

import pickle
import shutil

import pytest

from seqlab.__main__ import COMMANDS

from .attack import BEGIN_WITH, EVALUATE, EXPORT, FAST, GO_ON, INSPECT, MARK, PREDICT, REPORT, RERUN, VERIFY, pickled
from .files import archive

CALLS = {
    "predict": PREDICT,
    "evaluate": EVALUATE,
    "generate": ("generate", "run", "--prompt", "a", "--length", "3"),
    "export": EXPORT,
    "verify": VERIFY,
    "rerun": RERUN,
    "inspect": INSPECT,
    "context": ("context", "run"),
    "report": REPORT,
    "compare": ("compare", "run", "other"),
    "status": ("status", "run"),
    "resume": ("resume", "run"),
    "replay": ("replay", "run/nonfinite"),
    "train, going on": GO_ON,
    "train, from the best": (*FAST, "hydra.run.dir=run", "ckpt_path=best"),
    "train, from a file": (*FAST, "hydra.run.dir=new", "ckpt_path=run/resume.ckpt"),
    "train, from a run": BEGIN_WITH,
}
WITHOUT_A_RUN = {"data", "fetch", "reproduce", "check", "bench", "tune", "card", "board", "new", "plugins"}


def test_every_command_that_reads_a_run_is_here():
    assert {name for name in CALLS if "," not in name} == set(COMMANDS) - WITHOUT_A_RUN


def test_the_pickle_would_run_where_it_is_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickled())
    assert (tmp_path / MARK).exists()


@pytest.mark.parametrize(
    ("where", "made"),
    [("beside what is sound", pickled), ("beside what is sound", archive), ("in place of all", pickled)],
    ids=["a pickle beside what is sound", "an archive of torch beside it", "a pickle in place of all"],
)
@pytest.mark.parametrize("name", CALLS)
def test_no_command_runs_it(name, where, made, target, call):
    run = target / "run"
    (run / "nonfinite").mkdir()
    names = ["resume.ckpt", "best.ckpt", "last.ckpt", "model.ckpt", "nonfinite/batch.pt", "nonfinite/model.pt"]
    if where == "in place of all":
        names += [str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()]
    for each in names:
        (run / each).write_bytes(made())
    shutil.copytree(run, target / "other")
    code, out, err, _ = call(*CALLS[name])
    assert not list(target.rglob(MARK))
    assert "Traceback" not in out + err
    if where == "in place of all" and name not in ("report", "status"):
        assert code == 1, (out, err)
