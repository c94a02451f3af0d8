"""Labels as people write them (names, codes, codes with names beside them) as indices into the model's classes.

Where the data says what its codes mean and the model says what its outputs mean, codes are matched by name: a data set
that counts cats as 0 and a model whose output 0 is dogs still agree. Where only one of the two knows names, code k is
output k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from forwardinf_core.datasets.identity import listed
from forwardinf_core.datasets.rows import UNLABELLED
from forwardinf_core.errors import DataError

HIGHEST_CODE = 100_000  # beyond this a number is an id or a measurement, not a class
_CLASSES_NAMED = 20


@dataclass(frozen=True, slots=True)
class Column:
    """One column with what errors need to say where it is."""

    name: str
    values: pa.ChunkedArray
    where: str  # file the column is in
    ids: Sequence[str]  # one a row


def decode_labels(
    column: Column, *, names: dict[int, str] | None, classes: tuple[str, ...] | None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return labels (n,) as indices into classes, −1 = none, and the classes.

    ``names`` says what integer codes mean, if the data does. With ``classes`` None they are made: names in sorted
    order, or all codes from 0 to the highest. Empty text, null, NaN and −1 mean no label. Raises DataError on a label
    outside the classes, and on a column that cannot hold labels.
    """
    values, indices = _distinct(column)  # indices (n,), −1 where null
    texts = [value for value in values if isinstance(value, str) and value]
    codes = [value for value in values if isinstance(value, int) and value != UNLABELLED]
    if classes is None:
        classes = tuple(sorted(texts)) if texts else _classes_of_codes(column, codes, names or {})
    index = {name: position for position, name in enumerate(classes)}
    names = names or {}
    by_name = any(names.get(code) in index for code in codes)
    aligned = all(index.get(name) == code for code, name in names.items())

    def place(value: str | int) -> int | None:
        if value in ("", UNLABELLED):
            return UNLABELLED
        if isinstance(value, str):
            return index.get(value)
        if by_name and value in names:
            return index.get(names[value])
        if by_name and not aligned:
            return None
        return value if 0 <= value < len(classes) else None

    places = [place(value) for value in values]
    unknown = [value for value, found in zip(values, places, strict=True) if found is None]
    if unknown:
        rows: list[int] = np.flatnonzero(indices == values.index(unknown[0])).tolist()
        shown = repr(unknown[0]) + (f" ({names[unknown[0]]})" if unknown[0] in names else "")
        raise DataError(
            f"{column.where}: label {shown} in column {column.name!r} is not one of the {len(classes)} known classes; "
            f"rows {listed([column.ids[row] for row in rows])}.",
            hint=f"Known classes: {listed(classes, _CLASSES_NAMED)}."
            + ("" if isinstance(unknown[0], str) else f" Codes run from 0 to {len(classes) - 1}."),
        )
    lookup = np.array([*places, UNLABELLED], dtype=np.int64)  # the last entry answers index −1
    return lookup[indices], classes


def names_of_codes(codes: Column, names: Column) -> dict[int, str] | None:
    """Return what each code is called where each code goes with exactly one name and the other way round, else None."""
    code_values, code_indices = _distinct(codes)
    name_values, name_indices = _distinct(names)
    labelled = (code_indices >= 0) & (name_indices >= 0)
    pairs = np.unique(np.stack([code_indices[labelled], name_indices[labelled]], axis=1), axis=0)
    named = {code_values[int(code)]: str(name_values[int(name)]) for code, name in pairs}
    if len(named) < len(pairs) or len(set(named.values())) < len(pairs):
        return None
    if not all(isinstance(code, int) for code in named):
        return None
    return {code: name for code, name in named.items() if isinstance(code, int) and name and code != UNLABELLED}


def _classes_of_codes(column: Column, codes: list[int], names: dict[int, str]) -> tuple[str, ...]:
    highest = max([*codes, *names], default=-1)
    wrong = [code for code in (highest, *codes) if code < UNLABELLED or code > HIGHEST_CODE]
    if wrong:
        raise DataError(
            f"{column.where}: column {column.name!r} holds {wrong[0]}, which cannot be a class code.",
            hint=f"Expected class names, or codes from 0 to at most {HIGHEST_CODE}.",
        )
    classes = tuple(names.get(code, str(code)) for code in range(highest + 1))
    if len(set(classes)) < len(classes):
        twice = sorted({name for name in classes if classes.count(name) > 1})
        raise DataError(f"{column.where}: two classes have the same name: {listed(twice)}.")
    return classes


def _distinct(column: Column) -> tuple[list[str | int], NDArray[np.int64]]:
    """Return the distinct values, text or integer, and for each row which of them it has (−1 = null)."""
    values = column.values
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
    elif pa.types.is_boolean(values.type) or pa.types.is_null(values.type):
        values = values.cast(pa.int8())
    elif not (pa.types.is_integer(values.type) or _is_text(values.type)):
        raise DataError(
            f"{column.where}: column {column.name!r} holds {values.type}, which cannot be labels.",
            hint="Expected class names, or codes from 0.",
        )
    encoded = values.dictionary_encode().unify_dictionaries()
    dictionary = encoded.chunk(0).dictionary.to_pylist() if encoded.num_chunks else []
    indices = np.concatenate(
        [chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False) for chunk in encoded.chunks]
        or [np.zeros(0, np.int64)]
    ).astype(np.int64)
    fractions = [value for value in dictionary if isinstance(value, float) and not value.is_integer()]
    if fractions:
        raise DataError(
            f"{column.where}: column {column.name!r} holds {fractions[0]}, which is not a whole number.",
            hint="Expected class names, or codes from 0.",
        )
    return [int(value) if isinstance(value, float) else value for value in dictionary], indices


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
