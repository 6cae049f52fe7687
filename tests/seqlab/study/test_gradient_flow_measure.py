"""Gradient flow against products of Jacobians that autograd makes one step at a time."""

import itertools

import pytest
import torch
from torch.testing import assert_close

from seqlab.recurrence.recording import Recording
from seqlab.study.gradient_flow_measure import distances, measure
from seqlab.training.process_state import rng_state

from .networks import network, ragged

EXACT = {"rel": 1e-12, "abs": 1e-300}


def curve(rows, state="h", layer=0, direction="forward"):
    return [row for row in rows if (row.state, row.layer, row.direction) == (state, layer, direction)]


def place(row):
    return row.layer, row.direction, row.state, row.distance


def by_steps(model, task, batch):
    """||dL/ds_T prod_j J_j|| for each distance, with J_j from autograd through one step: independent of any formula."""
    recording = Recording(model)
    outputs = recording.network(batch)[0]
    loss = sum(task.loss(outputs[row : row + 1], batch._replace(targets=batch.targets[row : row + 1])) for row in (0,))
    (track,) = recording.tracks
    cell, sizes = track.cell, [leaf.shape[1] for leaf in track.start]
    after = [[leaf.detach()[0] for leaf in state] for state in track.after]

    def step(t):
        return lambda flat: torch.cat(
            [leaf[0] for leaf in cell.step(track.x[t].detach()[:1], tuple(p[None] for p in flat.split(sizes)))[1]]
        )

    gradient = torch.cat([torch.autograd.grad(loss, track.after[-1][0], retain_graph=True)[0][0]])
    gradient = torch.cat([gradient, torch.zeros(sum(sizes) - sizes[0], dtype=torch.float64)])  # L reads h alone
    norms = [gradient[: sizes[0]].norm().item()]
    for t in range(len(after) - 1, 0, -1):
        gradient = gradient @ torch.autograd.functional.jacobian(step(t), torch.cat(after[t - 1]))
        norms.append(gradient[: sizes[0]].norm().item())
    return norms


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm", "peephole_lstm", "coupled_lstm", "indrnn", "mingru"])
def test_the_norm_is_the_product_of_the_steps_jacobians(cell):
    model, task, batch = network(cell, rows=1)
    rows, _ = measure(model, task, batch)
    expected = by_steps(model, task, batch)
    assert [row.distance for row in curve(rows)] == list(range(len(expected)))
    assert [row.norm for row in curve(rows)] == pytest.approx(expected, **EXACT)


@pytest.mark.parametrize("options", [{}, {"nonlinearity": "relu"}])
def test_the_closed_product_of_an_rnn_is_the_norm_and_below_the_bound(options):
    model, task, batch = network("rnn", length=20, **options)
    rows, _ = measure(model, task, batch)
    for row in curve(rows):
        assert row.product == pytest.approx(row.norm, **EXACT)
        assert row.bound >= row.norm * (1 - 1e-12)
        assert row.forget is None
        assert row.terms is None
    assert curve(rows)[-1].bound > 1.01 * curve(rows)[-1].norm  # it is looser


@pytest.mark.parametrize(
    "cell", ["gru", "lstm", "indrnn", "mingru", "minlstm", "lem", "lru", "selective_ssm", "deltanet"]
)
def test_the_closed_product_of_every_state_tensor_is_the_norm(cell):
    model, task, batch = network(cell)
    rows, _ = measure(model, task, batch)
    assert rows
    assert [row.product for row in rows] == pytest.approx([row.norm for row in rows], **EXACT)


def test_rows_of_unequal_length_are_measured_each_by_itself():
    """The mean at a distance is over the rows that reach so far; padding is in none."""
    model, task, batch = network("lstm", length=9, model={"bidirectional": True})
    cut = ragged(batch, [9, 4, 1])
    together, shares = measure(model, task, cut)
    alone = []
    for row, length in enumerate([9, 4, 1]):
        one = cut._replace(inputs=cut.inputs[row : row + 1, :length], lengths=None, targets=cut.targets[row : row + 1])
        alone.append(measure(model, task, one))
    for row in together:
        same = [other for rows, _ in alone for other in rows if place(other) == place(row)]
        assert len(same) == sum(length > row.distance for length in (9, 4, 1))
        columns = ("norm", "product", "forget", "terms") if row.state == "c" else ("norm", "product")
        for column in columns:
            mean = sum(getattr(other, column) for other in same) / len(same)
            assert getattr(row, column) == pytest.approx(mean, rel=1e-12)
    weighed = sum(one.high * steps for (_, found), steps in zip(alone, (9, 4, 1), strict=True) for one in found[:1])
    assert shares[0].high == pytest.approx(weighed / 14)


