"""tf.math."""

# ruff: noqa: F401, I001

from __future__ import annotations

from stepjit.ops.activations import log_softmax, softmax, softplus, softsign
from stepjit.ops.array import invert_permutation
from stepjit.ops.comparison import (
    approximate_equal, equal, greater, greater_equal, less, less_equal, logical_and, logical_not, logical_or,
    logical_xor, not_equal,
)  # fmt: skip
from stepjit.ops.complex import angle, conj, imag, real
from stepjit.ops.elementwise import (
    abs, acos, acosh, asin, asinh, atan, atanh, ceil, cos, cosh, digamma, erf, erfc, erfinv, exp, expm1, floor,
    is_finite, is_inf, is_nan, lgamma, log, log1p, log_sigmoid, negative, reciprocal, rint, round, rsqrt, sigmoid,
    sign, sin, sinh, sqrt, square, tan, tanh,
)  # fmt: skip
from stepjit.ops.math import (
    accumulate_n, add, add_n, atan2, div_no_nan, divide, floordiv, floormod, maximum, minimum, mod, multiply,
    multiply_no_nan, pow, reciprocal_no_nan, scalar_mul, squared_difference, subtract, truediv, xdivy, xlog1py, xlogy,
)  # fmt: skip
from stepjit.ops.normalization import l2_normalize, zero_fraction
from stepjit.ops.reductions import (
    argmax, argmin, count_nonzero, cumprod, cumsum, cumulative_logsumexp, reduce_all, reduce_any,
    reduce_euclidean_norm, reduce_logsumexp, reduce_max, reduce_mean, reduce_min, reduce_prod, reduce_std,
    reduce_sum, reduce_variance,
)  # fmt: skip
from stepjit.ops.segments import (
    in_top_k, segment_max, segment_mean, segment_min, segment_prod, segment_sum, sparse_segment_mean,
    sparse_segment_sqrt_n, sparse_segment_sum, top_k, unsorted_segment_max, unsorted_segment_mean,
    unsorted_segment_min, unsorted_segment_prod, unsorted_segment_sqrt_n, unsorted_segment_sum,
)  # fmt: skip
from stepjit.ops.special import (
    bessel_i0, bessel_i0e, bessel_i1, bessel_i1e, betainc, bincount, confusion_matrix, igamma, igammac, lbeta, ndtri,
    nextafter, polygamma, zeta,
)  # fmt: skip
