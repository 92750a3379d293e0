"""What Numba has no words for, said in LLVM's own: vectors, and memory that is read ahead."""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16
"""Numbers that `least_of` looks at."""
_I1, _I8, _I32, _I64 = (ir.IntType(bits) for bits in (1, 8, 32, 64))
_NUMBERS = ir.VectorType(_I32, LANES)


def _address(context: Any, builder: Any, array_type: Any, array: Any, at: Any) -> Any:
    """The address of an element of an array of one dimension."""
    made = cgutils.create_struct_proxy(array_type)(context, builder, value=array)
    return builder.gep(made.data, [at])


@intrinsic
def least_of(typing_context: Any, numbers: Any, at: Any) -> Any:
    """The least of `LANES` numbers of an int32 array from a place on; nobody checks that they are there."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature.args[0], *arguments)
        values = builder.load(builder.bitcast(address, _NUMBERS.as_pointer()), align=4)
        kind = ir.FunctionType(_I32, [_NUMBERS])
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.smin.v{LANES}i32")
        return builder.call(function, [values])

    return types.int32(numbers, types.intp), generate


@intrinsic
def load_eight(typing_context: Any, data: Any, at: Any) -> Any:
    """Eight bytes of ``data[at:]``, wherever they begin, as a little-endian uint64; nobody checks that they are there."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature.args[0], *arguments)
        return builder.load(builder.bitcast(address, _I64.as_pointer()), align=1)

    return types.uint64(data, types.intp), generate


@intrinsic
def lowest_bit(typing_context: Any, value: Any) -> Any:
    """The number of the lowest bit of a uint64 that is set; of 0 it is any."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(_I1, 1))

    return types.uint64(types.uint64), generate


@intrinsic
def prefetch(typing_context: Any, array: Any, at: Any) -> Any:
    """Begin to load the cache line of an element of an array of one dimension."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = builder.bitcast(_address(context, builder, signature.args[0], *arguments), _I8.as_pointer())
        function = builder.module.declare_intrinsic(
            "llvm.prefetch", [_I8.as_pointer()], ir.FunctionType(ir.VoidType(), [_I8.as_pointer(), _I32, _I32, _I32])
        )
        builder.call(function, [address, *(ir.Constant(_I32, k) for k in (0, 3, 1))])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate
