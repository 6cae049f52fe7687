"""Every config key with a fixed list of values: accepted, or refused in one line that names the key; no folder."""

import re
import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from seqlab.cli.errors import report_errors
from seqlab.config.compose import Composer, check_run
from seqlab.plugins.config import choices

PYTHON = re.compile(
    r"Traceback|<class|<object|object at 0x|NoneType|\bNone\b|\bTrue\b|\bFalse\b|full_key|object_type"
    r"|'(int|str|float|dict|list|bool)'"
    r"|\w+Error\b|\w+Exception\b|__\w+__|\bAny\b|Optional\["
)
VALUES = [
    "abc", "1.5", "-1", "0", "true", "null", "nan", "inf", "-inf", "[]", "[1]", "[abc]", "{a:1}", "''", "???", "1e999",
    "'${nope}'", "99999999999999999999", "'a b'", "é",
]  # fmt: skip
NO_NUMBER = set(VALUES) - {"1.5", "-1", "0", "'${nope}'", "99999999999999999999"}
GROUPS = {"trainer": (), "data": (), "optimizer": ("adamw", "sgd", "nt_asgd"), "logger": ("csv", "wandb")}
PLUGINS = ("cell", "model", "task", "preprocessing", "kernel", "callbacks")
KIND = {"callbacks": "callback"}


@pytest.fixture(scope="module")
def composer():
    return Composer()


@pytest.fixture
def checked(composer, capsys, tmp_path, monkeypatch):
    """Check overrides as the command line does before a run; return the exit code and the error."""
    monkeypatch.chdir(tmp_path)

    def tell(*words):
        code = report_errors(lambda: check_run(words, composer) and 0)
        captured = capsys.readouterr()
        lines = captured.err.splitlines()
        assert (code, len(lines), captured.out) in ((0, 0, ""), (1, 1, "")), (words, captured)
        assert not PYTHON.search(captured.err), (words, captured.err)
        return code, captured.err

    yield tell
    assert not list(tmp_path.iterdir())


def keys(base, group, composer):
    """List the keys of a group in a config, each with its value there."""
    config = check_run(base, composer)
    node = config if group == "" else OmegaConf.select(config, group)
    wanted = ("seed", "ckpt_path", "init_from", "freeze") if group == "" else [key for key in node if key != "name"]
    return {f"{group}.{key}".lstrip("."): node[key] for key in wanted}


def is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def check(checked, base, key, default, value):
    code, message = checked(*base, f"{key}={value}")
    if code:
        named = key.rpartition(".")[2] in message or ("${" in value and value.strip("'${}") in message)
        assert named, (base, key, value, message)
    elif is_number(default):  # the type of the default, which the file says
        assert value not in NO_NUMBER - {"null"}, (base, key, value)
        assert isinstance(default, float) or value != "1.5" or key == "trainer.checkpoint_minutes", (base, key, value)
    elif isinstance(default, bool):
        assert value not in ("abc", "nan", "[]", "{a:1}", "null"), (base, key, value)


AMOUNT = pytest.mark.parametrize("each", [8, pytest.param(1, marks=pytest.mark.long)])
"""Fast: every eighth value in turn, so that each value meets many keys; ``make verify-long``: all of them."""


def fuzz(checked, bases, group, composer, each):
    """Give every key of a group NaN and a mapping, and the other values in turn; return how many cases these are."""
    seen = 0
    for base in bases:
        for turn, (key, default) in enumerate(keys(base, group, composer).items()):
            values = {"nan", "{a:1}", *VALUES[turn % each :: each]}
            for value in sorted(values):
                check(checked, base, key, default, value)
            seen += len(values)
    return seen


@AMOUNT
@pytest.mark.parametrize("group", ["", *GROUPS])
def test_keys_of_files(checked, composer, group, each):
    bases = [[f"{group}={name}"] for name in GROUPS.get(group, ())] or [[]]
    seen = fuzz(checked, bases, group, composer, each)
    assert seen * each >= {"": 80, "trainer": 380, "data": 80, "optimizer": 300, "logger": 100}[group]
    assert all(checked(f"~{key}")[0] == 1 for key in keys([], group, composer))


