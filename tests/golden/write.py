"""Write the golden fixtures anew: ``python -m tests.golden.write [configs] [keys] [folders]`` at the root.

What is written, and how it is held, is in ``tests/test_golden.py``. Nothing of the machine is kept: paths of the folder
in which runs are trained become ``/golden``, and host, kernel release and process ids are replaced. Pictures,
``.hydra`` and the checkpoints of finished runs are left out, as no command reads them.
"""

import csv
import json
import os
import platform
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import seqlab
import seqlab_conf
from seqlab.sweeps.plan import run_key, sweep_key

from .command import HERE, composed, done, parsed, recipes, same

CONF = Path(seqlab_conf.__file__).parent

OVERRIDES = [
    "",
    "cell=rnn cell.nonlinearity=relu cell.initialisation=identity model.truncate=5",
    "cell=gru model.depth=2 model.bidirectional=true model.dropout=0.3 seed=3",
    "cell=fused_gru task=names task.balance=weights preprocessing=characters preprocessing.steps=[ascii,lower]",
    "cell=lstm kernel=fused kernel.save=checkpoint kernel.every=8 model.connection=highway model.depth=4",
    "cell=fused_rnn kernel=auto",
    "cell=indrnn task=adding task.marks=anywhere task.sequence_length=200",
    "cell=mingru kernel=parallel task=copying",
    "cell=minlstm task=temporal_order kernel=compiled",
    "cell=peephole_lstm task=dyck model.layer_norm=true",
    "cell=coupled_lstm task=agreement model.learned_start=true",
    "cell=layer_norm_lstm task=fluent kernel=loop",
    "task=lm cell=lstm model.tied=true model.weight_drop=0.5 model.locked_dropout=0.2 optimizer=nt_asgd",
    "task=lm model=ngram model.order=3",
    "task=lm cell=gru preprocessing=bpe preprocessing.vocabulary_size=500 task.adaptive=[100,200]",
    "task=textclf cell=gru preprocessing=reviews task.chunks=carry task.sequence_length=50",
    "task=textclf model=bow preprocessing=words preprocessing.min_count=2",
    "task=names model=attention data=default data.duplicates=drop",
    "task=first cell=rnn optimizer=sgd optimizer.lr=0.2 trainer=cpu",
    "task=recall cell=gru trainer=gpu trainer.precision=bf16-mixed",
    "task=hmm cell=gru trainer=ddp_cpu trainer.max_epochs=3",
    "task=pixels cell=gru trainer=ddp data.batch_size=32",
    "task=parity cell=rnn logger=none trainer.stop_when_solved=2",
    "model=window task=lm data=text logger=tensorboard",
    "model=tcn task=first data=generated logger=wandb logger.project=other",
    "callbacks=gradient_flow callbacks.gradient_flow.every=5 cell=gru",
    "debug=fdr",
    "debug=limit",
    "debug=overfit task=names cell=gru",
    "debug=profiler",
    "init_from=runs/old freeze=[encoder,recurrent.layers.0] ckpt_path=last",
    "hydra/sweeper=horizon hydra.sweeper.max_distance=64 hydra.sweeper.match=parameters task=first",
    "hydra/launcher=joblib hydra.launcher.n_jobs=3",
    "hydra/launcher=submitit_local hydra.launcher.parallel=4",
    "hydra/launcher=slurm hydra.launcher.partition=short",
]
"""Touch every config group; each of debug and callbacks is here."""

SWEEPS = [
    "cell=rnn,lstm,gru model.depth=1,2 task.split_seed=0,1,2",
    "seed=range(0,10) cell=glob(*lstm) model.dropout=choice(0,0.25,0.5)",
    "hydra/sweeper=horizon cell=rnn,lstm,gru task=first hydra.sweeper.seeds=2",
    "experiment=horizon_quick hydra/launcher=joblib hydra.launcher.n_jobs=2 kernel=loop",
    "cell=gru seed=0,1 logger=none trainer.progress=false trainer.checkpoint_minutes=1 hydra.sweep.dir=elsewhere",
    "experiment=names_best,names_bow ~callbacks seed=0,1",
]

