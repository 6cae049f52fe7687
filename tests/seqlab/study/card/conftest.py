"""A protocol of seconds, and the card of a small GRU by it."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from seqlab.cli.commands.check import suite_of
from seqlab.study.card.card import Card
from seqlab.study.card.protocol import load
from seqlab.study.card.subject import choose_subject
from seqlab.testing import run_suite

MICRO = """
version: micro
minutes: 0.1
seeds: 1
learning_rates: [0.01]
parameters: 900
size: [task=first]
words: [model.embedding_size=4, trainer.threads=1, trainer.progress=false, trainer.max_epochs=2, task.held_out=50,
  task.examples=64, data.batch_size=16, logger=csv, kernel=loop]
cost: {rows: 2, steps: 4, inputs: 4, rounds: 2}
reach:
  tasks: [first]
  words: []
  settings: {start: 2, max_distance: 2, resolution: 1, confirm_seeds: 0, check_budget: false}
parts:
  tracking:
    title: State tracking
    text: Trained on lengths that grow to 4.
    kind: lengths
    limits: [0, 1]
    trained: 4
    tested: [4, 8]
    words: [task.start_length=2]
    rows:
      parity: {words: [task=parity]}
      unknown: {words: [task=no_such_task]}
  capacity:
    title: Capacity
    text: Copy symbols.
    kind: bits
    limits: [0, 1]
    words: [task=copying, task.sequence_length=1, task.choices=2]
    rows:
      2 symbols: {words: [task.copied=2], bits: 2, steps: 5}
"""


class Silent:
    """Progress that counts."""

    def __init__(self):
        self.stages, self.runs = [], 0

    def begin(self, stage, runs=0):
        self.stages.append(stage)
        self.left = runs

    def advance(self):
        self.runs += 1


def one_check():
    """The first conformance tests of a GRU, without those that take long."""
    suite = suite_of(["cell=gru"]).suite
    return [vars(each) for each in run_suite(suite, next(iter(suite.checks())))]


def make(folder, protocol):
    """Make the card of a GRU, or go on with it."""
    progress = Silent()
    subject = choose_subject("gru", [], protocol)
    record = Card(protocol, subject, folder, "python -m seqlab card cell=gru").make(1, one_check, progress)
    return SimpleNamespace(record=record, progress=progress, folder=folder, protocol=protocol, subject=subject)


@pytest.fixture(scope="session")
def micro(tmp_path_factory):
    """Path of the protocol."""
    path = tmp_path_factory.mktemp("protocol") / "micro.yaml"
    path.write_text(MICRO, "utf-8")
    return path


@pytest.fixture(scope="session")
def made(tmp_path_factory, micro):
    """The card of a GRU."""
    return make(Path(tmp_path_factory.mktemp("cards")) / "gru", load(str(micro)))
