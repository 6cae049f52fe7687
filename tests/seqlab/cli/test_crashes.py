"""A crash in a third party's plugin names the plugin, its distribution and version, and the file and line."""

import json
from pathlib import Path

import pytest
import torch

from seqlab.plugins.diagnostics import raising_plugin
from seqlab.plugins.registry import plugins

CODE = '''
import pytorch_lightning as pl
import torch
from crashing.helpers import look_up
from seqlab import Cell, Kernel
from seqlab_preprocessing.characters import Characters
from seqlab_tasks.names import Names


class Broken(Cell):
    """A cell."""

    def __init__(self, input_size: int, hidden_size: int = 4, where: str = "step") -> None:
        super().__init__(input_size, hidden_size)
        self.where = where
        if where == "constructor":
            {}["cell"]  # constructor of the cell
        self.layer = torch.nn.Linear(input_size + hidden_size, hidden_size)

    def step(self, x, state):
        if self.where == "step":
            look_up("step")
        if self.where == "numpy":
            int("no number")  # ValueError in a step
        if self.where == "shape":
            return x[:, :1], state
        h = torch.tanh(self.layer(torch.cat([x, *state], 1)))
        return h, (h,)


class Wrong(Names):
    """A task."""

    def __init__(self, data_dir: str | None = None, where: str = "") -> None:
        super().__init__(data_dir=data_dir)
        self.where = where
        if where == "says":
            raise ValueError("where is says; it must be something else")

    def splits(self):
        if self.where == "splits":
            [][3]  # splits
        if self.where == "unpack":
            first, second = [1]  # unpack
        return super().splits()

    def loss(self, outputs, batch):
        if self.where == "loss":
            torch.ones(2) @ torch.ones(3)  # loss
        return super().loss(outputs, batch)


class Odd(Characters):
    """A preprocessor."""

    def fit(self, texts):
        None.fit  # fit


class Watching(pl.Callback):
    """A callback."""

    def on_train_batch_end(self, *_):
        1 / 0  # callback


class Fast(Kernel):
    """A kernel."""

    name = "fast"
    cell = Broken

    def refuses(self, cells, x, lengths):
        return None

    def scan(self, cells, x, states, lengths):
        assert 1 == 2  # kernel


def no_text(text: str) -> str:
    """A step."""
    return text and {}[text]  # text
'''
HELPERS = "def look_up(key):\n    return {}[key]  # step\n"
ENTRIES = """
[seqlab.cells]
broken = crashing:Broken
[seqlab.kernels]
broken.fast = crashing:Fast
[seqlab.tasks]
wrong = crashing:Wrong
[seqlab.preprocessing]
odd = crashing:Odd
[seqlab.callbacks]
watching = crashing:Watching
[seqlab.steps]
no_text = crashing:no_text
"""


@pytest.fixture
def crashing(tmp_path, monkeypatch):
    """A distribution as an installer leaves it: a package and its metadata on the path."""
    site = tmp_path / "site"
    (site / "crashing").mkdir(parents=True)
    (site / "crashing" / "__init__.py").write_text(CODE, "utf-8")
    (site / "crashing" / "helpers.py").write_text(HELPERS, "utf-8")
    metadata = site / "crashing_things-1.5.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: crashing-things\nVersion: 1.5\n", "utf-8")
    (metadata / "entry_points.txt").write_text(ENTRIES, "utf-8")
    monkeypatch.syspath_prepend(str(site))
    plugins.cache_clear()
    yield site / "crashing"
    monkeypatch.undo()
    plugins.cache_clear()


def line_of(folder, mark):
    for file in ("__init__.py", "helpers.py"):
        for number, line in enumerate((folder / file).read_text("utf-8").split("\n"), start=1):
            if line.endswith(f"# {mark}"):
                return f"crashing/{file}:{number}"
    raise AssertionError(mark)


