"""Features of columns (`datasets.Features`): conversion to plain types, and class names of several files."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from transformers_framework.sources.column_types import plain

if TYPE_CHECKING:
    import pyarrow as pa


class MixedNamesError(Exception):
    """A column has class names in one file, and numbers without names in another."""


def features_of(schema: pa.Schema, numbers: Collection[str] = ()) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the feature of each column, with plain types, and the types of columns that cannot be read.

    Args:
        schema: Arrow schema, with or without the metadata of `datasets`.
        numbers: Columns whose decimals are read as numbers.
    """
    import datasets
    import pyarrow as pa

    features, types = {}, {}
    for field in schema:
        try:
            kind = plain(field.type, is_number=field.name in numbers)
            pa.array([], field.type).cast(kind)
            try:
                known = datasets.Features.from_arrow_schema(pa.schema([field], metadata=schema.metadata))[field.name]
                feature = plain_feature(known)
            except (ValueError, TypeError, KeyError, AttributeError):  # unknown to datasets, or other metadata
                feature = datasets.features.features.generate_from_arrow_type(kind)
            if datasets.Features({field.name: feature}).arrow_schema.field(0).type != kind:
                feature = datasets.features.features.generate_from_arrow_type(kind)
            features[field.name] = feature
        except (ValueError, TypeError, KeyError, pa.ArrowException):
            types[field.name] = str(field.type)
    return features, types


def without(schema: pa.Schema, column: str) -> pa.Schema:
    """Return a schema of `datasets` without one of its columns, also in the metadata."""
    import datasets

    features = datasets.Features.from_arrow_schema(schema)
    return datasets.Features({name: feature for name, feature in features.items() if name != column}).arrow_schema


def plain_feature(feature: Any) -> Any:
    """Return a feature with variable-length lists and plain string types."""
    import datasets

    if isinstance(feature, dict):
        return {name: plain_feature(value) for name, value in feature.items()}
    if isinstance(feature, (datasets.List, datasets.LargeList)):
        return datasets.List(plain_feature(feature.feature))
    if isinstance(feature, datasets.Value):
        kind = plain(feature.pa_type)
        return feature if kind == feature.pa_type else datasets.features.features.generate_from_arrow_type(kind)
    return feature


def with_all_names(earlier: Any, here: Any) -> Any:
    """Return the common feature of a column in two files, with the class names of both; the earlier ones first.

    Raises:
        MixedNamesError: When one of them has class names and the other has numbers only.
    """
    import datasets

    named = [isinstance(feature, datasets.ClassLabel) for feature in (earlier, here)]
    if all(named):
        return datasets.ClassLabel(names=list(dict.fromkeys((*earlier.names, *here.names))))
    if any(named):
        label, other = (earlier, here) if named[0] else (here, earlier)
        if not (isinstance(other, datasets.Value) and other.dtype == "null"):
            raise MixedNamesError(", ".join(label.names))
        return label
    if isinstance(earlier, datasets.List) and isinstance(here, datasets.List):
        return datasets.List(with_all_names(earlier.feature, here.feature))
    if isinstance(earlier, dict) and isinstance(here, dict):
        return here | {n: with_all_names(value, here[n]) if n in here else value for n, value in earlier.items()}
    return earlier


def renumbered(array: pa.Array, here: Any, target: Any) -> pa.Array:
    """Return a column with its class numbers changed to those of another feature with the same class names.

    Args:
        array: The column, with plain types.
        here: Feature of the column.
        target: Common feature, from :func:`with_all_names`.
    """
    import datasets
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(here, datasets.ClassLabel):
        if here.names == target.names[: len(here.names)]:
            return array
        number = np.array([target.names.index(name) for name in here.names], dtype=np.int64)
        values = pc.fill_null(array, -1).to_numpy().astype(np.int64)
        known = (values >= 0) & (values < len(number))
        values = np.where(known, number[np.where(known, values, 0)], values)
        return pa.array(values, array.type, mask=array.is_null().to_numpy(zero_copy_only=False))
    if isinstance(here, datasets.List):
        sizes = pc.fill_null(pc.list_value_length(array), 0).to_numpy()
        offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]), pa.int32())
        return pa.ListArray.from_arrays(
            offsets, renumbered(pc.list_flatten(array), here.feature, target.feature), mask=array.is_null()
        )
    if isinstance(here, dict):
        names = [field.name for field in array.type]
        parts = [renumbered(pc.struct_field(array, name), here[name], target[name]) for name in names]
        return pa.StructArray.from_arrays(parts, names, mask=array.is_null())
    return array


def has_names(feature: Any) -> bool:
    """Return whether a feature has class names."""
    import datasets

    if isinstance(feature, datasets.List):
        return has_names(feature.feature)
    if isinstance(feature, dict):
        return any(map(has_names, feature.values()))
    return isinstance(feature, datasets.ClassLabel)
