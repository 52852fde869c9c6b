"""Distributions of classes and counts: Bernoulli, categorical, multinomial, Dirichlet-multinomial."""

from __future__ import annotations

from typing import Any

from stepjit.distributions.base import NOT_REPARAMETERIZED, Distribution, RegisterKL, gen_new_seed
from stepjit.distributions.gammas import Concentrated
from stepjit.distributions.parameters import (
    after,
    less_equal,
    log_combinations,
    logits_and_probs,
    non_negative,
    whole,
)  # fmt: skip
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Tensor
from stepjit.ops.activations import log_softmax, softplus
from stepjit.ops.array import concat, expand_dims, reshape, shape, transpose
from stepjit.ops.assertions import assert_equal
from stepjit.ops.cast import cast
from stepjit.ops.creation import matrix_set_diag, ones_like, sequence_mask, zeros_like
from stepjit.ops.cross_entropy import sigmoid_cross_entropy_with_logits, sparse_softmax_cross_entropy_with_logits
from stepjit.ops.elementwise import log, sigmoid, sqrt
from stepjit.ops.indexing import one_hot
from stepjit.ops.linear import matmul
from stepjit.ops.map_fn import map_fn
from stepjit.ops.random import multinomial, random_gamma, random_uniform
from stepjit.ops.reductions import argmax, reduce_sum
from stepjit.ops.special import lbeta
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import as_dtype


class _Chances(Distribution):
    """Distributions by probabilities, or what gives them."""

    _logits: Tensor
    _probs: Tensor

    @property
    def logits(self) -> Tensor:
        """Unnormalised log probabilities, or log odds."""
        return self._logits

    @property
    def probs(self) -> Tensor:
        """Probabilities."""
        return self._probs


# --- Bernoulli ---


class Bernoulli(_Chances):
    """1 with probability `probs`, or sigmoid(`logits`), else 0."""

    def __init__(
        self, logits: Any = None, probs: Any = None, dtype: Any = dtypes.int32, validate_args: bool = False,
        allow_nan_stats: bool = True, name: str = "Bernoulli",
    ) -> None:  # fmt: skip
        given = dict(locals())
        with name_scope(name) as scope:
            self._logits, self._probs = logits_and_probs(logits, probs, False, validate_args, scope)
        super().__init__(
            as_dtype(dtype), NOT_REPARAMETERIZED, validate_args, allow_nan_stats, given, [self._logits, self._probs],
            scope,
        )  # fmt: skip

    @classmethod
    def _param_shapes(cls, sample_shape: Any) -> dict[str, Tensor]:
        return {"logits": convert_to_tensor(sample_shape, dtypes.int32)}

    def _batch_shape(self) -> Any:
        return self._logits.shape

    def _batch_shape_tensor(self) -> Tensor:
        return shape(self._logits)

    def _event_shape(self) -> Any:
        return ()

    def _event_shape_tensor(self) -> Tensor:
        return constant([], dtype=dtypes.int32)

    def _sample_n(self, n: Tensor, seed: int | None) -> Tensor:
        drawn = random_uniform(self._with_samples(n), seed=seed, dtype=self.probs.dtype.base_dtype)
        return cast(drawn < self.probs, self.dtype)

    def _log_prob(self, event: Tensor) -> Tensor:
        if self.validate_args:
            one = constant(1, event.dtype.base_dtype)
            event = after([non_negative(event), less_equal(event, one), *whole(event)], event)
        labels = cast(event, self.logits.dtype.base_dtype)
        logits = self.logits * ones_like(labels)
        return -sigmoid_cross_entropy_with_logits(labels=labels * ones_like(logits), logits=logits)

    def _entropy(self) -> Tensor:
        return -self.logits * (sigmoid(self.logits) - 1.0) + softplus(-self.logits)

    def _mean(self) -> Tensor:
        return self.probs

    def _variance(self) -> Tensor:
        return self._mean() * (1.0 - self.probs)

    def _mode(self) -> Tensor:
        return cast(self.probs > 0.5, self.dtype)


@RegisterKL(Bernoulli, Bernoulli)
def _bernoulli_divergence(a: Bernoulli, b: Bernoulli, name: str | None = None) -> Tensor:
    with name_scope(name, "kl_bernoulli_bernoulli", [a.logits, b.logits]):
        zero = softplus(-b.logits) - softplus(-a.logits)
        one = softplus(b.logits) - softplus(a.logits)
        return sigmoid(a.logits) * zero + sigmoid(-a.logits) * one


# --- Categorical ---


