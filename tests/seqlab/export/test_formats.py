"""An exported file against the model: any number of rows and steps, ragged, in one and two directions, for any cell."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import seqlab
from seqlab import InputSpec, Model, Ragged, UserError
from seqlab.export.compare import BATCHES, FLOOR, LENGTHS, compare_outputs
from seqlab.export.formats import FORMATS
from seqlab_cells.gru import GRU
from seqlab_cells.indrnn import IndRNN
from seqlab_cells.lstm import LSTM
from seqlab_cells.rnn import RNN
from seqlab_models.attention import AttentionModel
from seqlab_models.bow import BagOfNgrams
from seqlab_models.ngram import NGram
from seqlab_models.recurrent import RecurrentModel

TOKENS = InputSpec("tokens", 13)


def model(cell, spec=TOKENS, per_step=False, **options):
    torch.manual_seed(0)
    options = {"depth": 2, "bidirectional": True, "embedding_size": 5} | options
    made = RecurrentModel(spec, lambda features: nn.Linear(features, 4), per_step, cell, "auto", **options)
    return SimpleNamespace(model=made.eval(), nodes={"model": {"name": "recurrent"}, "cell": {"name": "a"}})


def exported(trained, name, folder, spec=TOKENS):
    kind = FORMATS[name]
    kind.write(trained, spec, folder / kind.file)
    found = compare_outputs(
        trained.model, spec, kind.read(trained, folder / kind.file), same_program=not kind.runs_alone
    )
    assert found.batches == len(LENGTHS) * len(BATCHES)
    assert all(row.difference <= row.allowed for row in found.rows)
    assert found.rows[0].allowed <= max(1e-4, FLOOR * found.rows[0].largest_output)
    assert found.scale > 0.1
    return folder / kind.file


def operators(path):
    import onnx

    return [node.op_type for node in onnx.load(path).graph.node]


NATIVE = {
    "rnn": (lambda size: RNN(size, 7), "RNN"),
    "relu": (lambda size: RNN(size, 7, nonlinearity="relu"), "RNN"),
    "lstm": (lambda size: LSTM(size, 7), "LSTM"),
    "gru": (lambda size: GRU(size, 7), "GRU"),
}


@pytest.mark.parametrize(
    "cell", [*(pytest.param(name, marks=pytest.mark.long) for name in ("rnn", "relu", "lstm")), "gru"]
)
def test_a_cell_with_a_routine_is_one_node_of_onnx_a_layer(cell, tmp_path):
    made, operator = NATIVE[cell]
    found = operators(exported(model(made), "onnx", tmp_path))
    assert found.count(operator) == 2
    assert not {"Loop", "Scan"} & set(found)


@pytest.mark.parametrize(
    "cell", [*(pytest.param(name, marks=pytest.mark.long) for name in ("rnn", "relu", "gru")), "lstm"]
)
def test_a_cell_with_a_routine_is_torchs_operator(cell, tmp_path):
    made, _ = NATIVE[cell]
    program = torch.export.load(exported(model(made), "torch-export", tmp_path))
    targets = [str(node.target) for node in program.graph.nodes]
    assert sum(target.startswith(("aten.lstm", "aten.gru", "aten.rnn_")) for target in targets) == 4
    assert not any("seqlab" in target for target in targets)


def test_any_other_cell_is_a_scan_of_onnx(ugrnn, tmp_path):
    found = operators(exported(model(lambda size: ugrnn(size, 7), depth=1), "onnx", tmp_path))
    assert found.count("Scan") == 2


@pytest.mark.slow
def test_any_other_cell_is_a_scan_of_torch(ugrnn, tmp_path):
    program = torch.export.load(exported(model(lambda size: ugrnn(size, 7), depth=1), "torch-export", tmp_path))
    assert sum(str(node.target) == "scan" for node in program.graph.nodes) == 2


@pytest.mark.parametrize("name", ["safetensors", "state-dict"])
def test_weights_make_the_same_model(name, tmp_path):
    exported(model(NATIVE["lstm"][0]), name, tmp_path)


ALWAYS = ("per step", "attention")
OPTIONS = {
    "per step": {"per_step": True, "bidirectional": False},
    "mean": {"pooling": "mean", "layer_norm": True, "connection": "residual"},
    "attention": {"pooling": "attention", "learned_start": True, "input": "onehot"},
    "regularised": {"pooling": "max", "dropout": 0.3, "weight_drop": 0.2, "locked_dropout": 0.2, "input_dropout": 0.1},
    "wrapped": {"zoneout": 0.2, "state_dropout": 0.1, "depth": 1, "connection": "highway"},
    "truncated": {"truncate": 5, "bidirectional": False},
    "block": {"block": "prenorm_mlp", "conv": 4},
}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "torch-export"])
@pytest.mark.parametrize(
    "options", [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.long) for name in OPTIONS]
)
def test_options_of_the_model(options, form, tmp_path):
    trained = model(lambda size: LSTM(size, 7), **OPTIONS[options])
    before = {name: value.clone() for name, value in trained.model.state_dict().items()}
    exported(trained, form, tmp_path)
    after = trained.model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert trained.model.recurrent.kernel == "auto"
    assert trained.model.recurrent.truncate == OPTIONS[options].get("truncate", 0)


@pytest.mark.slow
def test_features_and_a_cell_without_matrices(tmp_path):
    spec = InputSpec("features", 3)
    exported(model(lambda size: IndRNN(size, 7), spec, depth=1), "onnx", tmp_path, spec)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("form", ["onnx", "torch-export"])
def test_a_model_without_cells(form, tmp_path):
    made = AttentionModel(TOKENS, lambda features: nn.Linear(features, 4), False, hidden_size=8, heads=2, depth=1)
    trained = SimpleNamespace(model=made.eval(), nodes={"model": {"name": "attention"}})
    exported(trained, form, tmp_path)


@pytest.mark.parametrize("option", [{"random_start": True}, {"read_padding": 9}])
def test_an_option_that_no_file_can_have_is_named(option, tmp_path):
    trained = model(lambda size: LSTM(size, 7), bidirectional=False, **option)
    (name,) = option
    for form in ("onnx", "torch-export"):
        with pytest.raises(UserError, match=f"model.{name}="):
            exported(trained, form, tmp_path)
    exported(trained, "safetensors", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("ngram", "onnx"),
        *(
            pytest.param(*case, marks=pytest.mark.long)
            for case in (("bow", "onnx"), ("bow", "torch-export"), ("ngram", "torch-export"))
        ),
    ],
)
def test_counts_of_n_grams(name, form, tmp_path):
    torch.manual_seed(0)
    made = BagOfNgrams(TOKENS, 4, False, max_order=3) if name == "bow" else NGram(TOKENS, 13, True, order=3)
    made.prepare(lambda: Ragged.of([torch.randint(1, 13, (9,)) for _ in range(20)]))
    if name == "bow":
        nn.init.normal_(made.weight, std=0.1)
    trained = SimpleNamespace(model=made.eval(), nodes={"model": {"name": name}})
    assert exported(trained, form, tmp_path).stat().st_size < 1_000_000


@pytest.mark.parametrize("name", ["bow", "ngram"])
def test_weights_of_counted_n_grams(name, tmp_path):
    made = BagOfNgrams(TOKENS, 4, False) if name == "bow" else NGram(TOKENS, 13, True)
    made.prepare(lambda: Ragged.of([torch.randint(1, 13, (9,)) for _ in range(20)]))
    trained = SimpleNamespace(model=made.eval(), nodes={"model": {"name": name}})
    FORMATS["safetensors"].write(trained, TOKENS, tmp_path / "model.safetensors")
    run = FORMATS["safetensors"].read(trained, tmp_path / "model.safetensors")
    assert compare_outputs(trained.model, TOKENS, run, same_program=True).difference == 0


class Strange(Model):
    """A third party's model that torch.export cannot trace."""

    uses_cell = False

    def __init__(self, apply):
        super().__init__()
        self.layer, self.apply_to = nn.Linear(13, 4), apply

    def forward(self, batch, state=None):
        return self.apply_to(self.layer(nn.functional.one_hot(batch.inputs, 13).float())), None


