"""Every command of a page, one after another; training gets few steps, sweeps two seeds, the rest is as typed."""

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seqlab.plugins.registry import plugins

DOCS = Path(__file__).resolve().parents[2] / "docs"
FENCE = re.compile(r"^```(python|sh)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LIMITS = [f"trainer.limit_{split}_batches=2" for split in ("train", "val", "test")]
PAGES = [
    "start/install", "start/run", "start/sweep", "do/cell", "do/data", "do/distances", "do/preprocessing", "do/resume",
    "do/task",
]  # fmt: skip


class Shell:
    """A person who follows a page: types its commands, runs its Python, puts its classes where it says."""

    def __init__(self, cli, folder, monkeypatch):
        self.cli, self.folder, self.monkeypatch = cli, folder, monkeypatch
        self.code = ""
        """The page's plugin."""
        self.names = {"__name__": "page"}
        """What its Python has defined so far."""
        self.second = 0
        """When a training run began last."""

    def python(self, code):
        if "class " in code:
            self.code = self.code or code
        if "CellSuite" not in code and "Recurrent(" not in code:  # the cell's page; test_guides.py runs its Python
            exec(compile(code, "page", "exec"), self.names)

    def type(self, line):
        words = [each for word in shlex.split(line) for each in self.spread(word)]
        if words[:2] == ["pip", "install"]:
            return self.install(self.folder / words[2])
        if words[:3] != ["python", "-m", "seqlab"]:
            return subprocess.run(words, check=True, capture_output=True, text=True).stdout
        if words[3] == "check" and words[4].startswith("cell="):
            return self.apart(*words[1:])
        words = words[3:]
        trains = words[0] == "-m" or "=" in words[0]
        if trains and not {"--help", "--cfg"} & set(words):
            words = [re.sub(r"^(trainer\.max_epochs)=([5-9]|\d\d+)$", r"\1=1", word) for word in words]
            epochs = [] if any(word.startswith("trainer.max_epochs=") for word in words) else ["trainer.max_epochs=1"]
            words = [word.replace("seed=0,1,2", "seed=0,1") for word in words]
            words = ["trainer.max_minutes=0.02" if "max_minutes=" in word else word for word in words]
            words += [*epochs, *LIMITS, "trainer.progress=false"]
            while int(time.time()) == self.second:  # a run's folder is named by the second, and nobody types two in one
                time.sleep(0.05)
            self.second = int(time.time())
        done = self.cli(*words)
        assert done.code == 0, f"{line}\n{done.out}\n{done.err}"
        assert "Traceback" not in done.err
        return done.out

    def apart(self, *words):
        """Run in a process of its own: torch.compile cannot see through the shapes that are checked in this one."""
        environment = {**os.environ, "PYTHONPATH": str(self.folder / "site"), "JAXTYPING_DISABLE": "1"}
        done = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def spread(self, word):
        return sorted(map(str, Path().glob(word))) if "*" in word else [word]

    def install(self, distribution):
        """Install what the page made, with the page's class, if it has one, in place of the template's."""
        module = distribution / distribution.name.replace("-", "_") / "__init__.py"
        if self.code:
            module.write_text(self.code, "utf-8")
        site = self.folder / "site"
        pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
        pip += ["--no-build-isolation", "--target", str(site), str(distribution)]
        done = subprocess.run(pip, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        self.monkeypatch.syspath_prepend(site)
        plugins.cache_clear()
        return done.stdout


@pytest.fixture
def shell(cli, tmp_path, monkeypatch):
    """Begin in an empty folder; what it installs is gone afterwards."""
    yield Shell(cli, tmp_path, monkeypatch)
    plugins.cache_clear()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", PAGES)
def test_the_commands_of_a_page_work_as_typed(name, shell):
    page = (DOCS / f"{name}.md").read_text("utf-8")
    typed = 0
    for language, body in FENCE.findall(page):
        if language == "python":
            shell.python(body)
            continue
        for line in body.replace("\\\n", " ").splitlines():
            shell.type(line)
            typed += 1
    assert typed >= 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rnn", "vanishing", "reach", "lstm"])
def test_the_commands_of_a_tutorial_work_as_typed(name, shell):
    """Its Python is run by test_learn.py."""
    page = (DOCS / "learn" / f"{name}.md").read_text("utf-8")
    lines = [line for language, body in FENCE.findall(page) if language == "sh" for line in body.split("\n")[:-1]]
    commands = "\n".join(lines).replace("\\\n", " ").splitlines()
    assert commands
    for line in commands:
        shell.type(line)


def test_a_command_that_is_wrong_would_be_seen(shell):
    with pytest.raises(AssertionError, match="hiden_size"):
        shell.type("python -m seqlab cell=gru cell.hiden_size=64")


def test_every_key_that_is_typed_in_a_page_exists():
    """Of the pages that no test runs: a key that was renamed must be renamed there, too."""
    from seqlab.config.compose import compose

    line = re.compile(r"^(?:    )?python -m seqlab ((?:\S+=\S* ?)+)(?:#.*)?$", re.MULTILINE)
    pages = [path for path in sorted(DOCS.glob("*/*.md")) if f"{path.parent.name}/{path.stem}" not in PAGES]
    texts = [re.sub(r"\\\n\s*", "", path.read_text("utf-8")) for path in pages]
    found = {typed.strip() for text in texts for typed in line.findall(text)}
    whole = {typed for typed in found if not re.search(r"\.\.\.|,", typed)}
    assert len(whole) > 5
    for typed in sorted(whole):
        compose([word for word in shlex.split(typed) if not word.startswith("hydra.run.dir=")])
