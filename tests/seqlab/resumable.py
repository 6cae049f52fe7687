"""Small runs, interrupted runs, and the contents of their folders."""

import json
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import load_file

from seqlab.runs.run_folder import MODEL, RESULTS, RESUME

FAST = [
    "task=names", "cell=gru", "cell.hidden_size=4", "model.embedding_size=4", "data.batch_size=64", "logger=none",
    "trainer.progress=false", "trainer.threads=1", "optimizer.schedule=constant", "optimizer.warmup=0",
]  # fmt: skip


THREE = {"Aaish": "aa ba na la", "Ooish": "oo bo no lo", "Eeish": "ee be ne le"}


def write_names(folder, parts=THREE):
    """Write invented languages that can be told apart, 64 names each; return the folder."""
    folder.mkdir(exist_ok=True)
    for language, syllables in parts.items():
        several = syllables.split()
        names = sorted({(a + b + c).capitalize() for a in several for b in several for c in several})
        (folder / f"{language}.txt").write_text("\n".join(names) + "\n", "utf-8")
    return folder


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def record_of(folder):
    return json.loads((folder / RESULTS).read_text("utf-8"))


def checkpoint_of(folder):
    return torch.load(folder / RESUME, weights_only=True)


def weights_of(folder):
    return load_file(folder / MODEL)


def last(folder):
    """Weights and optimiser moments of the last step."""
    saved = checkpoint_of(folder)
    moments = saved["optimizer_states"][0]["state"].items()
    return {**saved["state_dict"], **{f"{key}.{name}": v for key, entry in moments for name, v in entry.items()}}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class InterruptedRunError(Exception):
    """The process crashed."""


@contextmanager
def interrupted(epoch, batch):
    """Expect the run in this block to crash at the start of a training step."""
    from seqlab.training.module import SequenceModule

    step = SequenceModule.training_step

    def crash(self, data, index):
        if (self.current_epoch, index) == (epoch, batch):
            raise InterruptedRunError
        return step(self, data, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SequenceModule, "training_step", crash)
        with pytest.raises(InterruptedRunError):
            yield