SMALL = ["trainer.threads=1", "trainer.progress=false", "cell.hidden_size=4", "model.embedding_size=4"]
TONGUES = ["task=names", "task.data_dir=data/names", "data.batch_size=8", "optimizer.lr=0.02"]
LETTERS = ["task=names", "trainer.limit_train_batches=10", "data.batch_size=64", "optimizer.lr=0.02"]
GENERATED = ["task.examples=128", "task.held_out=64", "task.sequence_length=8", "trainer.max_epochs=1"]
FIRST_STEP = ["task=first", "task.choices=3", "task.examples=512", "task.held_out=100", "optimizer.schedule=constant"]
RUNS = {
    "names": [*LETTERS, "cell=gru", "trainer.max_steps=15", *SMALL],
    "textclf": [
        "task=textclf", "task.data=data/reviews.csv", "task.quoting=standard", "cell=lstm", "model.depth=2",
        "model.bidirectional=true", "model.pooling=mean", "preprocessing.steps=[lower]", "trainer.max_epochs=2", *SMALL,
    ],
    "lm": ["task=lm", "task.data=data/text.txt", "cell=lstm", "data.batch_size=8", "optimizer.lr=0.02", *SMALL],
    "first": ["task=first", "cell=rnn", *GENERATED, *SMALL],
    "adding": ["task=adding", "cell=mingru", "kernel=parallel", "task.eval_lengths=[12]", *GENERATED, *SMALL],
    "agreement": ["task=agreement", "cell=coupled_lstm", *GENERATED, *SMALL],
    "dyck": ["task=dyck", "cell=peephole_lstm", "kernel=loop", *GENERATED, *SMALL],
    "ngram": ["task=lm", "task.data=data/text.txt", "model=ngram", "model.order=3", *SMALL[:2]],
    "bow": [*TONGUES, "model=bow", "model.max_order=2", "trainer.max_epochs=2", *SMALL[:2]],
    "gradient_flow": ["callbacks=gradient_flow", "task=first", "cell=gru", "model.depth=2", *GENERATED, *SMALL],
}  # fmt: skip
STOPPED = [*TONGUES, "cell=gru", "trainer.max_epochs=20", *SMALL]
SWEEP = [*TONGUES, "cell=rnn,gru", "seed=0,1", "trainer.max_epochs=20", "trainer.early_stopping=null", *SMALL]
HORIZON = [
    *FIRST_STEP, "trainer.max_epochs=8", "trainer.threads=1", "data.batch_size=32", "cell.hidden_size=8",
    "model.embedding_size=4", "hydra/sweeper=horizon", "hydra.sweeper.start=2", "hydra.sweeper.max_distance=4",
    "hydra.sweeper.seeds=1", "hydra.sweeper.confirm_seeds=0", "hydra.sweeper.check_budget=false",
    "hydra.sweeper.learning_rates=[0.02]",
    "+hydra.sweeper.rows.window=['model=window','model.context=3','model.hidden_size=16']",
    "+hydra.sweeper.rows.gru=['cell=gru']",
]  # fmt: skip
"""A window of 3 steps has a horizon of 3, whatever the machine."""

QUESTIONS = [
    ["predict", "runs/names", "--json", "Satoshi", "O'Neill", "Żółć", "a"],
    ["predict", "runs/bow", "--json", "Aabana", "Oonolo"],
    ["predict", "runs/textclf", "--json", "the good soup was warm", "a bad table"],
    ["predict", "runs/gradient_flow", "--json", "a b c d e f g h", "h g f e d c b a"],
    ["predict", "runs/agreement", "--json", "the old men praised outside"],
    ["evaluate", "runs/textclf", "--json", "--data", "data/reviews.csv", "--quoting", "standard"],
    ["evaluate", "runs/bow", "--json", "--data", "data/labelled.csv"],
]
"""Commands whose answers ``answers.json`` keeps."""


def write(name: str, value: Any) -> None:
    """Write JSON; what is nested more than twice stands on one line."""
    text = json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True)
    text = re.sub(r"\n {3,}|\n {2}(?=[]}])", " ", text)
    (HERE / name).write_text(text + "\n", "utf-8")


def write_configs() -> None:
    """Write of each override set what differs from the default."""
    base = composed([])

    def differences(overrides: Sequence[str]) -> dict[str, Any]:
        found = composed(overrides)
        changed = {key: value for key, value in found.items() if key not in base or not same(base[key], value)}
        return {"changed": changed, "gone": sorted(base.keys() - found.keys())}

    experiments = [f"experiment={path.stem}" for path in sorted((CONF / "experiment").glob("*.yaml"))]
    sets = {text: differences(text.split()) for text in [*OVERRIDES, *experiments]}
    rows = {name: differences(overrides) for name, overrides in recipes({})}
    write("configs.json", {"default": base, "overrides": sets, "recipes": rows})


def write_keys() -> None:
    """Write run and sweep keys; a run's has the versions of its plugins in it."""
    chosen = [text for text in OVERRIDES if "hydra/" not in text]
    runs = {text: run_key(seqlab.compose(text.split())) for text in chosen}
    sweeps = {text: sweep_key(text.split()) for text in [*SWEEPS, *OVERRIDES]}
    write("keys.json", {"seqlab": seqlab.__version__, "runs": runs, "sweeps": sweeps})


