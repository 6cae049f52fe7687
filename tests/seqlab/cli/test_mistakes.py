"""Every command, every mistake: one line on stderr, nothing on stdout, exit code 1, and no file is left."""

import shlex
import shutil
from pathlib import Path

import pytest

from seqlab.__main__ import COMMANDS

NEEDS = {
    "predict": ["T"], "evaluate": ["--data", "t.csv"], "generate": ["--prompt", "a"], "inspect": ["T"],
    "export": ["--format", "state-dict"], "compare": ["run"], "replay": [], "verify": [], "rerun": [], "context": [],
    "status": [], "resume": [], "report": [], "board": [],
}  # fmt: skip
"""The commands that read a folder, and further arguments that each needs."""

BY_COMMAND = {
    "predict": [
        ("run --top abc x", "--top: must be a whole number >= 1, got abc"),
        ("run --top 0 x", "--top: must be a whole number >= 1, got 0"),
        ("run x --top", "--top: expected one argument"),
        ("run -Smith", "-Smith; write -- before a text that starts with a dash"),
        ("run ''", "the text '' has nothing in it to read"),
        ("run a\udcffb", "TEXT: must be UTF-8"),
        ("run --input nowhere.csv --output o.csv", "nowhere.csv: there is no such file"),
        ("run --input t.csv", "--input needs --output FILE"),
        ("run --input t.csv --output ''", "--output: must name a file or a folder"),
        ("run --input t.csv --output o.xls", "o.xls: answers are written as one of .csv, .tsv"),
        ("run --input t.csv --output empty.csv", "empty.csv is a folder"),
        ("run --input t.csv --column nope --output o.csv", "t.csv has no column 'nope'; there are text, label"),
        ("run --input t.csv --output o.csv Banana", "not both"),
        ("run --input t.csv --output o.csv --top 2", "--top and --json go with texts"),
        ("run --output o.csv Banana", "go with --input FILE"),
        ("run --quoting none Banana", "go with --input FILE"),
    ],
    "evaluate": [
        ("run", "--data"),
        ("run --data empty", "empty has no texts; it must have a folder for each label"),
        ("run --data no.csv", "no.csv: there is no such file"),
        ("run --data t.csv --text-column review", "no column 'review'; there are text, label"),
        ("run --data t.csv --label-column stars", "no column 'stars'; there are text, label"),
        ("run --data t.csv --worst -1", "--worst: must be a whole number >= 0, got -1"),
    ],
    "generate": [("run --prompt -a", "--prompt: expected one argument"), ("run --prompt a", "task=lm")],
    "export": [("run --format x", "invalid choice: 'x'"), ("run --format state-dict --out file", "there already")],
    "inspect": [
        ("run", "required: TEXT"),
        ("run ''", "has nothing in it to read"),
        ("run Banana --layer 1", "--layer must be between 0 and 0, got 1"),
        ("run Banana --layer x", "--layer must be a number >= 0, last or all, got x"),
        ("run Bob --out x.xyz", "--out: must end in one of .png, .svg, .pdf, got x.xyz"),
    ],
    "context": [
        ("run --tokens -1", "--tokens: must be a whole number >= 2, got -1"),
        ("run --lengths 5,x", "--lengths: must be a whole number >= 1, got x"),
        ("run", "its task predicts no next token"),
    ],
    "compare": [("run", "required: B"), ("a b", "a is no folder"), ("a b --in nowhere", "nowhere is no folder")],
    "report": [("run run", "--out"), ("run --out ''", "--out: must name a file or a folder")],
    "status": [
        ("run --every -1", "--every must be a number of seconds > 0, got -1"),
        ("run --every nan", "--every must"),
    ],
    "resume": [("run foo", "foo: resume takes one sweep")],
    "reproduce": [
        ("nope", "nope: there is no such recipe; there are bengio/latching, "),
        ("cell=gru", "cell=gru is no recipe; name one first"),
        ("tcn/adding600 tcn/copying1000", "reproduce takes one recipe"),
        ("tcn/adding600 --seeds 0", "--seeds: must be a whole number >= 1, got 0"),
        ("tcn/adding600 --only gru,gruu", "--only gruu: tcn/adding600 has no such row; it has gru, lstm, rnn"),
    ],
    "check": [
        ("", "required: KIND=NAME"),
        ("lstm", "lstm must be KIND=NAME, KIND one of cell, kernel, task, preprocessing"),
        ("model=bow", "model=bow must be KIND=NAME"),
        ("cell=lstmm", "cell=lstmm: there is no such cell; there are "),
        ("kernel=vendor", "kernel=vendor must name its cell: kernel=gru.vendor or "),
        ("kernel=nothing", "kernel=nothing: there is no such kernel; there are deltanet.chunked, "),
        ("cell=gru kernel=nothing", "kernel=gru.nothing: there is no such kernel; there are "),
        ("cell=lstm kernel=gru.vendor", "kernel=gru.vendor is for cell=gru, but cell=lstm was given"),
        ("cell=fused_gru kernel=vendor", "cell=fused_gru is cell=gru with kernel=fused, but kernel=vendor was given"),
        ("cell=gru kernel=auto", "kernel=auto chooses a kernel; check one of "),
        ("cell=gru cell=lstm", "cell=lstm: cell is gru already; check one cell at a time"),
        ("cell=gru task=names", "cell=gru task=names: check one plugin at a time"),
        ("kernel=gru.fused kernel.nothing=1", "kernel.nothing: "),
        ("cell=lstm hidden_size=3", "hidden_size=3: an option must be cell.KEY=VALUE"),
        ("cell=lstm cell.hidden=3", "cell.hidden: "),
        ("cell=lstm --only nothing", "nothing: there is no such check; there are shapes_and_dtypes, "),
    ],
    "bench": [
        ("--runs 0", "--runs: must be a whole number >= 1, got 0"),
        ("--csv nowhere/x.csv", "there is no folder nowhere"),
        ("--plot x.xyz", "--plot: must end in one of"),
        ("--shapes 2x3", "--shapes: shape must be"),
        ("--cells gru --kernels fast --shapes 3x4x2x5", "--kernels: gru has no kernel fast; it has loop, compiled"),
    ],
    "card": [
        ("", "required: cell=NAME"),
        ("gru", "gru must be cell=NAME"),
        ("cell=lstmm --quick", "lstmm"),
        ("cell=gru --wrong", "unrecognized arguments: --wrong"),
        ("cell=gru task=first", "task=first: an option must be cell.KEY=VALUE"),
        ("cell=gru cell.hidden_size=8", "cell.hidden_size=8: the protocol sets the size"),
        ("cell=gru --protocol nowhere.yaml", "nowhere.yaml: there is no such file"),
        ("cell=gru --protocol file", "--protocol file must name a YAML file"),
        ("cell=gru --quick --protocol mine.yaml", "exclude each other"),
    ],
    "tune": [
        ("foo", "foo: this is no option"),
        ("--minutes 0", "--minutes: must be a number of minutes > 0, got 0"),
        ("--trials 0", "--trials: must be a whole number >= 1, got 0"),
        ("task=names cell=lstmm", "lstmm"),
        ("task=names model=recurrent,nope", "model=nope: there is no such model"),
        ("task=names model.nope=1,2", "model.nope=1,2: no candidate of model has this option"),
        ("task=names optimizer.lr='interval(1,0.1)'", "high must be > 1"),
        ("task=names task.data_dir=nowhere", "no such folder"),
        ("task=names --metric nope", "--metric nope: the task has accuracy"),
        ("task=names trainer.devices=2", "tune trains each trial on one device"),
        ("task=names hydra.run.dir=x", "hydra.run.dir=x: tune has no settings of Hydra"),
        ("task=names task.folds=5", "task.folds: tune compares settings on one division"),
    ],
    "board": [("run", "run is no card: it has no card.json"), ("run run", "is given twice")],
    "new": [
        ("cell", "required: NAME"),
        ("foo x", "invalid choice: 'foo'"),
        ("cell My-Cell", "My-Cell: a name must consist of lower-case letters"),
        ("cell class", "class: a name must"),
        ("cell ../x", "../x: a name must"),
        ("cell lstm", "cell=lstm already exists, from seqlab; choose another name"),
        ("cell mine --dir file", "file"),
    ],
    "plugins": [("nope", "invalid choice: 'nope'")],
    "data": [
        ("foo", "foo: this is no option"),
        ("cell=gru,lstm", "several values need a sweep"),
        ("--examples -1", "--examples: must be a whole number >= 0, got -1"),
        ("foo=1", "no such key"),
        ("task=names task.data_dir=nowhere", "no such folder"),
        ("task=lm task.data=empty", "is a folder"),
    ],
    "fetch": [("foo", "foo: this is no option"), ("task=names task.data_dir=nowhere", "no such folder")],
    "verify": [("run extra", "unrecognized arguments: extra")],
    "rerun": [("run --out run", "run is there already")],
    "replay": [("run", "run has no step.json")],
}
TRAINING = [
    ("--wrong", "--wrong: there is no such flag"),
    ("--cfg", "expected one argument"),
    ("--cfg nope", "invalid choice"),
    ("foo", "there is no such command"),
    ("Predict run", "Predict: this is no option; an option is key=value"),
    ("task=names extra", "extra: this is no option"),
    ("-5", "-5"),
    ("''", "an argument is empty"),
    ("hydra.run.dir=", "hydra.run.dir must be the name of a folder"),
    ("-m hydra.sweep.dir=''", "hydra.sweep.dir must be the name of a folder"),
    (r"""'hydra.run.dir="\${x}/run"'""", "Hydra takes ${ in the name of a folder for an interpolation"),
    ("hydra/sweeper=horizon task=first", "add -m, or set task.sequence_length for one"),
    ("-m cell=lstmm,rnn", "cell=lstmm: there is no such cell"),
    ("-m seed=0,1 hiden=3", "hiden"),
    ("-m seed=0,1 fresh=yes", "fresh=yes: fresh must be true or false"),
]