UNTRACEABLE = {
    "depend on input values (test_formats.py:": lambda x: x[:, 0] if x.sum() > 0 else x[:, 1],
    "on the size of batch or time (time = 11)": lambda x: x[:, :11].reshape(-1, 44)[:, :4],
    "KeyError at test_formats.py:": lambda x: {}["lost"],
}


@pytest.mark.parametrize("form", ["onnx", "torch-export"])
@pytest.mark.parametrize("said", UNTRACEABLE)
def test_what_cannot_be_traced_is_refused_in_one_line(said, form, tmp_path, capfd):
    """The line says where in the model; torch would print the graph that it could not finish."""
    trained = SimpleNamespace(model=Strange(UNTRACEABLE[said]).eval(), nodes={"model": {"name": "strange"}})
    with pytest.raises(UserError, match="model=strange cannot be traced") as caught:
        exported(trained, form, tmp_path)
    line = str(caught.value)
    assert said in line
    assert "\n" not in line
    assert len(line) < 300
    assert "safetensors" in line
    assert capfd.readouterr() == ("", "")


def test_another_file_is_not_taken(tmp_path):
    """The comparison sees a weight that is off by a thousandth, and outputs of another shape."""
    trained, other = model(NATIVE["gru"][0]), model(NATIVE["gru"][0])
    with torch.no_grad():
        other.model.head.weight[0, 0] += 1e-3
    FORMATS["safetensors"].write(other, TOKENS, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="differs from the run by"):
        compare_outputs(
            trained.model,
            TOKENS,
            FORMATS["safetensors"].read(trained, tmp_path / "model.safetensors"),
            same_program=True,
        )
    with pytest.raises(UserError, match=r"gives \[1, 1\]"):
        compare_outputs(trained.model, TOKENS, lambda inputs, lengths: torch.zeros(len(inputs), 1))
    with pytest.raises(UserError, match="fails on 1 rows of up to 1 steps"):
        compare_outputs(trained.model, TOKENS, lambda inputs, lengths: 1 / 0)


@pytest.mark.slow
def test_a_program_of_torch_needs_no_seqlab(ugrnn, tmp_path):
    trained = model(lambda size: ugrnn(size, 7), depth=1)
    FORMATS["torch-export"].write(trained, TOKENS, tmp_path / "model.pt2")
    program = (
        "import json, sys\n"
        "for name in ('seqlab', 'seqlab_cells', 'seqlab_models', 'seqlab_ugrnn'): sys.modules[name] = None\n"
        "import torch\n"
        "model = torch.export.load('model.pt2').module()\n"
        "with torch.inference_mode():\n"
        "    outputs = model(torch.tensor([[2, 3, 2], [3, 0, 0]]), torch.tensor([3, 1]))\n"
        "print(json.dumps(outputs.tolist()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    batch = SimpleNamespace(inputs=torch.tensor([[2, 3, 2], [3, 0, 0]]), lengths=torch.tensor([3, 1]))
    with torch.no_grad():
        expected, _ = trained.model(batch)
    assert torch.allclose(torch.tensor(json.loads(done.stdout)), expected, atol=1e-5)
    assert str(Path(seqlab.__file__).parent).encode() not in (tmp_path / "model.pt2").read_bytes()
