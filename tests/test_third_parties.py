"""Distributions of others, really installed, each in a folder of its own on the path."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from . import processes

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "plugins" / "examples" / "seqlab-ugrnn"
OTHERS = (ROOT / "docs" / "do" / "cell.md").read_text("utf-8").rpartition("```python\n")[2].partition("```")[0]
"""The class of another library on the page about cells."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Outside:
    """A user's shell in which some distributions are installed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.site = folder, folder / "site"

    def run(self, *arguments: str, code: int = 0) -> str:
        environment = {**os.environ, "PYTHONPATH": str(self.site), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        if arguments[0] == "seqlab":
            returned, out = processes.finish(processes.start(self.folder, *arguments[1:], **environment))
            assert (returned, "Traceback" in out) == (code, False), f"{arguments}\n{out}"
            return out
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, f"{arguments}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def install(self, *distributions: Path) -> None:
        self.run(
            "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--upgrade",
            "--target", str(self.site), *map(str, distributions),
        )  # fmt: skip


def distribution(folder, source, **entries):
    """Write a distribution of one package, with the entry points of each kind."""
    package = folder / folder.name.replace("-", "_")
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("", "utf-8")
    (package / "code.py").write_text(source, "utf-8")
    groups = "".join(f'[project.entry-points."seqlab.{kind}"]\n{line}\n' for kind, line in entries.items())
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        f'[project]\nname = "{folder.name}"\nversion = "1"\n{groups}',
        "utf-8",
    )
    return folder


KERNEL = """
from seqlab import Kernel
from seqlab.recurrence import Loop
from seqlab_cells.rnn import RNN

class Quick(Kernel):
    name, cell = "aquick", RNN
    def refuses(self, cells, x, lengths):
        return None
    def scan(self, cells, x, states, lengths):
        return Loop().scan(cells, x, states, lengths)
    def speed(self, cells, x, lengths):
        return 9.0
