"""Flags among overrides, and config folders of the user's own in every command that composes a config."""

import json
import re
import shlex
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore

from seqlab.cli.arguments import check_config_dir, parse
from seqlab.errors import UserError
from seqlab.plugins.hydra_internals import CORE_PLUGINS
from seqlab.plugins.hydra_source import using_sources
from seqlab.runs.run_folder import RESULTS, read_json
from seqlab.sweeps.plan import sweep_folder

MINE = """# @package _global_
defaults:
  - override /cell: gru
  - override /logger: none
  - _self_
cell: {hidden_size: 4}
data: {batch_size: 16}
trainer: {max_epochs: 1, progress: false}
"""

GLOBAL = "# @package _global_\n"
WRONG = {
    "list": ("- a", "list.yaml must be a mapping of keys to values"),
    "text": ("hello", "text.yaml must be a mapping of keys to values"),
    "scalar": ("3", "scalar.yaml must be a mapping of keys to values"),
    "bare": (
        "trainer: {max_epochs: 1}",
        "experiment: nothing reads this key; a file of the group experiment whose keys are those of a run must",
    ),
    "typo": (
        f"{GLOBAL}trainer: {{max_epoch: 1}}",
        "trainer.max_epoch: there is no such key; did you mean trainer.max_epochs?",
    ),
    "node": (f"{GLOBAL}cell: [1]", "experiment/node.yaml: a value must be a mapping of keys to values, got [1]"),
    "defaults": (f"{GLOBAL}defaults: gru", "defaults.yaml: defaults must be a list"),
    "number": (f"{GLOBAL}defaults: [3]", "number.yaml: defaults must be a list"),
    "loop": (f"{GLOBAL}defaults: [loop]", "config files include one another"),
    "no_text": (f"{GLOBAL}null: 2", "no_text.yaml: a key is not a string"),
    "truth": (f"{GLOBAL}trainer: {{true: 2}}", "truth.yaml: true is not a key"),
    "own_hydra": (f"{GLOBAL}hydra: {{nothing: 3}}", "hydra.nothing: there is no such key"),
    "evil": (
        f"{GLOBAL}defaults: [override /hydra/sweeper: basic]\nhydra: {{sweeper: {{_target_: os.system}}}}",
        "hydra.sweeper._target_=os.system: a config folder cannot name what Hydra imports",
    ),
}
"""Files of the group ``experiment`` of which no config can be composed, and the error of each."""


@pytest.fixture
def conf(tmp_path, names_folder):
    folder = tmp_path / "conf"
    (folder / "experiment").mkdir(parents=True)
    mine = MINE + f"task: {{data_dir: {names_folder}}}\n"
    (folder / "experiment" / "mine.yaml").write_text(mine, "utf-8")
    (folder / "experiment" / "bom.yaml").write_bytes(b"\xef\xbb\xbf" + mine.replace("\n", "\r\n").encode())
    for name, (text, _) in WRONG.items():
        (folder / "experiment" / f"{name}.yaml").write_text(f"{text}\n", "utf-8")
    (folder / "own.yaml").write_text("defaults: [config, _self_]\nseed: 7\n", "utf-8")
    return folder


@pytest.mark.parametrize(
    "typed",
    [
        "-m --config-dir {conf} cell=gru seed=1,2",
        "cell=gru -m seed=1,2 -cd {conf}",
        "cell=gru seed=1,2 --config-d={conf} --multirun",
        "-m -cd {conf} -- cell=gru seed=1,2",
        "-m hydra.searchpath=[{conf}] cell=gru seed=1,2",
        "-m '+hydra.searchpath=[\"file://{conf}\"]' cell=gru seed=1,2",
    ],
)
def test_flags_may_stand_anywhere(conf, typed):
    found = parse(shlex.split(typed.format(conf=conf)))
    assert found.overrides == ("cell=gru", "seed=1,2")
    assert found.sources.folders == (f"file://{conf}",)
    assert (found.is_sweep, found.only_prints, found.asks_help) == (True, False, False)
    assert parse(["-m", *found.sources.arguments]).sources == found.sources  # what a plan keeps is read again