def write_data(folder: Path) -> None:
    """Write a table with quotes, a text, three languages that can be told apart, and a table of their names."""
    folder.mkdir()
    draw = random.Random(0)
    good, bad, things = ["good", "warm", "lovely"], ["bad", "cold", "awful"], ["soup", "table", "room", "tea"]
    with (folder / "reviews.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["text", "label"])
        for number in range(120):
            label, kind = ("pos", good) if number % 2 else ("neg", bad)
            text = f'The {draw.choice(things)} was "{draw.choice(kind)}", and so was the {draw.choice(things)} {number}'
            table.writerow([text, label])
    subjects, verbs = ["the cat", "a dog", "my cell", "one gate"], ["sees", "forgets", "remembers", "opens"]
    lines = [f"{draw.choice(subjects)} {draw.choice(verbs)} {draw.choice(subjects)}." for _ in range(240)]
    (folder / "text.txt").write_text("\n".join(lines) + "\n", "utf-8")
    (folder / "names").mkdir()
    labelled = ["text,label"]
    for language, parts in {"Aaish": "aa ba na la", "Ooish": "oo bo no lo", "Eeish": "ee be ne le"}.items():
        names = sorted({(a + b + c).capitalize() for a in parts.split() for b in parts.split() for c in parts.split()})
        (folder / "names" / f"{language}.txt").write_text("\n".join(names) + "\n", "utf-8")
        labelled += [f"{name},{language}" for name in names[::9]]
    (folder / "labelled.csv").write_text("\n".join(labelled) + "\n", "utf-8")


def stop_when(ready: Callable[[], bool], arguments: Sequence[str]) -> list[str]:
    """Start a command in a process of its own, stop it by SIGTERM once it is ready; return the command to go on."""
    command = [sys.executable, "-m", "seqlab", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not ready():
        assert process.poll() is None, f"it ended before it could be stopped: {arguments}"
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    told = process.communicate(timeout=120)[1]
    assert process.returncode == 75, told
    return shlex.split(told.strip().splitlines()[-1].split("to go on: python -m seqlab ")[1])


def in_the_fourth_run(sweep: Path) -> Callable[[], bool]:
    """Return whether three runs of a sweep are done, and another one has a checkpoint to go on from."""

    def ready() -> bool:
        states = [json.loads(path.read_text("utf-8"))["state"] for path in sweep.glob("*/run.json")]
        return states.count("done") == 3 and len(list(sweep.glob("*/resume.ckpt"))) == 4

    return ready


def train() -> None:
    """Train all that is kept, in the working folder."""
    write_data(Path("data"))
    for name, overrides in RUNS.items():
        done(*overrides, f"hydra.run.dir=runs/{name}")
        print("run", name)
    stopped = Path("runs/stopped")
    commands = {str(stopped): stop_when((stopped / "resume.ckpt").exists, [*STOPPED, f"hydra.run.dir={stopped}"])}
    for folder, overrides in {Path("sweeps/names"): SWEEP, Path("sweeps/horizon"): HORIZON}.items():
        arguments = ["-m", *overrides, f"hydra.sweep.dir={folder}"]
        commands[str(folder)] = stop_when(in_the_fourth_run(folder), arguments)
    answers = [{"arguments": question, "answers": parsed(done(*question))} for question in QUESTIONS]
    write("answers.json", {"questions": answers, "to_go_on": commands})


def keep(folder: Path) -> None:
    """Take out of a folder what no command reads, and what names this machine."""
    for path in sorted(folder.rglob("*"), reverse=True):
        is_finished = (path.parent / "results.json").exists() and path.parent.name != "names"
        unread = path.suffix in (".png", ".svg") or path.name in (".lock", "multirun.yaml")
        if path.is_dir():
            if path.name == ".hydra" or not any(path.iterdir()):
                shutil.rmtree(path)
        elif unread or (path.suffix == ".ckpt" and is_finished):
            path.unlink()
        elif path.suffix not in (".ckpt", ".safetensors"):
            path.write_text(anonymous(path.read_text("utf-8")), "utf-8")
    for path in folder.rglob("*"):
        assert path.is_dir() or str(Path.cwd()).encode() not in path.read_bytes(), f"{path} has a path of this machine"


def anonymous(text: str) -> str:
    """Replace paths, host, process id and kernel release."""
    text = text.replace(str(Path.cwd()), "/golden").replace(f"-{platform.release()}-", "-")
    text = text.replace(f'"host": "{socket.gethostname()}"', '"host": "golden"')
    return re.sub(r'"pid": \d+', '"pid": 1', text)


def write_folders() -> None:
    """Train in a temporary folder, and bring what is kept."""
    back = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ |= {"SEQLAB_CACHE": f"{folder}/cache", "OMP_NUM_THREADS": "1"}
        train()
        for name in ("data", "runs", "sweeps"):
            keep(Path(name))
            shutil.rmtree(HERE / name, ignore_errors=True)
            shutil.copytree(name, HERE / name)
        os.chdir(back)


if __name__ == "__main__":
    asked = sys.argv[1:] or ["configs", "keys", "folders"]
    for each, step in {"configs": write_configs, "keys": write_keys, "folders": write_folders}.items():
        if each in asked:
            step()