CRASHES = [
    (["cell=broken", "cell.where=constructor"], "cell=broken", "KeyError: 'cell'", "constructor of the cell"),
    (["cell=broken", "kernel=loop"], "cell=broken", "KeyError: 'step'", "step"),
    (
        ["cell=broken", "cell.where=numpy", "kernel=loop"],
        "cell=broken",
        "ValueError: invalid literal",
        "ValueError in a step",
    ),
    (["cell=broken", "cell.where=none", "kernel=fast"], "kernel=fast", "AssertionError", "kernel"),
    (["task=wrong", "task.where=splits"], "task=wrong", "IndexError: list index out of range", "splits"),
    (["task=wrong", "task.where=unpack"], "task=wrong", "not enough values to unpack", "unpack"),
    (["task=wrong", "task.where=loss"], "task=wrong", "RuntimeError", "loss"),
    (["preprocessing=odd"], "preprocessing=odd", "AttributeError", "fit"),
    (["callbacks=watching"], "callbacks=watching", "ZeroDivisionError", "callback"),
    (["preprocessing.steps=[no_text]"], "step no_text", "KeyError", "text"),
]


SLOW = ("numpy", "kernel=fast", "callbacks", "loss", "unpack")


@pytest.mark.parametrize(
    ("arguments", "who", "message", "mark"),
    [
        pytest.param(*row, id=" ".join(row[0]), marks=[pytest.mark.slow] if any(s in str(row[0]) for s in SLOW) else [])
        for row in CRASHES
    ],
)
def test_a_crash_names_the_plugin(cli, crashing, names_folder, arguments, who, message, mark):
    quick = ("trainer.max_epochs=1", "trainer.limit_train_batches=1", "logger=none", "hydra.run.dir=out")
    done = cli(*quick, "cell.hidden_size=4", f"task.data_dir={names_folder}", *arguments)
    (line,) = [line for line in done.err.splitlines() if line.strip()]
    assert done.code == 1
    assert message in line
    assert f"({who} of crashing-things 1.5 failed at {line_of(crashing, mark)}" in line
    assert "a bug of seqlab" not in line
    if "error.txt" in line:
        assert mark in Path("out/error.txt").read_text("utf-8")


def test_a_message_of_a_plugin_for_users_is_unchanged(cli, crashing):
    done = cli("task=wrong", "task.where=says", "hydra.run.dir=out")
    assert done.err.strip() == "task.where is says; it must be something else"


def test_a_crash_elsewhere_names_what_is_in_use(cli, crashing, names_folder):
    """What a plugin returned crashes in seqlab: no frame of the traceback is the plugin's."""
    broken = ("cell=broken", "cell.where=shape", "kernel=loop")
    done = cli(f"task.data_dir={names_folder}", *broken, "logger=none", "hydra.run.dir=out")
    assert done.code == 1
    assert "a bug of seqlab or of a plugin in use: cell=broken of crashing-things 1.5;" in done.err


def test_a_crash_in_a_worker_process_is_attributed_by_its_text(crashing):
    """A worker of a data loader hands on its traceback as text alone."""
    import crashing as module

    dataset = [torch.zeros(1)]
    loader = torch.utils.data.DataLoader(dataset, num_workers=1, collate_fn=lambda rows: module.look_up("worker"))
    with pytest.raises(KeyError) as caught:
        next(iter(loader))
    assert f"of crashing-things 1.5 failed at {line_of(crashing, 'step')}" in raising_plugin(caught.value)


def test_other_commands_name_it_too(cli, crashing, tongues, tmp_path):
    card = json.loads((tongues / "model.json").read_text("utf-8"))
    card["cell"] |= {"name": "broken", "parameters": {"hidden_size": 8, "where": "constructor"}}
    (tmp_path / "run").mkdir()
    for file in tongues.iterdir():
        if file.is_file() and file.name != "model.json":
            (tmp_path / "run" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "run" / "model.json").write_text(json.dumps(card), "utf-8")
    done = cli("predict", "run", "Babala")
    assert done.code == 1
    assert f"(cell=broken of crashing-things 1.5 failed at {line_of(crashing, 'constructor of the cell')})" in done.err
