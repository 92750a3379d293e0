"""What Numba has no words for: many bytes or numbers asked at once, bits counted, and memory read ahead.

Numba compiles no loop that turns comparisons into the bits of a number. These functions say it in LLVM's own vectors, which
any processor's code generator knows: with AVX-512 a class of two ranges takes five instructions for 64 bytes, without it more.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 64
"""Bytes that a mask tells of: byte k is bit k."""
NUMBERS = 16
"""Numbers that `least_of` looks at."""

_I1, _I8, _I32, _I64 = (ir.IntType(bits) for bits in (1, 8, 32, 64))
_BYTES = ir.VectorType(_I8, LANES)
_VECTOR = ir.VectorType(_I32, NUMBERS)


def _address(context: Any, builder: Any, array_type: Any, array: Any, at: Any) -> Any:
    """The address of an element of an array of one dimension."""
    made = cgutils.create_struct_proxy(array_type)(context, builder, value=array)
    return builder.gep(made.data, [at])


def byte_class(*ranges: tuple[int, int]) -> Any:
    """A function for kernels: (text uint8, at) -> uint64, whose bit k is whether ``text[at + k]`` lies in one of the ranges.

    64 bytes from `at` on must lie in the array: nothing checks it.

    Args:
        ranges: (first, last) byte of each.
    """

    def splat(value: int) -> Any:
        return ir.Constant(_BYTES, [value] * LANES)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature.args[0], *arguments)
        values = builder.load(builder.bitcast(address, _BYTES.as_pointer()), align=1)
        inside = None
        for first, last in ranges:
            if first == last:
                found = builder.icmp_unsigned("==", values, splat(first))
            else:
                found = builder.icmp_unsigned("<=", builder.sub(values, splat(first)), splat(last - first))
            inside = found if inside is None else builder.or_(inside, found)
        return builder.bitcast(inside, _I64)

    def mask(typing_context: Any, text: Any, at: Any) -> Any:
        return types.uint64(text, types.intp), generate

    return intrinsic(mask)


@intrinsic
def trailing_zeros(typing_context: Any, value: Any) -> Any:
    """How many bits below the lowest set one of a uint64; 64 where none is."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(_I1, 0))

    return types.int64(types.uint64), generate


@intrinsic
def leading_zeros(typing_context: Any, value: Any) -> Any:
    """How many bits above the highest set one of a uint64; 64 where none is."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctlz(arguments[0], ir.Constant(_I1, 0))

    return types.int64(types.uint64), generate


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


@intrinsic
def ones(typing_context: Any, value: Any) -> Any:
    """How many bits of a uint64 are set."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


@intrinsic
def load_eight(typing_context: Any, data: Any, at: Any) -> Any:
    """Eight bytes of ``data[at:]``, wherever they begin, as a little-endian uint64; nobody checks that they are there."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature.args[0], *arguments)
        return builder.load(builder.bitcast(address, _I64.as_pointer()), align=1)

    return types.uint64(data, types.intp), generate


@intrinsic
def least_of(typing_context: Any, numbers: Any, at: Any) -> Any:
    """The least of `NUMBERS` numbers of an int32 array from a place on; nobody checks that they are there."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature.args[0], *arguments)
        values = builder.load(builder.bitcast(address, _VECTOR.as_pointer()), align=4)
        kind = ir.FunctionType(_I32, [_VECTOR])
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.smin.v{NUMBERS}i32")
        return builder.call(function, [values])

    return types.int32(numbers, types.intp), generate
