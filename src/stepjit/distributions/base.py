"""`Distribution`: what all distributions share; divergences by pairs of classes."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from stepjit.framework.constant_value import constant_value
from stepjit.framework.convert import convert_to_tensor
from stepjit.framework.scopes import control_dependencies, name_scope
from stepjit.framework.shape import TensorShape
from stepjit.framework.tensor import Tensor
from stepjit.ops.array import concat, reshape, shape
from stepjit.ops.control import Assert, identity
from stepjit.ops.creation import ones
from stepjit.ops.elementwise import exp, is_nan, log, log1p, sqrt, square
from stepjit.ops.reductions import reduce_any, reduce_prod
from stepjit_runtime import dtypes


class ReparameterizationType:
    """Whether samples are a differentiable function of the parameters."""

    def __init__(self, rep_type: str) -> None:
        self._name = rep_type

    def __repr__(self) -> str:
        return f"<Reparameterization Type: {self._name}>"

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


FULLY_REPARAMETERIZED = ReparameterizationType("FULLY_REPARAMETERIZED")
NOT_REPARAMETERIZED = ReparameterizationType("NOT_REPARAMETERIZED")


def gen_new_seed(seed: int | None, salt: str) -> int | None:
    """Another seed for a second stream of the same distribution."""
    if seed is None:
        return None
    return int(hashlib.md5((str(seed) + salt).encode("utf-8")).hexdigest()[:8], 16) & 0x7FFFFFFF


class Distribution:
    """A batch of distributions of one family.

    A subclass defines what it can of `_sample_n(n, seed)`, `_log_prob(value)` or `_prob(value)`, `_cdf` or
    `_log_cdf`, `_entropy`, `_mean`, `_mode`, `_quantile`, `_variance` or `_stddev`, `_covariance`, and
    `_batch_shape_tensor`, `_event_shape_tensor` (an int32 vector) and `_batch_shape`, `_event_shape` (static).
    """

    def __init__(
        self, dtype: Any, reparameterization_type: Any, validate_args: bool, allow_nan_stats: bool,
        parameters: Mapping[str, Any] | None = None, graph_parents: Sequence[Any] | None = None,
        name: str | None = None,
    ) -> None:  # fmt: skip
        self._dtype, self._reparameterization_type = dtype, reparameterization_type
        self._validate_args, self._allow_nan_stats = validate_args, allow_nan_stats
        self._parameters = dict(parameters or {})
        self._graph_parents = list(graph_parents or ())
        self._name = name or type(self).__name__

    @classmethod
    def param_shapes(cls, sample_shape: Any, name: str = "DistributionParamShapes") -> dict[str, Tensor]:
        """The shapes that parameters must have for samples of a shape."""
        with name_scope(name, values=[sample_shape]):
            return cls._param_shapes(sample_shape)

    @classmethod
    def param_static_shapes(cls, sample_shape: Any) -> dict[str, TensorShape]:
        """`param_shapes` as static shapes; ValueError for a sample shape that is no constant."""
        if not isinstance(sample_shape, TensorShape):
            value = constant_value(convert_to_tensor(sample_shape))
            if value is None:
                raise ValueError("sample_shape must be a fully-defined TensorShape or a constant.")
            sample_shape = TensorShape(value.tolist())
        if not sample_shape.is_fully_defined():
            raise ValueError("TensorShape sample_shape must be fully defined")
        found = {}
        for name, tensor in cls.param_shapes(sample_shape.as_list()).items():
            value = constant_value(tensor)
            if value is None:
                raise ValueError("sample_shape must be a fully-defined TensorShape or list/tuple")
            found[name] = TensorShape(value.tolist())
        return found

    @classmethod
    def _param_shapes(cls, sample_shape: Any) -> dict[str, Tensor]:
        raise NotImplementedError("_param_shapes not implemented")

    # --- What it is ---

    @property
    def name(self) -> str:
        """The name scope of the ops, with its slash."""
        return self._name

    @property
    def dtype(self) -> Any:
        """The dtype of samples."""
        return self._dtype

    @property
    def parameters(self) -> dict[str, Any]:
        """What the distribution was made of."""
        return {key: value for key, value in self._parameters.items() if key not in ("self", "__class__")}

    @property
    def reparameterization_type(self) -> Any:
        """Whether samples have gradients by the parameters."""
        return self._reparameterization_type

    @property
    def allow_nan_stats(self) -> bool:
        """Whether undefined statistics are NaN (else an error when they are computed)."""
        return self._allow_nan_stats

    @property
    def validate_args(self) -> bool:
        """Whether arguments are checked when the step runs."""
        return self._validate_args

    def copy(self, **override_parameters_kwargs: Any) -> Distribution:
        """The same distribution, but for the parameters given."""
        return type(self)(**{**self.parameters, **override_parameters_kwargs})

    def __str__(self) -> str:
        return f'tfp.distributions.{type(self).__name__}("{self.name}"{self._shapes_text(", ")}, dtype={_name(self)})'

    def __repr__(self) -> str:
        shapes = self._shapes_text(" ")
        return f"<tfp.distributions.{type(self).__name__} '{self.name}'{shapes} dtype={_name(self)}>"

    def _shapes_text(self, separator: str) -> str:
        text = ""
        for name, static in (("batch_shape", self.batch_shape), ("event_shape", self.event_shape)):
            if static.ndims is not None or separator == " ":
                text += f"{separator}{name}={static}"
        return text

    # --- Shapes ---

    def batch_shape_tensor(self, name: str = "batch_shape_tensor") -> Tensor:
        """The shape of one sample of one event per distribution, without the event's own."""
        with self._name_scope(name):
            if self.batch_shape.is_fully_defined():
                return convert_to_tensor(self.batch_shape.as_list(), dtypes.int32, name="batch_shape")
            return self._batch_shape_tensor()

    def event_shape_tensor(self, name: str = "event_shape_tensor") -> Tensor:
        """The shape of one event."""
        with self._name_scope(name):
            if self.event_shape.is_fully_defined():
                return convert_to_tensor(self.event_shape.as_list(), dtypes.int32, name="event_shape")
            return self._event_shape_tensor()

    @property
    def batch_shape(self) -> TensorShape:
        """What is known of the batch's shape."""
        return TensorShape(self._batch_shape())

    @property
    def event_shape(self) -> TensorShape:
        """What is known of an event's shape."""
        return TensorShape(self._event_shape())

    def is_scalar_event(self, name: str = "is_scalar_event") -> Tensor:
        """Whether an event is a scalar."""
        with self._name_scope(name):
            return convert_to_tensor(self._is_scalar(self.event_shape, self.event_shape_tensor), name="is_scalar_event")

    def is_scalar_batch(self, name: str = "is_scalar_batch") -> Tensor:
        """Whether there is but one distribution."""
        with self._name_scope(name):
            return convert_to_tensor(self._is_scalar(self.batch_shape, self.batch_shape_tensor), name="is_scalar_batch")

    def _is_scalar(self, static: TensorShape, dynamic: Callable[[], Tensor]) -> Any:
        if static.ndims is not None:
            return static.ndims == 0
        return shape(dynamic())[0] <= 0

    def _batch_shape_tensor(self) -> Tensor:
        raise NotImplementedError(f"batch_shape_tensor is not implemented: {type(self).__name__}")

    def _event_shape_tensor(self) -> Tensor:
        raise NotImplementedError(f"event_shape_tensor is not implemented: {type(self).__name__}")

    def _batch_shape(self) -> Any:
        return None

    def _event_shape(self) -> Any:
        return None

    # --- Samples ---

    def sample(self, sample_shape: Any = (), seed: int | None = None, name: str = "sample") -> Tensor:
        """Samples: [*sample_shape, *batch_shape, *event_shape]."""
        with self._name_scope(name):
            given = convert_to_tensor(sample_shape, dtypes.int32, name="sample_shape")
            vector = reshape(given, [-1]) if given.dims == () or given.dims is None else given
            drawn = self._sample_n(reduce_prod(vector), seed)
            rest = shape(drawn)[1:]
            found = reshape(drawn, concat([vector, rest], 0))
            self._set_sample_shape(found, vector)
            return found

    def _sample_n(self, n: Tensor, seed: int | None) -> Tensor:
        raise NotImplementedError(f"sample_n is not implemented: {type(self).__name__}")

    def _set_sample_shape(self, x: Tensor, sample_shape: Tensor) -> None:
        known = constant_value(sample_shape)
        lead = None if known is None else known.tolist()
        tail = self.batch_shape.concatenate(self.event_shape)
        if lead is not None and tail.ndims is not None:
            x.set_shape([*lead, *tail.as_list()])

    # --- Functions of values ---

    def log_prob(self, value: Any, name: str = "log_prob") -> Tensor:
        """The logarithm of the density, or of the mass."""
        return self._of_value(name, value, ("_log_prob", None), ("_prob", log))

    def prob(self, value: Any, name: str = "prob") -> Tensor:
        """The density, or the mass."""
        return self._of_value(name, value, ("_prob", None), ("_log_prob", exp))

    def log_cdf(self, value: Any, name: str = "log_cdf") -> Tensor:
        """The logarithm of the probability of at most `value`."""
        return self._of_value(name, value, ("_log_cdf", None), ("_cdf", log))

    def cdf(self, value: Any, name: str = "cdf") -> Tensor:
        """The probability of at most `value`."""
        return self._of_value(name, value, ("_cdf", None), ("_log_cdf", exp))

    def log_survival_function(self, value: Any, name: str = "log_survival_function") -> Tensor:
        """The logarithm of the probability of more than `value`."""
        return self._of_value(name, value, ("_log_survival_function", None), ("_cdf", lambda cdf: log1p(-cdf)))

    def survival_function(self, value: Any, name: str = "survival_function") -> Tensor:
        """The probability of more than `value`."""
        return self._of_value(name, value, ("_survival_function", None), ("_cdf", lambda cdf: 1.0 - cdf))

    def quantile(self, value: Any, name: str = "quantile") -> Tensor:
        """The number that a sample is at most with probability `value`."""
        return self._of_value(name, value, ("_quantile", None))

    def _of_value(self, label: str, value: Any, *ways: tuple[str, Callable[[Tensor], Tensor] | None]) -> Tensor:
        """The first of the subclass's functions that there is, of a value; NotImplementedError if there is none."""
        with self._name_scope(label):
            x = convert_to_tensor(value, name="value", preferred_dtype=self.dtype)
            for name, change in ways:
                if hasattr(self, name):
                    found: Tensor = getattr(self, name)(x)
                    return found if change is None else change(found)
        raise NotImplementedError(f"{label} is not implemented: {type(self).__name__}")

    # --- Statistics ---

    def entropy(self, name: str = "entropy") -> Tensor:
        """Shannon's entropy in nats."""
        return self._statistic(name, ("_entropy", None))

    def mean(self, name: str = "mean") -> Tensor:
        """The mean."""
        return self._statistic(name, ("_mean", None))

    def mode(self, name: str = "mode") -> Tensor:
        """The likeliest value."""
        return self._statistic(name, ("_mode", None))

    def variance(self, name: str = "variance") -> Tensor:
        """The variance."""
        return self._statistic(name, ("_variance", None), ("_stddev", square))

    def stddev(self, name: str = "stddev") -> Tensor:
        """The standard deviation."""
        return self._statistic(name, ("_stddev", None), ("_variance", sqrt))

    def covariance(self, name: str = "covariance") -> Tensor:
        """The covariances of an event's elements."""
        return self._statistic(name, ("_covariance", None))

    def _statistic(self, label: str, *ways: tuple[str, Callable[[Tensor], Tensor] | None]) -> Tensor:
        with self._name_scope(label):
            for name, change in ways:
                if hasattr(self, name):
                    found: Tensor = getattr(self, name)()
                    return found if change is None else change(found)
        raise NotImplementedError(f"{label} is not implemented: {type(self).__name__}")

    # --- Comparisons ---

    def cross_entropy(self, other: Distribution, name: str = "cross_entropy") -> Tensor:
        """The cross entropy with another distribution: entropy plus divergence."""
        with self._name_scope(name):
            return kl_divergence(self, other, allow_nan_stats=self.allow_nan_stats) + self.entropy()

    def kl_divergence(self, other: Distribution, name: str = "kl_divergence") -> Tensor:
        """Kullback and Leibler's divergence to another distribution."""
        with self._name_scope(name):
            return kl_divergence(self, other, allow_nan_stats=self.allow_nan_stats)

    # --- For subclasses ---

    @contextlib.contextmanager
    def _name_scope(self, name: str) -> Iterator[None]:
        with name_scope(self.name), name_scope(name):
            yield

    def _with_samples(self, n: Tensor) -> Tensor:
        """The shape [n, *batch_shape]."""
        return concat([reshape(n, [1]), self.batch_shape_tensor()], 0)

    def _ones(self) -> Tensor:
        return ones(self.batch_shape_tensor(), self.dtype)