class Categorical(_Chances):
    """One of the classes along the last axis of `probs`, or softmax(`logits`)."""

    def __init__(
        self, logits: Any = None, probs: Any = None, dtype: Any = dtypes.int32, validate_args: bool = False,
        allow_nan_stats: bool = True, name: str = "Categorical",
    ) -> None:  # fmt: skip
        given = dict(locals())
        with name_scope(name, values=[logits, probs]) as scope:
            self._logits, self._probs = logits_and_probs(logits, probs, True, validate_args, scope)
            static = self._logits.shape.with_rank_at_least(1)
            self._classes = static[-1].value if static.ndims is not None else None
            with name_scope("event_size"):
                self._event_size = (
                    shape(self._logits)[-1] if self._classes is None else convert_to_tensor(self._classes, dtypes.int32)
                )
        super().__init__(
            as_dtype(dtype), NOT_REPARAMETERIZED, validate_args, allow_nan_stats, given, [self._logits, self._probs],
            scope,
        )  # fmt: skip

    @property
    def event_size(self) -> Tensor:
        """How many classes there are."""
        return self._event_size

    def _batch_shape(self) -> Any:
        return self.logits.shape[:-1]

    def _batch_shape_tensor(self) -> Tensor:
        return shape(self.logits)[:-1]

    def _event_shape(self) -> Any:
        return ()

    def _event_shape_tensor(self) -> Tensor:
        return constant([], dtype=dtypes.int32)

    def _sample_n(self, n: Tensor, seed: int | None) -> Tensor:
        rows = self.logits
        if rows.shape.ndims != 2:
            rows = reshape(self.logits, concat([[-1], [self.event_size]], 0))
        wide = dtypes.int64 if self.dtype.size > 4 else dtypes.int32
        drawn = multinomial(rows, n, seed=seed, output_dtype=wide)
        return cast(reshape(transpose(drawn), self._with_samples(n)), self.dtype)

    def _together(self, event: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Classes, logits and probabilities of one batch shape."""
        ahead = cast(expand_dims(event, -1), self.logits.dtype.base_dtype)
        logits = self.logits * ones_like(ahead)
        probs = self.probs * ones_like(ahead)
        return event * ones_like(reduce_sum(cast(logits, self._of(event)) * 0, -1), dtype=event.dtype), logits, probs

    @staticmethod
    def _of(event: Tensor) -> Any:
        return event.dtype.base_dtype

    def _checked(self, event: Tensor) -> Tensor:
        if not self.validate_args:
            return event
        most = cast(self.event_size - 1, event.dtype.base_dtype)
        return after([non_negative(event), less_equal(event, most), *whole(event)], event)

    def _log_prob(self, event: Tensor) -> Tensor:
        classes, logits, _ = self._together(self._checked(convert_to_tensor(event, name="k")))
        return -sparse_softmax_cross_entropy_with_logits(labels=cast(classes, dtypes.int32), logits=logits)

    def _cdf(self, event: Tensor) -> Tensor:
        classes, _, probs = self._together(self._checked(convert_to_tensor(event, name="k")))
        below = sequence_mask(cast(classes, dtypes.int32), self.event_size, dtype=probs.dtype.base_dtype)
        return reduce_sum(probs * below, -1)

    def _entropy(self) -> Tensor:
        return -reduce_sum(log_softmax(self.logits) * self.probs, -1)

    def _mode(self) -> Tensor:
        found = cast(argmax(self.logits, axis=-1), self.dtype)
        found.set_shape(self.batch_shape)
        return found


@RegisterKL(Categorical, Categorical)
def _categorical_divergence(a: Categorical, b: Categorical, name: str | None = None) -> Tensor:
    with name_scope(name, "kl_categorical_categorical", [a.logits, b.logits]):
        difference = log_softmax(a.logits) - log_softmax(b.logits)
        return reduce_sum(a.probs * difference, -1)


# --- Multinomial, DirichletMultinomial ---


def _total_count(value: Any, validate_args: bool) -> Tensor:
    x = convert_to_tensor(value, name="total_count")
    if not validate_args:
        return x
    return after([non_negative(x, message="total_count must be non-negative."), *whole(x)], x)


class _Counts(Distribution):
    """How often each class was drawn in `total_count` draws."""

    _total: Tensor

    @property
    def total_count(self) -> Tensor:
        """How many draws are made."""
        return self._total

    def _of_classes(self) -> Tensor:
        """A tensor [..., classes] with the batch's shape."""
        raise NotImplementedError("_of_classes")

    def _batch_shape(self) -> Any:
        return self._of_classes().shape.with_rank_at_least(1)[:-1]

    def _batch_shape_tensor(self) -> Tensor:
        return shape(self._of_classes())[:-1]

    def _event_shape(self) -> Any:
        return self._of_classes().shape.with_rank_at_least(1)[-1:]

    def _event_shape_tensor(self) -> Tensor:
        return shape(self._of_classes())[-1:]

    def _checked(self, counts: Tensor) -> Tensor:
        if not self.validate_args:
            return counts
        same = assert_equal(self.total_count, reduce_sum(counts, -1), message="counts must sum to `self.total_count`")
        return after([non_negative(counts, message="counts must be non-negative."), *whole(counts), same], counts)


class Multinomial(_Counts, _Chances):
    """Counts [..., classes] of `total_count` draws by `probs` or softmax(`logits`): floats of their dtype."""

    def __init__(
        self, total_count: Any, logits: Any = None, probs: Any = None, validate_args: bool = False,
        allow_nan_stats: bool = True, name: str = "Multinomial",
    ) -> None:  # fmt: skip
        given = dict(locals())
        with name_scope(name, values=[total_count, logits, probs]) as scope:
            self._total = _total_count(total_count, validate_args)
            self._logits, self._probs = logits_and_probs(logits, probs, True, validate_args, scope)
            self._mean_val = expand_dims(self._total, -1) * self._probs
        super().__init__(
            self._probs.dtype.base_dtype, NOT_REPARAMETERIZED, validate_args, allow_nan_stats, given,
            [self._total, self._logits, self._probs], scope,
        )  # fmt: skip

    def _of_classes(self) -> Tensor:
        return self._mean_val

    def _sample_n(self, n: Tensor, seed: int | None) -> Tensor:
        draws = cast(self.total_count, dtypes.int32)
        classes = self.event_shape_tensor()[0]
        alike = zeros_like(self._mean_val[..., 0], dtype=dtypes.int32)
        every = reshape(draws + alike, [-1])
        rows = reshape(self.logits + zeros_like(self._mean_val), concat([[-1], [classes]], 0))

        def counts(both: Any) -> Tensor:
            logits, count = both
            drawn = multinomial(expand_dims(logits, 0), count * n, seed=seed)
            return reduce_sum(one_hot(reshape(drawn, concat([[n], [-1]], 0)), classes), -2)

        found = transpose(map_fn(counts, (rows, every), dtype=self.dtype), [1, 0, 2])
        return reshape(found, concat([reshape(n, [1]), self.batch_shape_tensor(), [classes]], 0))

    def _log_prob(self, counts: Tensor) -> Tensor:
        counts = self._checked(counts)
        return reduce_sum(counts * log_softmax(self.logits), -1) + log_combinations(self.total_count, counts)

    def _mean(self) -> Tensor:
        return self._mean_val

    def _covariance(self) -> Tensor:
        probs = self.probs * ones_like(self._mean_val)
        shared = -matmul(expand_dims(self._mean_val, -1), expand_dims(probs, -2))
        return matrix_set_diag(shared, self._variance())

    def _variance(self) -> Tensor:
        return self._mean_val - self._mean_val * (self.probs * ones_like(self._mean_val))


class DirichletMultinomial(Concentrated, _Counts):
    """Counts [..., classes] of `total_count` draws whose probabilities are drawn from Dirichlet(`concentration`)."""

    def __init__(
        self, total_count: Any, concentration: Any, validate_args: bool = False, allow_nan_stats: bool = True,
        name: str = "DirichletMultinomial",
    ) -> None:  # fmt: skip
        given = dict(locals())
        with name_scope(name, values=[total_count, concentration]) as scope:
            self._total = _total_count(total_count, validate_args)
            self._concentrate(concentration, validate_args)
        super().__init__(
            self._concentration.dtype.base_dtype, NOT_REPARAMETERIZED, validate_args, allow_nan_stats, given,
            [self._total, self._concentration], scope,
        )  # fmt: skip

    def _of_classes(self) -> Tensor:
        return self._concentration

    def _sample_n(self, n: Tensor, seed: int | None) -> Tensor:
        classes = self.event_shape_tensor()[0]
        drawn = random_gamma(reshape(n, [1]), self.concentration, dtype=self.dtype, seed=seed)
        rows = reshape(log(drawn), concat([[-1], [classes]], 0))
        again = gen_new_seed(seed, "dirichlet_multinomial")
        draws = multinomial(rows, cast(self.total_count, dtypes.int32), seed=again)
        counts = reduce_sum(one_hot(draws, classes), -2)
        return cast(reshape(counts, concat([reshape(n, [1]), self.batch_shape_tensor(), [classes]], 0)), self.dtype)

    def _log_prob(self, counts: Tensor) -> Tensor:
        counts = self._checked(counts)
        ordered = lbeta(self.concentration + counts) - lbeta(self.concentration)
        return ordered + log_combinations(self.total_count, counts)

    def _mean(self) -> Tensor:
        return expand_dims(self.total_count, -1) * (self.concentration / expand_dims(self.total_concentration, -1))

    def _spread(self) -> Tensor:
        """How much wider counts are spread than those of a multinomial, as a root."""
        total = expand_dims(self.total_concentration, -1)
        return sqrt((1.0 + total / expand_dims(self.total_count, -1)) / (1.0 + total))

    def _covariance(self) -> Tensor:
        x = self._spread() * self._mean()
        return matrix_set_diag(-matmul(expand_dims(x, -1), expand_dims(x, -2)), self._variance())

    def _variance(self) -> Tensor:
        scale = self._spread()
        x = scale * self._mean()
        return x * (expand_dims(self.total_count, -1) * scale - x)
