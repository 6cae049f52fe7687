"""Attacks by overrides and configs: what the plan of a sweep, a recipe or a config folder makes Hydra do."""

import json
from pathlib import Path

from .attack import GO_ON, PREDICT, RESUME, STATUS, VERIFY, Attack, changed, setting, written

TARGET = "hydra.launcher._target_=os.system"


def plan(*words: object, **more: object):
    record = {"schema": 1, "words": list(words), "working_folder": "/", "runs": [], "open": True}
    return written("sweep/sweep.json", json.dumps(record | more))


SWEEPS = [
    Attack("a plan's launcher is a function to import", plan("cell=gru", TARGET), (RESUME,), "Hydra could run code"),
    Attack("a plan's words are a flag", plan("--config-dir=evil", "experiment=evil"), (RESUME,), "no setting"),
    Attack("a plan sets the loader's environment", plan("+hydra.job.env_set.LD_PRELOAD=evil.so"), (RESUME,),
           "Hydra could run code"),
    Attack("a plan's log is written by a class to import", plan("hydra.job_logging.handlers.file.class=os.system"),
           (RESUME,), "Hydra could run code"),
    Attack("a plan's search has words within its words", plan(
           "hydra/sweeper=horizon", "hydra.sweeper.params={hydra.job.env_set:{PATH:evil}}"), (RESUME,),
           "make Hydra run code|not understood"),
    Attack("a plan runs a shell before each job", plan("hydra/launcher=slurm", "hydra.launcher.setup=[touch ran]"),
           (RESUME,), "Hydra could run code"),
]  # fmt: skip

RECORDS = [
    Attack("a plan's runs are numbers", plan(runs=[1, 2]), (STATUS, RESUME), "no list of runs"),
    Attack("a plan's words are no texts", plan(1, 2), (STATUS, RESUME), "has no overrides"),
    Attack("a run record would move the cursor", lambda folder: (
           plan(runs=[{"name": "a", "words": []}])(folder),
           written("sweep/a/run.json", '{"state": "failed", "cause": "\\u001b[2J"}')(folder)), (STATUS,),
           "control character"),
    Attack("a run record has an unknown state", lambda folder: (
           plan(runs=[{"name": "a", "words": []}])(folder),
           written("sweep/a/run.json", '{"state": {"a": 1}}')(folder)), (STATUS,), "state is"),
]  # fmt: skip

LINE = "metric: accuracy\nmode: max\ntitle: a\nsource: b\nrows: [{label: a, words: [], theirs: 1}]\n"


def recipe(text: str):
    return written("evil.yaml", text)


REPRODUCE = ("reproduce", "evil.yaml", "--quick")
LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))

RECIPES = [
    Attack("ten lines of YAML make a hundred thousand million values", recipe(LAUGHS), (REPRODUCE,), "has an alias"),
    Attack("YAML makes an object of Python", recipe("title: !!python/object/apply:os.system ['touch ran']\n"),
           (REPRODUCE,), "is not valid YAML"),
    Attack("YAML is nested ten thousand deep", recipe("a: " + "[" * 10**4 + "]" * 10**4), (REPRODUCE,),
           "is not valid YAML"),
    Attack("a recipe's words are a launcher to import", recipe(LINE + f"words: ['{TARGET}']\n"), (REPRODUCE,),
           "Hydra could run code"),
]  # fmt: skip


def experiment(text: str):
    return written("conf/experiment/evil.yaml", f"# @package _global_\n{text}")


CHOSEN = (("--config-dir", "conf", "experiment=evil", "hydra.run.dir=new"),)
SWEPT = (("-m", "--config-dir", "conf", "experiment=evil", "hydra.sweep.dir=new"),)

CONFIGS = [
    Attack("an experiment's launcher is a function to import", experiment("hydra: {launcher: {_target_: os.system}}\n"),
           CHOSEN, "os.system: a config folder cannot name"),
    Attack("an experiment's log is a function to import", experiment(
           "hydra: {job_logging: {handlers: {x: {'()': os.system, command: touch ran}}}}\n"), CHOSEN,
           "job_logging is .*a config folder cannot set"),
    Attack("an experiment sets the loader's environment", experiment(
           "hydra: {job: {env_set: {LD_PRELOAD: evil.so}}}\n"), CHOSEN, "env_set"),
    Attack("an experiment's words of each run set the environment", experiment(
           "hydra: {sweeper: {params: {hydra.job.env_set.LD_PRELOAD: evil.so}}}\n"), SWEPT, "Hydra could run code"),
    Attack("a line of the batch script ends in a partition's name", experiment(
           'defaults: [{override /hydra/launcher: slurm}]\nhydra: {launcher: {partition: "a\\ntouch ran"}}\n'), SWEPT,
           "a line of a batch script could end"),
    Attack("aliases of an experiment make a thousand million values", experiment(LAUGHS), CHOSEN,
           "expands to more than 50,000 values"),
]  # fmt: skip


def untold(name: str):
    """A file of the run that says of itself what it pleases."""
    return setting("model.json", "format", name)


VERSIONS = [
    Attack("a version would colour the terminal", changed("model.json", lambda card: card.update(
           format=2, seqlab="\x1b[31m99")), (PREDICT, VERIFY), "control character"),
    Attack("the format is a long text", untold("2" * 100_000), (PREDICT,), "has format 2222"),
    Attack("the config has no trainer", changed("results.json", lambda record: record["config"].update(trainer=None)),
           (("rerun", "run", "--out", "again"), VERIFY), "no config of trainer"),
    Attack("metrics are texts", setting("results.json", "metrics.test", {"accuracy": "<b>1</b>"}), (VERIFY,),
           "metrics that are no numbers"),
    Attack("a checkpoint lacks what training needs", lambda folder: _bare(folder / "run" / "resume.ckpt"), (GO_ON,),
           "is no checkpoint of a run: it has no"),
]  # fmt: skip


def _bare(path: Path) -> None:
    import torch

    torch.save({"state_dict": {}, "epoch": 3}, path)
