"""Every command, every mistake: one line on stderr, nothing on stdout, exit code 1, and nothing is left."""

import shlex
import shutil
from pathlib import Path

import pytest

from seqlab.__main__ import COMMANDS

NEEDS = {
    "predict": ["T"], "evaluate": ["--data", "t.csv"], "generate": ["--prompt", "a"], "inspect": ["T"],
    "export": ["--format", "state-dict"], "compare": ["run"], "replay": [], "verify": [], "rerun": [], "context": [],
    "status": [], "resume": [], "report": [],
}  # fmt: skip
"""The verbs that read a folder, and what else each of them must be given."""

BY_VERB = {
    "predict": [
        ("run --top abc x", "--top: invalid int value: 'abc'"),
        ("run --top 0 x", "--top is 0; it must be at least 1"),
        ("run x --top", "--top needs a value"),
        ("run -Smith", "there is no option -Smith; a text that begins with a dash goes after --"),
        ("run ''", "nothing in it to read"),
        ("run --input nowhere.csv --output o.csv", "nowhere.csv: there is no such file"),
        ("run --input t.csv", "--input needs --output FILE"),
        ("run --input t.csv --output ''", "--output: it is empty"),
        ("run --input t.csv --column nope --output o.csv", "t.csv has no column 'nope'"),
    ],
    "evaluate": [
        ("run", "--data must be given"),
        ("run --data empty", "empty holds no texts"),
        ("run --data t.csv --worst -1", "--worst is -1"),
    ],
    "generate": [("run --prompt -a", "--prompt needs a value; one that begins with a dash is written --prompt=VALUE")],
    "export": [("run --format x", "invalid choice: 'x'"), ("run --format state-dict --out file", "there already")],
    "inspect": [("run", "TEXT must be given"), ("run Bob --out x.xyz", "a picture's name ends in")],
    "context": [("run --tokens -1", "--tokens is -1"), ("run", "its task predicts no next token")],
    "compare": [("run", "B must be given"), ("a b --in nowhere", "nowhere is no folder")],
    "report": [("run run", "--out"), ("run --out ''", "--out: it is empty")],
    "status": [("run --every -1", "--every is -1"), ("run --every nan", "--every is nan")],
    "resume": [("run foo", "foo: there is one sweep at a time")],
    "reproduce": [("nope", "there is no such recipe"), ("tcn/adding600 --seeds 0", "--seeds is 0")],
    "check": [("", "KIND=NAME must be given"), ("foo", "what is to be checked"), ("cell=nope", "no such cell")],
    "bench": [
        ("--runs 0", "--runs is 0; it must be at least 1"),
        ("--threads -1", "--threads is -1"),
        ("--csv nowhere/x.csv", "there is no folder nowhere"),
        ("--plot x.xyz", "a picture's name ends in"),
    ],
    "new": [
        ("cell", "NAME must be given"),
        ("foo x", "invalid choice: 'foo'"),
        ("cell 1x", "a name must consist of lower-case letters"),
    ],
    "plugins": [("nope", "invalid choice: 'nope'")],
    "data": [
        ("foo", "foo: this is no option"),
        ("--examples -1", "--examples must be >= 0, got -1"),
        ("foo=1", "no such key"),
    ],
    "fetch": [("foo", "foo: this is no option")],
    "verify": [("run extra", "too many arguments: extra")],
    "rerun": [("run --out run", "run is there already")],
    "replay": [("run", "keeps no step")],
}
TRAINING = [
    (["--wrong"], "--wrong: there is no such flag"),
    (["--cfg"], "expected one argument"),
    (["--cfg", "nope"], "invalid choice"),
    (["foo"], "there is no such verb"),
    (["Predict", "run"], "Predict: this is no option; an option is key=value"),
    (["task=names", "extra"], "extra: this is no option"),
    (["-5"], "-5: this is no option"),
    ([""], "an argument is empty"),
    (["hydra.run.dir="], "hydra.run.dir must be the name of a folder"),
    (["-m", "hydra.sweep.dir=''"], "hydra.sweep.dir must be the name of a folder"),
    ([r'hydra.run.dir="\${x}/run"'], "Hydra takes ${ in the name of a folder for an interpolation"),
]


