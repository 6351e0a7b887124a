"""Arrow types of columns: conversion to plain types, and the common type of a column in several files."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

DIGITS = 18  # integers with this many digits always fit into 64 bits


class MixedTypesError(Exception):
    """A column has values of two types without a common type.

    Args:
        column: The column; nested fields are separated by dots.
        earlier: Type in earlier rows.
        here: Type in this row.
    """

    def __init__(self, column: str, earlier: pa.DataType, here: pa.DataType) -> None:
        super().__init__(f"column '{column}' holds {_name(here)} here and {_name(earlier)} in an earlier row")


def merged(earlier: pa.DataType, here: pa.DataType, column: str) -> pa.DataType:
    """Return the common type of two types: null with any type, integers with floats, structs with all fields.

    Raises:
        MixedTypesError: When there is no common type.
    """
    import pyarrow as pa

    if earlier.equals(here) or pa.types.is_null(here):
        return earlier
    if pa.types.is_null(earlier):
        return here
    if pa.types.is_struct(earlier) and pa.types.is_struct(here):
        fields = {field.name: field.type for field in earlier}
        for field in here:
            known = fields.get(field.name)
            fields[field.name] = field.type if known is None else merged(known, field.type, f"{column}.{field.name}")
        return pa.struct(list(fields.items()))
    if pa.types.is_list(earlier) and pa.types.is_list(here):
        return pa.list_(merged(earlier.value_type, here.value_type, column))
    if _is_number(earlier) and _is_number(here):
        return _merged_numbers(earlier, here)
    raise MixedTypesError(column, earlier, here)


def _merged_numbers(earlier: pa.DataType, here: pa.DataType) -> pa.DataType:
    """Return the narrowest common type of two number types; a cast fails later if a 64-bit number does not fit."""
    import pyarrow as pa

    is_unsigned = pa.types.is_unsigned_integer
    if pa.types.is_integer(earlier) != pa.types.is_integer(here):
        return pa.float64()
    narrow, wide = sorted((earlier, here), key=lambda kind: (kind.bit_width, is_unsigned(kind)))
    if is_unsigned(wide) and not is_unsigned(narrow):
        signed = {8: pa.int16(), 16: pa.int32(), 32: pa.int64(), 64: pa.int64()}
        return signed[wide.bit_width]
    return wide


def plain(kind: pa.DataType, *, is_number: bool = False) -> pa.DataType:
    """Replace variants of string, list and integer types by the plain type, also in nested types.

    Args:
        kind: The type in the file.
        is_number: Read decimals as numbers; without it, decimals with a fraction keep their type.

    Examples:
        >>> import pyarrow as pa
        >>> plain(pa.list_(pa.large_string(), 3))
        ListType(list<item: string>)
        >>> plain(pa.map_(pa.string(), pa.dictionary(pa.int8(), pa.string())))
        ListType(list<item: struct<key: string, value: string>>)
        >>> plain(pa.decimal128(18, 0)), plain(pa.decimal128(3, 1), is_number=True)
        (DataType(int64), DataType(double))
    """
    import pyarrow as pa

    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return plain(kind.storage_type, is_number=is_number)
    if types.is_dictionary(kind):
        return plain(kind.value_type, is_number=is_number)
    if types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if types.is_large_binary(kind) or types.is_binary_view(kind):
        return pa.binary()
    if types.is_decimal(kind) and (is_number or (kind.scale == 0 and kind.precision <= DIGITS)):
        return pa.int64() if kind.scale <= 0 else pa.float64()
    if types.is_map(kind):
        return plain(pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)])), is_number=is_number)
    lists = (types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view, types.is_large_list_view)
    if any(is_kind(kind) for is_kind in lists):
        return pa.list_(plain(kind.value_type, is_number=is_number))
    if types.is_struct(kind):
        return pa.struct([(field.name, plain(field.type, is_number=is_number)) for field in kind])
    return kind


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _name(kind: pa.DataType) -> str:
    """Return the name of a type for messages."""
    import pyarrow as pa

    if pa.types.is_list(kind):
        return f"a list of {_name(kind.value_type)}"
    names = ((pa.types.is_string, "text"), (_is_number, "numbers"), (pa.types.is_boolean, "true/false"))
    return next((name for test, name in names if test(kind)), "an object" if pa.types.is_struct(kind) else str(kind))