def _name(distribution: Distribution) -> str:
    dtype = distribution.dtype
    return "None" if dtype is None else str(dtype.name)


# --- Divergences ---

_Divergence = Callable[[Any, Any, Any], Tensor]
_DIVERGENCES: dict[tuple[type, type], _Divergence] = {}


def _divergence(a: type, b: type) -> _Divergence | None:
    """The function for the nearest classes that both derive from."""
    best: tuple[int, _Divergence] | None = None
    for i, first in enumerate(inspect.getmro(a)):
        for j, second in enumerate(inspect.getmro(b)):
            found = _DIVERGENCES.get((first, second))
            if found is not None and (best is None or i + j < best[0]):
                best = i + j, found
    return None if best is None else best[1]


def kl_divergence(
    distribution_a: Distribution, distribution_b: Distribution, allow_nan_stats: bool = True, name: str | None = None
) -> Tensor:
    """Kullback and Leibler's divergence of a pair; NotImplementedError for classes that have no formula.

    allow_nan_stats: False makes a NaN an error when the step runs.
    """
    function = _divergence(type(distribution_a), type(distribution_b))
    if function is None:
        kinds = f"{type(distribution_a).__name__} and {type(distribution_b).__name__}"
        raise NotImplementedError(f"No KL(distribution_a || distribution_b) registered for distribution_a type {kinds}")
    with name_scope("KullbackLeibler"):
        found = function(distribution_a, distribution_b, name)
        if allow_nan_stats:
            return found
        checked = Assert(
            ~reduce_any(is_nan(found)),
            [f"KL calculation between {distribution_a.name} and {distribution_b.name} returned NaN values", found],
        )
        with control_dependencies([checked]):
            return identity(found, name="checked_kl")


class RegisterKL:
    """A decorator: the function (a, b, name) of the divergence of two classes; ValueError for a second one."""

    def __init__(self, dist_cls_a: type, dist_cls_b: type) -> None:
        self._key = (dist_cls_a, dist_cls_b)

    def __call__(self, kl_fn: _Divergence) -> _Divergence:
        """Register the function."""
        if not callable(kl_fn):
            raise TypeError(f"kl_fn must be callable, received: {kl_fn}")
        if self._key in _DIVERGENCES:
            pair = " || ".join(each.__name__ for each in self._key)
            raise ValueError(f"KL({pair}) has already been registered to: {_DIVERGENCES[self._key]}")
        _DIVERGENCES[self._key] = kl_fn
        return kl_fn
