"""Small runs on invented languages, and what they leave in their folders."""

import json

import torch

from seqlab.runs.run_folder import RESULTS, RESUME

FAST = [
    "task=names", "cell=gru", "cell.hidden_size=4", "model.embedding_size=4", "data.batch_size=64", "logger=none",
    "trainer.progress=false", "trainer.threads=1", "optimizer.schedule=constant", "optimizer.warmup=0",
]  # fmt: skip


def write_names(folder, parts):
    folder.mkdir()
    for language, syllables in parts.items():
        several = syllables.split()
        names = sorted({(a + b + c).capitalize() for a in several for b in several for c in several})
        (folder / f"{language}.txt").write_text("\n".join(names) + "\n", "utf-8")


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def record_of(folder):
    return json.loads((folder / RESULTS).read_text("utf-8"))


def checkpoint_of(folder):
    return torch.load(folder / RESUME, weights_only=True)


def last(folder):
    """All of the last step: weights and the optimiser's moments."""
    saved = checkpoint_of(folder)
    moments = saved["optimizer_states"][0]["state"].items()
    return {**saved["state_dict"], **{f"{key}.{name}": v for key, entry in moments for name, v in entry.items()}}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
