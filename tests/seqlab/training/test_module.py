"""The LightningModule of a run: what its layers share."""

import torch

import seqlab.nn
from seqlab import Model, Recurrent
from seqlab.config.build import build_task
from seqlab.plugins.kernels import kernels_for
from seqlab.training.module import SequenceModule
from seqlab_cells.lstm import LSTM


class Mixed(Model):
    """A stranger's model: a layer of seqlab.nn beside a Recurrent."""

    uses_cell = False

    def __init__(self):
        super().__init__()
        self.first, self.second = Recurrent(LSTM, 3, hidden_size=4), seqlab.nn.LSTM(3, 4)

    def forward(self, batch, state=None):
        return self.first(batch.inputs)[0] + self.second(batch.inputs)[0], None


def test_layers_of_both_kinds_share_the_decisions_on_kernels():
    """A resumed run continues with the kernels it began with, since the decisions are in its checkpoint."""
    model, x = Mixed(), torch.randn(50, 8, 3)
    module = SequenceModule(model, build_task({"name": "first", "sequence_length": 4}), {"name": "adam", "lr": 0.1})
    assert model.second._network.policy is model.first.policy is module._policy
    module._policy.reasons |= {f"LSTM.{kernel.name}.torch.float32": "as before" for kernel in kernels_for(LSTM)}
    for layer in (model.first, model.second):
        layer(x)
        assert layer.choice.kernel.name == "loop"
        assert "deferred: as before" in layer.choice.reason
