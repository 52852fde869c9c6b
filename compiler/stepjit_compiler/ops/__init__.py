"""The op types by family; importing this package registers them all."""

from stepjit_compiler.ops import arithmetic as arithmetic
from stepjit_compiler.ops import bitwise as bitwise
from stepjit_compiler.ops import cast as cast
from stepjit_compiler.ops import comparison as comparison
from stepjit_compiler.ops import complex as complex
from stepjit_compiler.ops import control as control
from stepjit_compiler.ops import division as division
from stepjit_compiler.ops import elementary as elementary
from stepjit_compiler.ops import matmul as matmul
from stepjit_compiler.ops import reductions as reductions
from stepjit_compiler.ops import scans as scans
from stepjit_compiler.ops import select as select
from stepjit_compiler.ops import array as array
from stepjit_compiler.ops import fill as fill
from stepjit_compiler.ops import shape as shape
from stepjit_compiler.ops import slices as slices
from stepjit_compiler.ops import split as split
from stepjit_compiler.ops import padding as padding
from stepjit_compiler.ops import diagonal as diagonal
from stepjit_compiler.ops import gather as gather
from stepjit_compiler.ops import activations as activations
from stepjit_compiler.ops import nn as nn
from stepjit_compiler.ops import softmax as softmax
from stepjit_compiler.ops import state as state
from stepjit_compiler.ops import state_rows as state_rows
from stepjit_compiler.ops import training as training