"""


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    """A shell with the example installed, and one new distribution of each kind."""
    shell = Outside(tmp_path_factory.mktemp("outside"))
    for kind in ("cell", "task", "preprocessing"):
        shell.run("seqlab", "new", kind, f"my_{kind}")
    folder = shell.folder
    shell.install(
        EXAMPLE,
        *(folder / f"seqlab-my-{kind}" for kind in ("cell", "task", "preprocessing")),
        distribution(folder / "their-cells", OTHERS, cells='their_lstm = "their_cells.code:TheirLSTM"'),
        distribution(folder / "acme-quick", KERNEL, kernels='"rnn.aquick" = "acme_quick.code:Quick"'),
    )
    return shell


LIMITS = tuple(f"trainer.limit_{split}_batches=2" for split in ("train", "val", "test"))
QUICK = ("task=names", "trainer.max_epochs=1", "trainer.progress=false", "logger=none", *LIMITS)


def test_the_example_trains_and_predicts(outside):
    out = outside.run("seqlab", "cell=ugrnn", "cell.hidden_size=64", *QUICK, "hydra.run.dir=run")
    assert "ugrnn on names" in out
    card = json.loads((outside.folder / "run" / "model.json").read_text("utf-8"))
    assert json.dumps(card).count("seqlab-ugrnn") == 1
    answers = json.loads(outside.run("seqlab", "predict", "run", "Satoshi", "--json"))
    assert len(answers["predictions"]) == 3


def test_it_sweeps_beside_a_built_in_one(outside):
    out = outside.run("seqlab", "-m", "cell=lstm,ugrnn", *QUICK, "hydra.sweep.dir=sweep")
    assert "recurrent_lstm_" in out
    assert "recurrent_ugrnn_" in out
    assert "2 runs: 2 done" in out


def test_it_is_listed_and_explained(outside):
    plugins = outside.run("seqlab", "plugins", "cell")
    assert "seqlab-ugrnn" in plugins
    assert "Update gate recurrent network" in plugins
    assert "ugrnn (seqlab-ugrnn)" in " ".join(outside.run("seqlab", "--help").split())  # lines are wrapped
    explained = outside.run("seqlab", "cell=ugrnn", "task=names", "--help")
    assert "cell.hidden_size=128" in explained
    assert "features of the state and of the output" in explained


def test_its_cell_is_at_most_30_lines_of_code():
    import ast
    import io
    import tokenize

    source = (EXAMPLE / "seqlab_ugrnn" / "__init__.py").read_text("utf-8")
    documented = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            documented |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    blank = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    code = {token.start[0] for token in tokens if token.type not in blank} - documented
    assert 0 < len(code) <= 30


@pytest.mark.parametrize("choice", ["task=my_task", "preprocessing=my_preprocessing"])
def test_a_new_distribution_trains_at_once(outside, choice):
    folder = f"hydra.run.dir=new/{choice.partition('=')[2]}"
    out = outside.run("seqlab", *QUICK[choice.startswith("task") :], "cell=my_cell", choice, folder)
    assert "python -m seqlab predict" in out


def test_their_own_tests_pass(outside):
    folders = [str(EXAMPLE), "seqlab-my-cell", "seqlab-my-task", "seqlab-my-preprocessing"]
    quiet = ["-q", "-rp", "-p", "no:cacheprovider", "-c", os.devnull, "--import-mode=importlib"]
    out = outside.run("pytest", *quiet, *folders, "-k", "not compiled")
    passed = {line.partition("::")[0].rpartition("/")[2] for line in out.splitlines() if line.startswith("PASSED")}
    assert passed == {"test_ugrnn.py", "test_my_cell.py", "test_my_task.py", "test_my_preprocessing.py"}


def test_a_cell_of_another_library_is_ten_lines(outside):
    assert len([line for line in OTHERS.splitlines() if line]) == 10
    out = outside.run("seqlab", "cell=their_lstm", "cell.hidden_size=8", "model.conv=2", *QUICK, "hydra.run.dir=theirs")
    assert "their_lstm on names" in out
    card = json.loads((outside.folder / "theirs" / "model.json").read_text("utf-8"))
    assert json.dumps(card).count("their-cells") == 1


def test_spawned_workers_find_it(outside):
    (outside.folder / "spawn.py").write_text(
        "import torch, seqlab\n"
        "from torch.utils.data import DataLoader, Dataset\n"
        "class Rows(Dataset):\n"
        "    def __init__(self, cell): self.cell = cell\n"
        "    def __len__(self): return 2\n"
        "    def __getitem__(self, index):\n"
        "        from seqlab.plugins import plugins\n"
        "        assert 'ugrnn' in plugins('cell')\n"
        "        y, _ = seqlab.Recurrent(lambda input_size: self.cell, 3)(torch.ones(4, 1, 3))\n"
        "        return y.detach()\n"
        "if __name__ == '__main__':\n"
        "    from seqlab_ugrnn import UGRNN\n"
        "    cell = UGRNN(3, 5)\n"
        "    rows = list(DataLoader(Rows(cell), num_workers=1, multiprocessing_context='spawn'))\n"
        "    assert torch.equal(rows[0], rows[1])\n"
        "    print('spawned', len(rows))\n",
        "utf-8",
    )
    assert "spawned 2" in outside.run("spawn")


def test_an_upgrade_in_place_is_picked_up(outside):
    module = outside.folder / "seqlab-my-cell" / "seqlab_my_cell" / "__init__.py"
    module.write_text(module.read_text("utf-8").replace("hidden_size: int = 128", "hidden_size: int = 96"), "utf-8")
    outside.install(outside.folder / "seqlab-my-cell")
    assert "hidden_size: 96" in outside.run("seqlab", "cell=my_cell", "task=names", "--cfg", "job")


BROKEN = {
    "import": ("import no_such_module\n", "No module named 'no_such_module'"),
    "exits": ("import sys\nsys.exit(3)\n", "SystemExit"),
    "nothing": ("", "has no Made"),
    "base": ("class Made:\n    pass\n", "Made is not a seqlab.Cell"),
    "abstract": ("from seqlab import Cell\nclass Made(Cell):\n    pass\n", "Made does not define step"),
    "signature": (
        "from seqlab import Cell\nclass Made(Cell):\n    def __init__(self, input_size, heads): pass\n"
        "    def step(self, x, state): return x, state\n",
        "its constructor needs heads, which nothing supplies",
    ),
    "function": ("def Made(input_size): pass\n", "is not a class"),
}


def test_broken_distributions_break_nothing_else(tmp_path):
    shell = Outside(tmp_path)
    for name, (source, _) in BROKEN.items():
        place = f"broken_{name}.code"
        cells, kernels = f'broken_{name} = "{place}:Made"', f'"broken_{name}.vendor" = "{place}:Kernel"'
        distribution(tmp_path / f"broken-{name}", source, cells=cells, kernels=kernels)
    shell.install(*(tmp_path / f"broken-{name}" for name in BROKEN), EXAMPLE)
    rows = {row["name"]: row for row in json.loads(shell.run("seqlab", "plugins", "cell", "--json"))}
    assert not rows["lstm"]["problem"]
    assert not rows["ugrnn"]["problem"]
    for name, (_, cause) in BROKEN.items():
        assert cause in rows[f"broken_{name}"]["problem"]
        assert f"broken-{name} 1 is broken" in rows[f"broken_{name}"]["problem"]
    shell.run("seqlab", "cell=lstm", "kernel=vendor", "cell.hidden_size=4", *QUICK, "hydra.run.dir=run")
    out = shell.run("seqlab", "cell=broken_signature", *QUICK, code=1)
    assert BROKEN["signature"][1] in out
    assert len(out.strip().splitlines()) == 1


@pytest.mark.long  # tests/seqlab/plugins/test_kernels.py shows it in one process
def test_auto_takes_a_kernel_of_others_once_it_was_checked(outside, tmp_path, monkeypatch):
    """It calls itself the fastest, and comes first in the alphabet."""
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path / "cache"))
    words = ("seqlab", "cell=rnn", "cell.hidden_size=4", *QUICK)
    before = outside.run(*words, "hydra.run.dir=before")
    assert "aquick of acme-quick 1 is not checked" in before
    assert "kernel aquick: " not in before
    assert "kernel=auto may now use aquick" in outside.run("seqlab", "check", "kernel=rnn.aquick")
    assert "kernel aquick: fastest available" in outside.run(*words, "hydra.run.dir=after")
