"""Types of columns: the plain one of each, and the one that holds the values of several files."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


class MixedTypesError(Exception):
    """Two types that no column can hold together.

    Args:
        column: Where, with dots for what is inside.
        earlier: What was there before.
        here: What is there now.
    """

    def __init__(self, column: str, earlier: pa.DataType, here: pa.DataType) -> None:
        super().__init__(f"column '{column}' holds {_name(here)} here and {_name(earlier)} in an earlier row")


def merged(earlier: pa.DataType, here: pa.DataType, column: str) -> pa.DataType:
    """Return the type that holds the values of both: nothing with anything, integers with floats, fields together.

    Raises:
        MixedTypesError: When there is none.
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
        same_kind = pa.types.is_integer(earlier) == pa.types.is_integer(here)
        return max(earlier, here, key=lambda kind: kind.bit_width) if same_kind else pa.float64()
    raise MixedTypesError(column, earlier, here)


def plain(kind: pa.DataType) -> pa.DataType:
    """Replace the variants in which writers store texts and lists by the plain type, wherever they are.

    Examples:
        >>> import pyarrow as pa
        >>> plain(pa.list_(pa.large_string(), 3))
        ListType(list<item: string>)
        >>> plain(pa.map_(pa.string(), pa.dictionary(pa.int8(), pa.string())))
        ListType(list<item: struct<key: string, value: string>>)
    """
    import pyarrow as pa

    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return plain(kind.storage_type)
    if types.is_dictionary(kind):
        return plain(kind.value_type)
    if types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if types.is_large_binary(kind) or types.is_binary_view(kind):
        return pa.binary()
    if types.is_map(kind):
        return pa.list_(pa.struct([("key", plain(kind.key_type)), ("value", plain(kind.item_type))]))
    lists = (types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view, types.is_large_list_view)
    if any(is_kind(kind) for is_kind in lists):
        return pa.list_(plain(kind.value_type))
    if types.is_struct(kind):
        return pa.struct([(field.name, plain(field.type)) for field in kind])
    return kind


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _name(kind: pa.DataType) -> str:
    """Name a type as users do."""
    import pyarrow as pa

    if pa.types.is_list(kind):
        return f"a list of {_name(kind.value_type)}"
    names = ((pa.types.is_string, "text"), (_is_number, "numbers"), (pa.types.is_boolean, "true/false"))
    return next((name for test, name in names if test(kind)), "an object" if pa.types.is_struct(kind) else str(kind))
