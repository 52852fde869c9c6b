"""tf.distributions: densities, statistics, divergences, samples, mistakes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf

D = tf.distributions
POSITIVE = np.float32([0.3, 1.0, 2.4])
MAKERS: dict[str, Any] = {
    "normal": lambda: D.Normal([0.5, -1.0, 2.0], POSITIVE),
    "uniform": lambda: D.Uniform([0.5, -1.0, 2.0], [1.0, 1.0, 5.0]),
    "laplace": lambda: D.Laplace([0.5, -1.0, 2.0], POSITIVE),
    "student": lambda: D.StudentT([3.5, 5.0, 9.0], [0.5, -1.0, 2.0], POSITIVE),
    "gamma": lambda: D.Gamma(POSITIVE + 1.0, POSITIVE),
    "exponential": lambda: D.Exponential(POSITIVE),
    "beta": lambda: D.Beta(POSITIVE + 0.8, [2.0, 1.0, 3.0]),
}


def run(build: Any) -> Any:
    with tf.Graph().as_default(), tf.Session() as session:
        return session.run(build())


@pytest.mark.parametrize("name", list(MAKERS))
def test_the_density_is_the_slope_of_the_distribution_function(name: str) -> None:
    x = {"beta": 0.4, "uniform": [0.7, 0.3, 3.0]}.get(name, 0.8)

    def build() -> Any:
        d, at = MAKERS[name](), tf.constant(np.broadcast_to(np.float32(x), 3))
        low, high = at - 1e-2, at + 1e-2
        return [d.prob(at), (d.cdf(high) - d.cdf(low)) / 2e-2, tf.exp(d.log_prob(at)), d.survival_function(at) + d.cdf(at)]

    density, slope, exponential, whole = run(build)
    np.testing.assert_allclose(density, slope, rtol=2e-2)
    np.testing.assert_allclose(density, exponential, rtol=1e-5)
    np.testing.assert_allclose(whole, np.ones(3), rtol=1e-5)


@pytest.mark.parametrize("name", list(MAKERS))
def test_samples_have_the_statistics(name: str) -> None:
    def build() -> Any:
        d = MAKERS[name]()
        drawn = d.sample(20000, seed=7)
        assert drawn.shape.as_list() == [20000, 3]
        return [drawn, d.mean(), d.stddev(), -tf.reduce_mean(d.log_prob(drawn), 0), d.entropy()]

    drawn, mean, deviation, surprise, entropy = run(build)
    np.testing.assert_allclose(drawn.mean(0), mean, atol=5 * deviation.max() / 141)
    np.testing.assert_allclose(drawn.std(0), deviation, rtol=0.1)
    np.testing.assert_allclose(surprise, np.broadcast_to(entropy, 3), atol=0.05)


def test_samples_are_tensorflows() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        drawn = session.run(D.Normal(0.0, [1.0, 2.0]).sample(3, seed=1))
    np.testing.assert_allclose(
        drawn, [[-0.8113182, 2.9691975], [0.06532937, -4.8854084], [0.0992484, 1.1824486]], rtol=1e-5
    )


def test_classes_and_counts() -> None:
    logits = np.log(np.float32([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]))

    def build() -> Any:
        c, m = D.Categorical(logits=logits), D.Multinomial(4.0, logits=logits)
        b, dm = D.Bernoulli(probs=[0.2, 0.9]), D.DirichletMultinomial(2.0, [1.0, 1.0])
        return [
            c.prob([2, 0]), c.mode(), c.entropy(), c.sample([2, 5], seed=3), m.mean(), m.sample(6, seed=3),
            m.prob([1.0, 1.0, 2.0]), b.prob([1, 0]), b.mode(), b.variance(), dm.prob([[0.0, 2.0], [1.0, 1.0]]),
        ]  # fmt: skip

    of_class, mode, entropy, classes, mean, counts, of_counts, of_bit, bits, variance, flat = run(build)
    np.testing.assert_allclose(of_class, [0.5, 0.6], rtol=1e-5)
    assert mode.tolist() == [2, 0] and mode.dtype == np.int32
    np.testing.assert_allclose(entropy[0], -sum(p * math.log(p) for p in (0.2, 0.3, 0.5)), rtol=1e-5)
    assert classes.shape == (2, 5, 2) and set(classes.ravel()) <= {0, 1, 2}
    np.testing.assert_allclose(mean, 4 * np.exp(logits), rtol=1e-5)
    assert counts.shape == (6, 2, 3) and (counts.sum(-1) == 4).all()
    np.testing.assert_allclose(of_counts, [12 * 0.2 * 0.3 * 0.25, 12 * 0.6 * 0.3 * 0.01], rtol=1e-4)
    np.testing.assert_allclose(of_bit, [0.2, 0.1], rtol=1e-5)
    assert bits.tolist() == [0, 1]
    np.testing.assert_allclose(variance, [0.16, 0.09], rtol=1e-5)
    np.testing.assert_allclose(flat, [1 / 3, 1 / 3], rtol=1e-5)


def test_divergences() -> None:
    pairs = [
        (lambda: D.Normal(0.3, 1.5), lambda: D.Normal(-1.0, 0.8)), (lambda: D.Gamma(2.0, 1.5), lambda: D.Gamma(3.0, 1.0)),
        (lambda: D.Beta(2.0, 1.5), lambda: D.Beta(1.5, 3.0)),
        (lambda: D.Dirichlet([2.0, 1.5, 3.0]), lambda: D.Dirichlet([1.0, 2.0, 2.0])),
    ]  # fmt: skip
    for a, b in pairs:

        def build(a: Any = a, b: Any = b) -> Any:
            p, q = a(), b()
            drawn = p.sample(40000, seed=2)
            return [p.kl_divergence(q), tf.reduce_mean(p.log_prob(drawn) - q.log_prob(drawn)), p.kl_divergence(p)]

        exact, drawn, zero = run(build)
        np.testing.assert_allclose(exact, drawn, rtol=0.05)
        assert abs(zero) < 1e-5
    with pytest.raises(NotImplementedError, match="No KL"):
        D.kl_divergence(D.Normal(0.0, 1.0), D.Gamma(1.0, 1.0))
    with pytest.raises(ValueError, match="already been registered"):
        D.RegisterKL(D.Normal, D.Normal)(lambda a, b, name: a)


def test_samples_have_gradients_by_their_parameters() -> None:
    def build() -> Any:
        loc = tf.constant(2.0)
        return tf.gradients(D.Normal(loc, 1.0).sample(4, seed=2), loc)

    assert run(build) == [4.0]


def test_far_tails_keep_their_digits() -> None:
    found = run(lambda: D.Normal(0.0, 1.0).log_cdf([-30.0, -12.0, 0.0, 9.0]))
    np.testing.assert_allclose(found, [-454.3212, -75.41067, -0.6931472, -1.1285884e-19], rtol=1e-5)


def test_undefined_statistics() -> None:
    assert np.isnan(run(lambda: D.Gamma(0.5, 1.0).mode()))
    assert np.isnan(run(lambda: D.StudentT(0.5, 0.0, 1.0).mean()))
    for build in (
        lambda: D.Gamma(0.5, 1.0, allow_nan_stats=False).mode(), lambda: D.Normal(0.0, -1.0, validate_args=True).mean(),
        lambda: D.Uniform(1.0, 0.0, validate_args=True).mean(),
        lambda: D.Multinomial(3.0, [0.5, 0.5], validate_args=True).log_prob([1.0, 1.0]),
    ):  # fmt: skip
        with pytest.raises(tf.errors.InvalidArgumentError):
            run(build)


def test_descriptions() -> None:
    with tf.Graph().as_default():
        d = D.Normal(0.0, [1.0, 2.0])
        assert str(d) == 'tfp.distributions.Normal("Normal/", batch_shape=(2,), event_shape=(), dtype=float32)'
        assert d.copy(loc=3.0).parameters["loc"] == 3.0
        assert {k: str(v) for k, v in D.Normal.param_static_shapes([2]).items()} == {"loc": "(2,)", "scale": "(2,)"}
        with pytest.raises(NotImplementedError, match="quantile is not implemented: Uniform"):
            D.Uniform().quantile(0.3)
        with pytest.raises(ValueError, match="Must pass probs or logits"):
            D.Bernoulli()
        with pytest.raises(TypeError, match="floating"):
            D.Categorical(logits=[1, 2])
