"""Small networks and batches of real tasks."""

import torch

from seqlab import Batch
from seqlab.config.build import build_model, build_task
from seqlab.data.datamodule import SequenceData


def network(cell, task="first", rows=3, length=12, hidden_size=5, model=None, kernel="auto", **options):
    """Return a model in float64, its task, and some validation sequences."""
    made = build_task({"name": task, "sequence_length": length, "examples": 8, "held_out": 8})
    data = SequenceData(made, None)
    data.prepare()
    nodes = {
        "cell": {"name": cell, "hidden_size": hidden_size, **options},
        "model": {"name": "recurrent", **(model or {})},
        "kernel": {"name": kernel},
    }
    torch.manual_seed(0)
    net = build_model(nodes, made, data.inputs)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            # Strong ways through the state and weak inputs: no term is negligible, and no tanh so near its end that
            # its slope, a difference, has lost digits.
            parameter.mul_(0.1 if "encoder" in name or "from_input" in name else 1.5)
    return net.double(), made, data.probe(rows)


def ragged(batch, lengths):
    """Cut the rows of a batch of token ids to these lengths."""
    steps = torch.arange(batch.inputs.shape[1])
    lengths = torch.tensor(lengths)
    return Batch(batch.inputs.masked_fill(steps >= lengths.unsqueeze(1), 0), lengths, batch.targets)