def test_a_relative_folder_is_that_of_the_working_folder(conf, monkeypatch):
    monkeypatch.chdir(conf.parent)
    assert parse(["-cd", "conf"]).sources == parse([f"--config-dir={conf}"]).sources
    assert parse(["hydra.searchpath=[pkg://a.b,file://conf]"]).sources.folders == ("pkg://a.b", f"file://{conf}")


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("--bogus", "--bogus: there is no such flag"),
        ("--config-dir", "expected one argument"),
        ("--config-dir=", "--config-dir=: there is no such folder"),
        ("--config-name=", "--config-name is empty"),
        ("hydra.searchpath=[bogus://x]", "must begin with file://"),
        ("--config-dir nowhere", "--config-dir=nowhere: there is no such folder"),
        ("--config-path x", "--config-dir adds a folder of yours"),
        ("--experimental-rerun x", "which can run code"),
        ("--resolve cell=gru", "--resolve needs --cfg"),
        ("--package trainer", "--package needs --cfg"),
        ("-m --cfg job", "only one of"),
        ("--cfg nothing", "invalid choice"),
        ("hydra.searchpath=3", "hydra.searchpath must be a list of folders"),
        ("hydra.searchpath=[nowhere]", "hydra.searchpath=nowhere: there is no such folder"),
    ],
)
def test_wrong_flags_are_one_line(typed, message):
    with pytest.raises(UserError, match=rf"^.*{re.escape(message)}.*$"):
        parse(typed.split())


def test_printed_configs_and_help_read_the_folder(cli, conf):
    assert "hidden_size: 4" in cli("--cfg", "job", "--config-dir", str(conf), "experiment=mine").out
    assert "max_epochs: 1" in cli("experiment=mine", "-c", "job", "-p", "trainer", "-cd", str(conf)).out
    assert "cell.hidden_size=4" in cli("--help", "experiment=mine", "-cd", str(conf)).out
    assert str(conf) in cli("--info", "searchpath", "-cd", str(conf)).out
    assert "seed: 7" in cli("-cn", "own", "--config-dir", str(conf), "--cfg", "job").out
    assert "seed: 0" in cli("--cfg", "job").out  # the folder is not kept for the next command
    assert "there is no such file" in cli("-cn", "nothing", "seed=1").err


def test_a_single_run_and_a_resumed_sweep(cli, conf, monkeypatch):
    """The sweep is resumed from another folder; the recorded command composes the same config."""
    here = Path.cwd()
    single = cli("-r", "--config-dir", "conf", "experiment=mine", "hydra.run.dir=one")
    assert single.code == 0, single.err
    cell = read_json(Path("one") / RESULTS)["config"]["cell"]
    assert (cell["name"], cell["hidden_size"]) == ("gru", 4)
    sweep = cli("-m", "-cd", "conf", "-cn", "own", "experiment=mine", "cell.hidden_size=2,3", "hydra.sweep.dir=many")
    assert sweep.code == 0, sweep.err
    (here / "elsewhere").mkdir()
    first, second = sorted(Path("many").glob("*/results.json"))
    assert read_json(second)["config"]["seed"] == 7
    typed = shlex.split(read_json(second)["command"])[3:]
    before = first.read_bytes(), second.read_bytes()
    second.unlink()
    (second.parent / "run.json").unlink()
    monkeypatch.chdir(here / "elsewhere")
    again = cli("resume", "../many")
    assert again.code == 0, again.err
    assert first.read_bytes() == before[0]
    assert read_json(second)["metrics"] == json.loads(before[1])["metrics"]
    assert parse(typed).sources == parse(["-cd", str(conf), "-cn", "own"]).sources


def test_the_config_folder_is_part_of_the_sweep_key(conf):
    chosen = ([], ["-cd", str(conf)], ["-cd", str(conf / "experiment")], ["-cd", str(conf), "-cn", "own"])
    found = set()
    for flags in chosen:
        asked = parse([*flags, "-m", "seed=1"])
        with using_sources(asked.sources):
            found.add(sweep_folder(asked.overrides))
    assert len(found) == len(chosen)


def test_a_plan_names_no_config_folder_that_came_with_it(cli, conf, tmp_path):
    inside = tmp_path / "many" / "conf"
    inside.parent.mkdir()
    conf.rename(inside)
    plan = {"schema": 1, "words": [f"hydra.searchpath=[{inside}]", "seed=1"], "working_folder": "/", "open": False}
    runs = [{"name": "recurrent_gru_1", "words": ["seed=1"]}]
    (inside.parent / "sweep.json").write_text(json.dumps(plan | {"runs": runs}), "utf-8")
    cli("resume", "many").refused("which is not yours; if you trust it")