@pytest.fixture
def mistake(cli, tongues, tmp_path, monkeypatch):
    """Run a command that must be refused, among a run, a file, an empty folder and a table."""
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
        monkeypatch.setenv(name, str(1 << 32))  # with which bench starts itself anew
    shutil.copytree(tongues, tmp_path / "run")
    (tmp_path / "file").write_text("x", "utf-8")
    (tmp_path / "empty").mkdir()
    (tmp_path / "t.csv").write_text("text,label\nBanana,Aaish\n", "utf-8")
    before = sorted(tmp_path.rglob("*"))

    def run(*arguments, said):
        done = cli(*arguments)
        lines = [line for line in done.err.split("\n") if line]
        assert done.code == 1, (arguments, done)
        assert len(lines) == 1, (arguments, done.err)
        assert said in lines[0], (arguments, lines[0])
        assert not done.out, (arguments, done.out)
        assert sorted(tmp_path.rglob("*")) == before, arguments

    return run


def test_every_verb_is_here():
    assert set(BY_VERB) == set(COMMANDS)


@pytest.mark.parametrize("verb", COMMANDS)
def test_a_mistake_is_one_line(mistake, verb):
    """A wrong option, and where a verb reads a folder: none, one that is not there, a file, an empty one, no name."""
    needs = NEEDS.get(verb, [])
    if verb in NEEDS:
        mistake(verb, said="must be given")
        mistake(verb, "run", *needs, "--wrong", said="there is no option --wrong")
        for place in ("nowhere", "file", "empty", "/dev/null"):
            mistake(verb, place, *needs, said=place)
        mistake(verb, "", *needs, said="it is empty, where a file or a folder must be named")
        mistake(verb, "x" * 300, *needs, said="x" * 300)
    elif verb not in ("check", "new"):
        mistake(verb, "--wrong", said="there is no option --wrong")
    for typed, said in BY_VERB[verb]:
        mistake(verb, *shlex.split(typed), said=said)


def test_a_mistake_in_a_training_command_is_one_line(mistake):
    for arguments, said in TRAINING:
        mistake(*arguments, said=said)


def test_a_folder_that_hydra_cannot_name(cli, tmp_path, monkeypatch):
    (tmp_path / "${x}").mkdir()
    monkeypatch.chdir(tmp_path / "${x}")
    for arguments in (["seed=1"], ["-m", "seed=1,2"]):
        done = cli(*arguments)
        assert done.code == 1
        assert "Hydra takes ${ in the name of a folder for an interpolation" in done.err
    assert not list(Path().iterdir())
    assert cli("cell=rnn", "--cfg", "job").code == 0


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
        assert done.err == "the working folder cannot be used (No such file or directory): cd to one that is there\n"


ODD = ["a b", "it's", "x=y", "a,b", "ümläut\\", "-dash", "[x]", "$HOME"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ['-a, "b=', *(pytest.param(name, marks=pytest.mark.long) for name in ODD)])
def test_what_is_printed_can_be_typed(cli, tongues, tmp_path, name):
    """Train in an odd folder and type what is printed; begin a sweep in one, lose a run, and go on."""
    from seqlab.runs.commands import hydra_override

    quick = [
        "trainer.max_epochs=1", "trainer.limit_train_batches=1", "cell.hidden_size=4", "logger=none", "cell=rnn",
        "trainer.progress=false", f"task.data_dir={tongues.parent}",
    ]  # fmt: skip
    done = cli(*quick, hydra_override("hydra.run.dir", f"{name}/run"))
    assert done.code == 0, done.err
    assert (tmp_path / name / "run" / "results.json").exists()
    (shown,) = [line for line in done.out.split("\n") if "try it" in line]
    (_, *_, said) = shown.partition("python -m seqlab ")
    assert cli(*shlex.split(said)).code == 0
    sweep = hydra_override("hydra.sweep.dir", f"{name}/sweep")
    assert cli("-m", *quick, "seed=0,1", sweep).code == 0
    for run in (tmp_path / name / "sweep").iterdir():
        if (run / "results.json").exists():
            shutil.rmtree(run)
            break
    done = cli("resume", str(Path("./", name, "sweep")) if not name.startswith("-") else f"./{name}/sweep")
    assert "2 runs: 2 done" in done.out, done.err
