"""The paper's equations 1 to 12 against automatic differentiation.

The softmax regression of section I.B: parameters theta_j, inputs x, classes 1 to k. Correct
equations pass. Misprinted ones are shown to fail in the form in which they are printed.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

M, K, D = 7, 4, 5  # examples, classes, inputs


@pytest.fixture
def problem():
    generator = torch.Generator().manual_seed(1)
    theta = torch.randn(K, D, generator=generator, dtype=torch.float64, requires_grad=True)
    x = torch.randn(M, D, generator=generator, dtype=torch.float64)
    y = torch.randint(0, K, (M,), generator=generator)
    return theta, x, y


def probabilities(theta, x):
    """Equations 1 and 4 (with the exponent where it belongs)."""
    scores = torch.exp(x @ theta.T)
    return scores / scores.sum(1, keepdim=True)


def cost(theta, x, y):
    """Equation 3 with the indicator of equation 2."""
    indicator = F.one_hot(y, K)
    return -(indicator * torch.log(probabilities(theta, x))).sum() / M


def gradient(value, theta):
    (g,) = torch.autograd.grad(value, theta)
    return g


def test_equations_1_and_4_are_the_softmax_and_sum_to_one(problem):
    theta, x, _ = problem
    p = probabilities(theta, x)
    torch.testing.assert_close(p, torch.softmax(x @ theta.T, 1))
    torch.testing.assert_close(p.sum(1), torch.ones(M, dtype=torch.float64))


def test_equation_4_as_printed_is_no_probability(problem):
    """``e^(theta_j^T) x / sum``: the input stands beside the exponential, not in it."""
    theta, x, _ = problem
    printed = torch.einsum("jd,md->mj", torch.exp(theta), x)
    printed = printed / torch.exp(x @ theta.T).sum(1, keepdim=True)
    assert not torch.allclose(printed.sum(1), torch.ones(M, dtype=torch.float64))


def test_equation_3_is_the_cross_entropy(problem):
    theta, x, y = problem
    torch.testing.assert_close(cost(theta, x, y), F.cross_entropy(x @ theta.T, y))


def test_equation_5_is_equation_3(problem):
    theta, x, y = problem
    scores = x @ theta.T
    second = -(F.one_hot(y, K) * (scores - torch.logsumexp(scores, 1, keepdim=True))).sum() / M
    torch.testing.assert_close(second, cost(theta, x, y))


def test_equations_6_and_7_the_part_of_the_indicator(problem):
    theta, x, y = problem
    f = (F.one_hot(y, K) * (x @ theta.T)).sum()  # over j, and over the examples
    torch.testing.assert_close(gradient(f, theta), F.one_hot(y, K).double().T @ x)


def test_equation_8_the_derivative_of_the_log_sum(problem):
    theta, x, _ = problem
    value = torch.logsumexp(x @ theta.T, 1).sum()
    torch.testing.assert_close(gradient(value, theta), probabilities(theta, x).T @ x)


def test_equations_9_and_10_the_indicators_sum_to_one(problem):
    theta, x, y = problem
    indicator = F.one_hot(y, K)
    assert (indicator.sum(1) == 1).all()
    g = (indicator * torch.logsumexp(x @ theta.T, 1, keepdim=True)).sum()
    torch.testing.assert_close(gradient(g, theta), probabilities(theta, x).T @ x)


def test_equation_11_as_printed_lacks_the_input(problem):
    """``= p(y = k | x)``: a number per class, although the gradient is a vector."""
    theta, x, _ = problem
    right = gradient(torch.logsumexp(x @ theta.T, 1).sum(), theta)
    printed = probabilities(theta, x).sum(0)
    assert printed.shape != right.shape
    assert not torch.allclose(printed[:, None].expand_as(right), right)


def test_the_correct_gradient_passes(problem):
    """``-(1/m) sum_i x (1{y = j} - p_j)``."""
    theta, x, y = problem
    correct = -(F.one_hot(y, K) - probabilities(theta, x)).T @ x / M
    torch.testing.assert_close(gradient(cost(theta, x, y), theta), correct)


def test_equation_12_as_printed_fails(problem):
    """The sum over classes is kept, but the last line lacks the factor x of the second term."""
    theta, x, y = problem
    right = gradient(cost(theta, x, y), theta)
    p = probabilities(theta, x)
    indicator = F.one_hot(y, K).double()
    first = (
        torch.stack([-(indicator.sum(1)[:, None] * x - p[:, [j]] * x).sum(0) for j in range(K)]) / M
    )
    second = (
        torch.stack([-(indicator.sum(1)[:, None] * x - p[:, [j]]).sum(0) for j in range(K)]) / M
    )
    for printed in (first, second):
        assert not torch.allclose(printed, right, rtol=1e-3)
