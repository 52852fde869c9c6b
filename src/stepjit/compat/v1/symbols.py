"""The functions of the root namespace, by subject."""

# ruff: noqa: F401, I001

from __future__ import annotations

from stepjit.framework.custom_gradient import custom_gradient, grad_pass_through
from stepjit.framework.gradients import AggregationMethod, gradients, UnconnectedGradients
from stepjit.initializers import (
    constant_initializer, glorot_normal_initializer, glorot_uniform_initializer, ones_initializer,
    orthogonal_initializer, random_normal_initializer, random_uniform_initializer, truncated_normal_initializer,
    uniform_unit_scaling_initializer, variance_scaling_initializer, zeros_initializer,
)  # fmt: skip
from stepjit.ops.assertions import (
    add_check_numerics_ops, assert_equal, assert_greater, assert_greater_equal, assert_integer, assert_less,
    assert_less_equal, assert_near, assert_negative, assert_non_negative, assert_non_positive, assert_none_equal,
    assert_positive, assert_proper_iterable, assert_rank, assert_rank_at_least, assert_rank_in,
    assert_same_float_dtype, assert_scalar, assert_type, is_non_decreasing, is_numeric_tensor, is_strictly_increasing,
    verify_tensor_all_finite,
)  # fmt: skip
from stepjit.ops.array import (
    broadcast_dynamic_shape, broadcast_static_shape, broadcast_to, concat, expand_dims, invert_permutation,
    matrix_transpose, parallel_stack, rank, reshape, shape, shape_n, size, split, squeeze, stack, transpose,
    unstack,
)  # fmt: skip
from stepjit.ops.cast import (
    bitcast, cast, saturate_cast, to_bfloat16, to_complex128, to_complex64, to_double, to_float, to_int32, to_int64,
)  # fmt: skip
from stepjit.ops.clip import clip_by_average_norm, clip_by_global_norm, clip_by_norm, clip_by_value, global_norm
from stepjit.ops.comparison import (
    equal, greater, greater_equal, less, less_equal, logical_and, logical_not, logical_or, logical_xor, not_equal,
    where, where_v2,
)  # fmt: skip
from stepjit.ops.cond import case, cond, switch_case
from stepjit.ops.complex import angle, complex, conj, imag, real
from stepjit.ops.creation import (
    diag, diag_part, eye, fill, lin_space, linspace, matrix_band_part, matrix_diag, matrix_diag_part,
    matrix_set_diag, meshgrid, ones, ones_like, range, sequence_mask, zeros, zeros_like,
)  # fmt: skip
from stepjit.ops.decompositions import (
    cholesky, cholesky_solve, matrix_determinant, matrix_inverse, matrix_solve, matrix_solve_ls,
    matrix_triangular_solve, qr, self_adjoint_eig, self_adjoint_eigvals, svd,
)  # fmt: skip
from stepjit.ops.einsum import einsum
from stepjit.ops.elementwise import (
    abs, acos, acosh, asin, asinh, atan, atanh, ceil, cos, cosh, digamma, erf, erfc, exp, expm1, floor, is_finite,
    is_inf, is_nan, lgamma, log, log1p, log_sigmoid, negative, reciprocal, rint, round, rsqrt, sigmoid, sign, sin,
    sinh, sqrt, square, tan, tanh,
)  # fmt: skip
from stepjit.ops.fourier import fft, fft2d, fft3d, ifft, ifft2d, ifft3d
from stepjit.ops.hessians import hessians
from stepjit.ops.indexing import (
    batch_gather, boolean_mask, gather, gather_nd, one_hot, repeat, scatter_nd, slice, strided_slice,
    tensor_scatter_add,
    tensor_scatter_add as tensor_scatter_nd_add, tensor_scatter_sub, tensor_scatter_sub as tensor_scatter_nd_sub,
    tensor_scatter_update, tensor_scatter_update as tensor_scatter_nd_update,
)  # fmt: skip
from stepjit.ops.layout import (
    batch_to_space, batch_to_space_nd, depth_to_space, pad, reverse, reverse_sequence, reverse_v2, roll,
    space_to_batch, space_to_batch_nd, space_to_depth, tile,
)  # fmt: skip
from stepjit.ops.linear import matmul, norm, tensordot, trace
from stepjit.ops.matrix_functions import matrix_square_root
from stepjit.ops.math import (
    accumulate_n, add, add_n, atan2, div, div_no_nan, divide, floor_div, floordiv, floormod, maximum, minimum, mod,
    multiply, pow, scalar_mul, squared_difference, subtract, truediv, truncatediv, truncatemod,
)  # fmt: skip
from stepjit.ops.parsing import (
    decode_json_example, FixedLenFeature, FixedLenSequenceFeature, parse_example, parse_single_example, parse_tensor,
    serialize_tensor, SparseFeature, VarLenFeature,
)  # fmt: skip
from stepjit.ops.queues import FIFOQueue, PaddingFIFOQueue, PriorityQueue, QueueBase, RandomShuffleQueue
from stepjit.ops.fake_quant import (
    fake_quant_with_min_max_args, fake_quant_with_min_max_args_gradient, fake_quant_with_min_max_vars,
    fake_quant_with_min_max_vars_gradient, fake_quant_with_min_max_vars_per_channel,
    fake_quant_with_min_max_vars_per_channel_gradient,
)  # fmt: skip
from stepjit.ops.space_batches import required_space_to_batch_paddings
from stepjit.ops.positions import edit_distance, extract_image_patches, searchsorted, unravel_index
from stepjit.ops.random import (
    multinomial, random_crop, random_gamma, random_normal, random_poisson, random_shuffle, random_uniform,
    truncated_normal,
)  # fmt: skip
from stepjit.ops.readers import (
    FixedLengthRecordReader, IdentityReader, matching_files, read_file, ReaderBase, TextLineReader, TFRecordReader,
    WholeFileReader, write_file,
)  # fmt: skip
from stepjit.ops.reductions import (
    arg_max, arg_min, argmax, argmin, count_nonzero, cumprod, cumsum, reduce_all, reduce_any, reduce_logsumexp,
    reduce_max, reduce_mean, reduce_min, reduce_prod, reduce_sum,
)  # fmt: skip
from stepjit.ops.script import numpy_function, py_func
from stepjit.ops.segments import (
    argsort, dynamic_partition, dynamic_stitch, segment_max, segment_mean, segment_min, segment_prod, segment_sum,
    setdiff1d, sort, sparse_segment_mean, sparse_segment_sqrt_n, sparse_segment_sum, unique, unique_with_counts,
    unsorted_segment_max, unsorted_segment_mean, unsorted_segment_min, unsorted_segment_prod,
    unsorted_segment_sqrt_n, unsorted_segment_sum,
)  # fmt: skip
from stepjit.framework.sparse_tensor import (
    SparseTensor, SparseTensorValue, convert_to_tensor_or_sparse_tensor, sparse_placeholder,
)  # fmt: skip
from stepjit.framework.tensor_like import convert_to_tensor_or_indexed_slices, get_static_value, is_tensor
from stepjit.ops.sparse import (
    sparse_concat, sparse_fill_empty_rows, sparse_mask, sparse_merge, sparse_reorder, sparse_reset_shape,
    sparse_reshape, sparse_retain, sparse_slice, sparse_split, sparse_tensor_to_dense, sparse_to_dense,
    sparse_to_indicator, sparse_transpose,
)  # fmt: skip
from stepjit.ops.sparse_math import (
    sparse_add, sparse_matmul, sparse_maximum, sparse_minimum, sparse_reduce_max, sparse_reduce_max_sparse,
    sparse_reduce_sum, sparse_reduce_sum_sparse, sparse_softmax, sparse_tensor_dense_matmul,
)  # fmt: skip
from stepjit.ops.session_handles import delete_session_tensor, get_session_handle, get_session_tensor
from stepjit.ops.strings import (
    as_string, decode_base64, decode_compressed, decode_csv, decode_raw, encode_base64, reduce_join, regex_replace,
    string_join, string_split, string_strip, string_to_hash_bucket, string_to_hash_bucket_fast,
    string_to_hash_bucket_strong, string_to_number, substr,
)  # fmt: skip
from stepjit.ops.sparse_serialized import deserialize_many_sparse, serialize_many_sparse, serialize_sparse
from stepjit.ops.special import (
    betainc, bincount, confusion_matrix, cross, ensure_shape, histogram_fixed_width, histogram_fixed_width_bins,
    igamma, igammac, lbeta, polygamma, realdiv, zeta,
)  # fmt: skip
from stepjit.ops.state import (
    assign, assign_add, assign_sub, batch_scatter_update, count_up_to, scatter_add, scatter_div, scatter_max,
    scatter_min, scatter_mul, scatter_nd_add, scatter_nd_sub, scatter_nd_update, scatter_sub, scatter_update,
)  # fmt: skip
from stepjit.ops.tables import initialize_all_tables, tables_initializer
from stepjit.ops.tensor_scatter import (
    tensor_scatter_max as tensor_scatter_nd_max, tensor_scatter_min as tensor_scatter_nd_min,
)  # fmt: skip
from stepjit.partitioned import fixed_size_partitioner, min_max_variable_partitioner, variable_axis_size_partitioner
from stepjit.variable_collections import (
    all_variables, assert_variables_initialized, global_variables, global_variables_initializer,
    initialize_all_variables, initialize_local_variables, initialize_variables, is_variable_initialized,
    local_variables, local_variables_initializer, model_variables, moving_average_variables,
    report_uninitialized_variables, trainable_variables, variables_initializer,
)  # fmt: skip
from stepjit.variable_scope import (
    AUTO_REUSE, get_local_variable, get_variable, get_variable_scope, no_regularizer, variable_op_scope,
    variable_scope, VariableScope,
)  # fmt: skip
from stepjit.variable_kinds import (
    disable_resource_variables, enable_resource_variables, resource_variables_enabled, VariableAggregation,
    VariableSynchronization,
)  # fmt: skip
from stepjit.ops.printing import Print, print
from stepjit.ops.map_fn import foldl, foldr, map_fn, scan
from stepjit.ops.tensor_array import TensorArray
from stepjit.ops.while_loop import while_loop
from stepjit.variables import Variable
from stepjit.ops import cond_gradient as _cond_gradient, operators as _operators, switch_gradient as _switch_gradient
from stepjit.ops import while_gradient as _while_gradient