@AMOUNT
@pytest.mark.parametrize("group", PLUGINS)
def test_keys_of_plugins(checked, composer, group, each):
    for name in choices(KIND.get(group, group))[:: 1 if each == 1 else 4]:  # composing takes longer than the check
        node = f"callbacks.{name}" if group == "callbacks" else group
        assert fuzz(checked, [[f"{group}={name}"]], node, composer, 2 * each) or group == "kernel"


@pytest.mark.parametrize("key", ["trainer", "optimizer", "cell", "callbacks", "experiment", "hydra/launcher"])
def test_choices(checked, key):
    for value in ("abc", "1.5", "null", "{a:1}", "../x", "é"):
        code, _ = checked(f"{key}={value}")
        assert code == 1, (key, value)


def test_keys_that_do_not_exist(checked, composer):
    for group in ("", *GROUPS, "cell", "model", "task"):
        for sign in ("", "+", "++"):
            code, message = checked(f"{sign}{group}.nothing=1".replace("+.", "+").lstrip("."))
            assert code == 1
            assert "nothing" in message
    assert checked("+optimizer.eps=1e-6")[0] == 0  # torch has it


def test_hydras_own_keys(checked):
    for key in ("hydra.run.dir", "hydra.job.name", "hydra.job.chdir", "hydra.verbose"):
        for value in ("{a:1}", "'${nope}'", "null"):
            checked(f"{key}={value}")


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("seed=0,1 trainer.max_epochs=abc", "trainer.max_epochs must be an integer"),
        ("seed=0,-1", "seed must be >= 0"),
        ("cell=gru,lstm +foo=1", "foo: there is no such key"),
        ("seed=0,1 hydra.sweep.dir=null", "hydra.sweep.dir must be the name of a folder"),
        ("seed=0,1 hydra/launcher=joblib hydra.launcher.n_jobs=abc", "hydra.launcher.n_jobs must be an integer"),
        ("seed=0,1 hydra/launcher=submitit_local hydra.launcher.parallel=0", "hydra.launcher.parallel must be"),
        ("experiment=horizon_quick hydra.sweeper.resolution=2", "must be >= 0.0001 and <= 1, got 2"),
        ("experiment=horizon_quick hydra.sweeper.resolutoin=0.1", "resolutoin"),
        ("experiment=horizon_quick hydra.sweeper.start=0", "hydra.sweeper.start must be >= 1"),
        ("experiment=horizon_quick hydra.sweeper.learning_rates=[nan]", "hydra.sweeper.learning_rates must be"),
        ("experiment=horizon_quick trainer.early_stopping=false", "trainer.early_stopping must be"),
        ("seed=range(0)", "seed=range(0): there is no value"),
        ("cell=glob(zzz*)", "there is no value"),
        ("seed=0,1 +hydra.foo=1", "hydra.foo: there is no such key"),
        ("seed=0,1 +hydra.launcher.foo=1", "hydra.launcher.foo: there is no such key"),
        ("seed=0,1 +hydra.sweeper.foo=1", "hydra.sweeper.foo: there is no such key"),
        ("seed=0,1 hydra.sweeper.max_batch_size=0", "hydra.sweeper.max_batch_size must be >= 1"),
        ("seed=0,1 hydra.launcher._target_=os.system", "hydra.launcher._target_ must name a plugin of Hydra"),
        ("seed=0,1 hydra/launcher=joblib +hydra.launcher.foo=1", "hydra.launcher.foo: there is no such key"),
        ("seed=0,1 hydra/launcher=submitit_local +hydra.launcher.foo=1", "hydra.launcher.foo: there is no such key"),
        ("model=lstm seed=0,1", "model=lstm: there is no such model; there are attention, "),
    ],
)
def test_sweeps_are_refused_before_there_is_a_folder(cli, tmp_path, typed, message):
    pytest.importorskip("joblib")
    pytest.importorskip("submitit")
    done = cli("-m", *typed.split())
    done.refused(message)
    assert not PYTHON.search(done.out + done.err)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow  # starts Python and imports torch
def test_a_process_with_hydras_own_messages(tmp_path):
    command = [sys.executable, "-m", "seqlab", "task=names", "lr=0.1"]
    done = subprocess.run(command, cwd=tmp_path, env={"HYDRA_FULL_ERROR": "0"}, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("lr: there is no such key; did you mean optimizer.lr?")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
