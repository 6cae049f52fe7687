"""Models given as three functions: an LSTM against the recording of ``nn.LSTM``, models of transformers."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from seqlab import UserError
from seqlab.study.cached import CachedModel
from seqlab.study.modules import record
from seqlab.study.steps import effective_context_steps, read, record_steps, state_tensors


class Steps:
    """An LSTM cell that changes its state in place, as caches do."""

    def __init__(self, layer, head):
        self.cell = nn.LSTMCell(layer.input_size, layer.hidden_size, dtype=torch.float64)
        self.cell.load_state_dict({key.removesuffix("_l0"): value for key, value in layer.state_dict().items()})
        self.head = head

    def initial(self, rows):
        return {"cell": (torch.zeros(rows, 4, dtype=torch.float64),) * 2, "count": 0}

    def step(self, x, state):
        h, c = self.cell(x, state["cell"])
        return h, {"cell": (h, c), "count": state["count"] + 1}

    def logits(self, features):
        return self.head(features)


@pytest.fixture
def lstm():
    torch.manual_seed(0)
    return nn.LSTM(3, 4, batch_first=True, dtype=torch.float64), nn.Linear(4, 5, dtype=torch.float64)


def test_an_lstm_of_three_functions_is_the_recorded_module(lstm):
    layer, head = lstm
    x, y = torch.randn(2, 7, 3, dtype=torch.float64), torch.tensor([1, 4])
    with record(layer) as recorded:
        outputs = head(layer(x)[0])
        cross_entropy(outputs[:, -1], y).backward()
    found = record_steps(Steps(layer, head), x, lambda outputs: cross_entropy(outputs[:, -1], y))
    assert_close(found.outputs, outputs.detach())
    for place, name in enumerate("hc"):
        ours, theirs = found.flow.curve(0, state=f"cell.{place}"), recorded.flow().curve(0, state=name)
        assert [row.distance for row in ours] == [row.distance for row in theirs] == list(range(7))
        assert [row.norm for row in ours] == pytest.approx([row.norm for row in theirs], rel=1e-12)
        assert_close(found.states[f"cell.{place}"][:, 1], recorded.views(row=1)[0].states[name])
    summed = record_steps(Steps(layer, head), x, lambda o: cross_entropy(o[:, -1], y, reduction="sum"), "sum")
    assert [row.norm for row in summed.flow.rows] == pytest.approx([row.norm for row in found.flow.rows])


def test_the_effective_context_of_three_functions(lstm):
    """With forget gates of σ(-20), an LSTM needs one step."""
    layer, head = lstm
    with torch.no_grad():
        layer.bias_ih_l0[4:8], layer.weight_hh_l0[:] = -20.0, 0.0
    x, y = torch.randn(2, 9, 3, dtype=torch.float64), torch.tensor([1, 4])
    assert effective_context_steps(Steps(layer, head), x, lambda last: cross_entropy(last, y)).steps == 1


def test_a_state_without_gradients_is_named(lstm):
    steps = Steps(*lstm)
    for parameter in steps.cell.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(UserError, match="no state depends on a parameter or an input that requires a gradient"):
        record_steps(steps, torch.randn(2, 3, 3, dtype=torch.float64), torch.sum)


def test_paths_of_a_state():
    state = {"a": [torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.int64)], "b": torch.zeros(3, 3), "c": "x"}
    assert list(state_tensors(state, 2)) == ["a.0"]
    assert list(state_tensors(torch.zeros(2, 1), 2)) == ["state"]


def small(name):
    """A random model of transformers of a few thousand weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of an import are the library's own
        transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 17, "hidden_size": 8, "num_hidden_layers": 2}
    options = {
        "Mamba": {"state_size": 4},
        "Rwkv": {"attention_hidden_size": 8, "intermediate_size": 16, "context_length": 32},
        "RecurrentGemma": {
            "num_hidden_layers": 3, "num_attention_heads": 2, "lru_width": 8, "intermediate_size": 24,
            "attention_window_size": 8,
        },
        "xLSTM": {
            "hidden_size": 128, "embedding_dim": 128, "num_blocks": 2, "num_heads": 2, "mode": "inference",
            "chunkwise_kernel": "chunkwise--native_autograd", "sequence_kernel": "native_sequence__native",
            "step_kernel": "native", "return_last_states": True, "chunk_size": 8,
        },
    }  # fmt: skip
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**sizes | options[name])
    return getattr(transformers, f"{name}ForCausalLM")(config).eval()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("name", "rows", "states"),
    [("Mamba", 2, 4), ("Rwkv", 1, 5), ("RecurrentGemma", 2, 4), ("xLSTM", 2, 6)],
)
def test_models_of_transformers(name, rows, states):
    """Outputs are those of the whole sequence; the gradient to a state is that of finite differences."""
    model = small(name)
    ids = torch.randint(0, 17, (rows, 6))
    steps = CachedModel(model)
    assert_close(read(steps, ids), model(ids, use_cache=False).logits, rtol=1e-4, atol=1e-5)
    found = record_steps(steps, ids, lambda outputs: cross_entropy(outputs[:, -1], ids[:, 0]))
    assert len(found.states) == states
    names = {row.state for row in found.flow.rows}
    assert names >= set(found.states)
    idle = {each for each in names if not max(row.norm for row in found.flow.curve(0, state=each)) > 0}
    assert all(name == "xLSTM" and each.endswith(".1") for each in idle)  # its normaliser, below its bound
    context = effective_context_steps(steps, ids, lambda last: cross_entropy(last, ids[:, 0]))
    assert context.whole == pytest.approx(cross_entropy(model(ids).logits[:, -1], ids[:, 0]).item(), rel=1e-4)
    assert 1 <= context.steps <= 6


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_flow_of_mamba_is_that_of_finite_differences():
    model = small("Mamba").double()
    steps, ids = CachedModel(model), torch.randint(0, 17, (1, 5))
    name = "cache.layers.1.recurrent_states.0"
    found = record_steps(steps, ids, lambda outputs: cross_entropy(outputs[:, -1], ids[:, 0]))
    (expected,) = (row.norm for row in found.flow.curve(0, state=name) if row.distance == 2)
    with torch.no_grad():
        state = steps.initial(1)
        for at in range(3):
            state = steps.step(ids[:, at], state)[1]
        tensor = state_tensors(state, 1)[name]

        def loss(place, change):
            tensor.view(-1)[place] += change
            after = steps.step(ids[:, 3], state)[1]
            tensor.view(-1)[place] -= change
            return float(cross_entropy(steps.step(ids[:, 4], after)[0], ids[:, 0]))

        slopes = [(loss(place, 0.05) - loss(place, -0.05)) / 0.1 for place in range(tensor.numel())]
    assert torch.tensor(slopes).norm().item() == pytest.approx(expected, rel=2e-3)  # it computes in float32
    assert expected > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_what_a_cache_cannot_do_is_named():
    with pytest.raises(UserError, match="mixes the rows of a batch token by token: pass one row"):
        CachedModel(small("Rwkv")).initial(2)
    with pytest.raises(UserError, match=r"Linear\.forward takes none of cache"):
        CachedModel(nn.Linear(2, 2))


def test_the_reduction_of_a_loss_is_that_of_the_recording(lstm):
    layer, head = lstm
    x = torch.randn(2, 7, 3, dtype=torch.float64)
    norms = {
        reduction: [row.norm for row in record_steps(Steps(layer, head), x, loss, reduction).flow.rows]
        for reduction, loss in (("sum", torch.sum), (70, torch.mean))
    }
    assert norms[70] == pytest.approx(norms["sum"])
    for wrong in ("none", 0):
        with pytest.raises(ValueError, match="reduction must be"):
            record_steps(Steps(layer, head), x, torch.sum, wrong)
