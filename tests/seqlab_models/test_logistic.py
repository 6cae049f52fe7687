"""Logistic regression against scikit-learn's."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from seqlab_models.logistic import Sparse, fit_logistic


def sparse(matrix):
    rows, columns = matrix.nonzero(as_tuple=True)
    return Sparse(columns, matrix[rows, columns], torch.bincount(rows, minlength=len(matrix)))


def problem(classes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    features = torch.rand(80, 12, generator=generator, dtype=torch.float64)
    features[features < 0.6] = 0
    features[3] = 0
    scores = features @ torch.randn(12, classes, generator=generator, dtype=torch.float64) * 2
    noise = torch.rand(80, classes, generator=generator, dtype=torch.float64)
    return features, (scores - (-noise.log()).log()).argmax(1)


@pytest.mark.parametrize(("classes", "factor"), [(2, 2.0), (4, 1.0)])
@pytest.mark.parametrize("weighted", [False, True])
def test_probabilities_are_those_of_scikit_learn(classes, factor, weighted):
    """Of two classes scikit-learn has one vector, so that its C is twice ours."""
    features, targets = problem(classes)
    weights = torch.where(targets == 0, 3.0, 0.5).double() if weighted else None
    found = fit_logistic(
        (sparse(features), targets), (sparse(features), targets), (12, classes), c=5.0, weights=weights
    )
    theirs = LogisticRegression(C=5.0 * factor, tol=1e-8, max_iter=1000)
    theirs.fit(features.numpy(), targets.numpy(), None if weights is None else (weights / weights.mean()).numpy())
    probabilities = (features @ found.weight + found.bias).softmax(1)
    expected = torch.from_numpy(theirs.predict_proba(features.numpy()))
    torch.testing.assert_close(probabilities, expected, rtol=0, atol=1e-3)


def test_c_has_the_least_loss_on_validation():
    features, targets = problem(3)
    train, valid = (sparse(features[:60]), targets[:60]), (sparse(features[60:]), targets[60:])
    losses = {c: fit_logistic(train, valid, (12, 3), c=c).loss for c in (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)}
    found = fit_logistic(train, valid, (12, 3))
    assert found.loss == pytest.approx(min(losses.values()), abs=1e-3)


def test_a_class_without_examples_is_improbable():
    features, targets = problem(2)
    found = fit_logistic((sparse(features), targets), (sparse(features), targets), (12, 3))
    outputs = features @ found.weight + found.bias
    assert float(outputs.softmax(1)[:, 2].max()) < 0.05


def test_a_matrix_is_transposed():
    features, _ = problem(2)
    other = torch.rand(80, 3, dtype=torch.float64)
    torch.testing.assert_close(sparse(features).transposed(12) @ other, features.t() @ other)