@pytest.fixture
def mistake(cli, tongues, tmp_path, monkeypatch):
    """Run a command that must be refused, in a folder with a run, a file, empty folders and a table."""
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
        monkeypatch.setenv(name, str(1 << 32))  # else bench replaces this process
    shutil.copytree(tongues, tmp_path / "run")
    (tmp_path / "file").write_text("x", "utf-8")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.csv").mkdir()
    (tmp_path / "t.csv").write_text("text,label\nBanana,Aaish\n", "utf-8")
    before = sorted(tmp_path.rglob("*"))

    def run(*arguments, message):
        done = cli(*arguments)
        done.refused(message)
        assert not done.out
        assert sorted(tmp_path.rglob("*")) == before, arguments

    return run


def test_every_command_is_here():
    assert set(BY_COMMAND) == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_mistake_is_one_line(mistake, command):
    """A wrong option, and for a folder: none, a missing one, a file, an empty one, an empty or a long name."""
    if command in NEEDS:
        needs = NEEDS[command]
        mistake(command, message="required")
        mistake(command, "run", *needs, "--wrong", message="--wrong")
        for place in ("nowhere", "file", "empty", "/dev/null"):
            mistake(command, place, *needs, message=place)
        mistake(command, "", *needs, message="must name a file or a folder, got an empty text")
        mistake(command, "x" * 300, *needs, message="x" * 300)
    elif command not in ("card", "check", "new"):
        mistake(command, "--wrong", message="unrecognized arguments: --wrong")
    for typed, message in BY_COMMAND[command]:
        mistake(command, *shlex.split(typed), message=message)