def test_a_byte_order_mark_changes_nothing(cli, conf):
    shown = [cli("--cfg", "job", "-cd", str(conf), f"experiment={name}").out for name in ("mine", "bom")]
    assert shown[0] == shown[1] != cli("--cfg", "job").out


RECIPE = """title: t
source: s
metric: accuracy
mode: max
words: [experiment=mine]
rows: [{label: a, words: [], theirs: 0.5}]
"""


def test_other_commands_read_the_folder(cli, conf):
    found = cli("data", "experiment=mine", "--config-dir", str(conf), "--json")
    assert set(json.loads(found.out)["classes"]) == {"Aaish", "Ooish", "Eeish"}
    Path("mine.yaml").write_text(RECIPE, "utf-8")
    done = cli("reproduce", "mine.yaml", "--config-dir", str(conf))
    assert done.code == 0, done.err
    assert cli("reproduce", "mine.yaml", "-cd", str(conf), "--look").out.count("of 1") == 0  # it is found again


@pytest.mark.slow  # processes that import torch
@pytest.mark.parametrize(
    "launcher",
    [
        ["hydra/launcher=joblib", "hydra.launcher.n_jobs=1"],
        pytest.param(["hydra/launcher=submitit_local"], marks=pytest.mark.long),  # it sends the same loader of configs
    ],
)
def test_processes_of_a_launcher_know_the_folder(cli, conf, launcher):
    pytest.importorskip("joblib")
    pytest.importorskip("submitit")
    found = cli("-m", "-cd", str(conf), "-cn", "own", "experiment=mine", "hydra.sweep.dir=many", *launcher)
    assert found.code == 0, found.err
    (results,) = Path("many").glob("*/results.json")
    assert read_json(results)["config"]["seed"] == 7


@pytest.mark.parametrize("flags", [["--cfg", "job"], ["-m"], []])
def test_wrong_files_are_one_line(cli, conf, tmp_path, flags):
    before = sorted(tmp_path.iterdir())
    unchecked = ("bare", "typo") if "--cfg" in flags else ()  # Hydra prints configs that no run could have
    for name, (_, message) in WRONG.items():
        if name in unchecked:
            continue
        done = cli(*flags, "-cd", str(conf), f"experiment={name}")
        done.refused(message)
        assert not done.out
        assert not re.search(r"\w+Error|NoneType|True", done.err)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(("place", "word"), [("config", "seed=1"), ("cell/gru", "cell=gru")])
def test_a_file_hidden_by_a_config_of_seqlab_is_refused(cli, conf, place, word):
    """Hydra reads the first of its sources that has a name, and is silent on the others."""
    (conf / f"{place}.yaml").parent.mkdir(exist_ok=True)
    (conf / f"{place}.yaml").write_text("seed: 1\n", "utf-8")
    cli("--cfg", "job", "-cd", str(conf), word).refused(f"{place}.yaml is not read")


def test_names_in_the_config_of_a_hydra_plugin_are_allowed(conf):
    """As the samplers of Optuna's sweeper, which are classes of Optuna; a folder's own name is refused."""
    group, store = "hydra/sweeper", ConfigStore.instance()
    target = f"{CORE_PLUGINS}basic_sweeper.BasicSweeper"
    store.store(group=group, name="like_optuna", node={"_target_": target, "sampler": {"_target_": "optuna.Tpe"}})
    mine = "# @package _global_\ndefaults: [override /hydra/sweeper: like_optuna]\n"
    (conf / "experiment" / "search.yaml").write_text(mine, "utf-8")
    (conf / "experiment" / "other.yaml").write_text(mine + "hydra: {sweeper: {sampler: {_target_: a.B}}}\n", "utf-8")
    try:
        with using_sources(parse(["-cd", str(conf)]).sources):
            check_config_dir(["experiment=search"])
            check_config_dir(["hydra/sweeper=like_optuna", "hydra.sweeper.sampler._target_=a.B"])
            with pytest.raises(UserError, match="a config folder cannot name what Hydra imports"):
                check_config_dir(["experiment=other"])
    finally:
        del store.repo["hydra"]["sweeper"]["like_optuna.yaml"]