def test_only_the_last_output_of_each_step_counts():
    """With an output at each step, the gradient at distance 0 is that of the last step's cross-entropy."""
    model, task, batch = network("gru", task="copying", length=3, rows=1)
    rows, _ = measure(model, task, batch)
    recording = Recording(model)
    outputs = recording.network(batch)[0]
    (track,) = recording.tracks
    last = torch.nn.functional.cross_entropy(outputs[:, -1], batch.targets[:, -1])
    (expected,) = torch.autograd.grad(last, track.after[-1][0])
    assert curve(rows)[0].norm == pytest.approx(expected.norm().item(), **EXACT)
    assert curve(rows)[-1].product == pytest.approx(curve(rows)[-1].norm, **EXACT)


@pytest.mark.parametrize("unlabelled", [0, 2])
@pytest.mark.parametrize("task", ["reverse_string", "copying"])
def test_the_scale_is_that_of_one_labelled_step(task, unlabelled):
    r"""Of a linear head and the cross-entropy, :math:`∂L/∂h_t = W^T (p_t - e_y)` at the last step with a label."""
    model, made, batch = network("rnn", task=task, length=4)
    steps = batch.inputs.shape[1]
    batch.targets[:, steps - unlabelled :] = -1 if task == "reverse_string" else -100  # the marks of the two losses
    batch = batch._replace(lengths=None)
    rows, _ = measure(model, made, batch)
    at = steps - 1 - unlabelled
    outputs, weight = model(batch)[0][:, at].detach(), model.head.weight.detach()
    wrong = outputs.softmax(-1) - torch.nn.functional.one_hot(batch.targets[:, at], outputs.shape[1])
    expected = (wrong @ weight).norm(dim=1).mean().item()
    norms = [row.norm for row in curve(rows)]
    assert norms[:unlabelled] == [0.0] * unlabelled
    assert norms[unlabelled] == pytest.approx(expected, **EXACT)


def test_layers_and_directions_have_rows_of_their_own():
    model, task, batch = network("lstm", model={"depth": 2, "bidirectional": True})
    rows, shares = measure(model, task, batch, step=7)
    places = {(row.layer, row.direction, row.state) for row in rows}
    assert places == {(layer, way, leaf) for layer in (0, 1) for way in ("forward", "backward") for leaf in "hc"}
    assert {row.step for row in rows} == {7}
    assert {(share.layer, share.gate) for share in shares} == {
        (layer, gate) for layer in (0, 1) for gate in ("input", "forget", "candidate", "output")
    }


@pytest.mark.parametrize("model", [{"truncate": 4}, {"zoneout": 0.1}, {"state_dropout": 0.3}, {"learned_start": True}])
def test_layer_wrappers_do_not_cut_the_gradient(model):
    net, task, batch = network("lstm", model=model)
    rows, _ = measure(net, task, batch)
    assert curve(rows)[-1].norm > 0  # not cut off
    assert (curve(rows)[-1].product is None) == (("zoneout" in model) or ("state_dropout" in model))


def test_measuring_changes_nothing():
    net, task, batch = network("gru", model={"dropout": 0.5, "depth": 2, "random_start": True})
    net.train()
    net(batch)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    draws, choice = rng_state(), net.recurrent.choice
    measure(net, task, batch)
    assert_close(net.state_dict(), before, rtol=0, atol=0)
    assert torch.equal(rng_state()["torch"], draws["torch"])
    assert net.recurrent.choice is choice
    assert net.training
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_model_that_is_not_recurrent_gives_nothing():
    made, task, batch = network("rnn")
    from seqlab_models.window import WindowModel

    window = WindowModel(task.inputs, task.head, False, context=3).double()
    assert measure(window, task, batch) == ([], [])
    assert measure(made, task, batch)[0]


def test_distances_are_dense_near_and_few_far():
    assert distances(0) == []
    assert distances(200) == list(range(200))
    far = distances(10_000)
    assert far[:256] == list(range(256))
    assert far[-1] == 9_999
    assert len(far) < 400
    assert all(b > a for a, b in itertools.pairwise(far))