def test_a_mistake_in_a_training_command_is_one_line(mistake):
    for typed, message in TRAINING:
        mistake(*shlex.split(typed), message=message)


def test_a_folder_that_hydra_cannot_name(cli, tmp_path, monkeypatch):
    (tmp_path / "${x}").mkdir()
    monkeypatch.chdir(tmp_path / "${x}")
    for arguments in (["seed=1"], ["-m", "seed=1,2"]):
        done = cli(*arguments)
        assert done.code == 1
        assert "Hydra takes ${ in the name of a folder for an interpolation" in done.err
    assert not list(Path().iterdir())
    for search in ([], ["hydra/sweeper=horizon"]):
        assert cli("cell=rnn", *search, "--cfg", "job").code == 0


def test_texts_that_begin_with_a_dash(cli, tongues):
    for typed in (["-5"], ["--", "-Banana"], ["--json", "--", "Banana", "-Bonobo"]):
        done = cli("predict", str(tongues), *typed)
        assert done.code == 0, done.err
        assert typed[-1] in done.out


def test_a_working_folder_that_is_gone(cli, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for arguments in (["status", "run"], ["task=names"], ["plugins"]):
        done = cli(*arguments)
        assert done.code == 1
        assert done.err == "the working folder cannot be used (No such file or directory): cd to another one\n"


ODD = ["a b", "it's", "x=y", "a,b", "ümläut\\", "-dash", "[x]", "$HOME"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ['-a, "b=', *(pytest.param(name, marks=pytest.mark.long) for name in ODD)])
def test_printed_commands_run(cli, tongues, tmp_path, name):
    """Train in an odd folder and run the printed command; resume a sweep in one."""
    from seqlab.io.formatting import hydra_override

    quick = [
        "trainer.max_epochs=1", "trainer.limit_train_batches=1", "cell.hidden_size=4", "logger=none", "cell=rnn",
        "trainer.progress=false", f"task.data_dir={tongues.parent}",
    ]  # fmt: skip
    done = cli(*quick, hydra_override("hydra.run.dir", f"{name}/run"))
    assert done.code == 0, done.err
    assert (tmp_path / name / "run" / "results.json").exists()
    (shown,) = [line for line in done.out.split("\n") if "try it" in line]
    (_, *_, message) = shown.partition("python -m seqlab ")
    assert cli(*shlex.split(message)).code == 0
    sweep = hydra_override("hydra.sweep.dir", f"{name}/sweep")
    assert cli("-m", *quick, "seed=0,1", sweep).code == 0
    for run in (tmp_path / name / "sweep").iterdir():
        if (run / "results.json").exists():
            shutil.rmtree(run)
            break
    done = cli("resume", str(Path("./", name, "sweep")) if not name.startswith("-") else f"./{name}/sweep")
    assert "2 runs: 2 done" in done.out, done.err
