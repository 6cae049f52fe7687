"""``seqlab.nn`` needs torch, not what trains, configures, logs and draws."""

import subprocess
import sys

import pytest

HEAVY = {
    "pytorch_lightning", "lightning", "hydra", "omegaconf", "wandb", "matplotlib", "torchmetrics", "rich", "jinja2",
}  # fmt: skip

PROGRAM = f"""
import sys, time

begin = time.process_time()
import torch
middle, before = time.process_time(), set(sys.modules)
import seqlab.nn
print((time.process_time() - middle) / (middle - begin))

present = ({HEAVY} | {{"torch._dynamo", "seqlab_cells", "seqlab_models", "triton"}}) & (set(sys.modules) - before)
assert not present, present


class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)


sys.meta_path.insert(0, NotInstalled())
model = torch.nn.ModuleList([torch.nn.LSTM(3, 4, 2), torch.nn.GRU(3, 4), torch.nn.RNN(3, 4)])
assert all(each.kept is None for each in seqlab.nn.replace(model))
x = torch.randn(5, 2, 3)
for layer in model:
    assert layer(x, lengths=[5, 2])[0].shape == (5, 2, 4)
    layer(x)[0].sum().backward()
    seqlab.Recurrent.from_torch(layer)(x)
"""


@pytest.mark.slow
def test_it_imports_nothing_heavy_and_works_without() -> None:
    """At most 1.15 times the time of ``import torch``; neither compiler nor plugin is imported before it is used."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) <= 0.15
