"""Labels in every shape people write them, and the views that change them."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from forwardinf_core.datasets.labels import Column, decode_labels
from forwardinf_core.datasets.opening import open_image_rows
from forwardinf_core.datasets.rows import ImageRows
from forwardinf_core.datasets.source import RowSource
from forwardinf_core.datasets.views import Relabelled, Subset
from forwardinf_core.errors import DataError, ShapeError

CLASSES = ("cat", "dog", "fox")


def decoded(
    values: Any, *, names: dict[int, str] | None = None, classes: tuple[str, ...] | None = None
) -> tuple[list[int], tuple[str, ...]]:
    column = pa.chunked_array([pa.array(values)]) if not isinstance(values, pa.ChunkedArray) else values
    ids = [f"row{position}" for position in range(len(column))]
    labels, found = decode_labels(Column("label", column, "train.parquet", ids), names=names, classes=classes)
    assert labels.dtype == np.int64
    return labels.tolist(), found


def opened(root: Path, **columns: object) -> ImageRows:
    source_keys = {"label", "label_name"}
    source = {key[5:]: columns.pop(key) for key in [f"with_{name}" for name in source_keys] if key in columns}
    count = len(next(iter(columns.values())))  # type: ignore[arg-type]
    images = []
    for position in range(count):
        out = BytesIO()
        Image.new("L", (2, 2), position).save(out, "PNG")
        images.append(out.getvalue())
    pq.write_table(pa.table({"image": images, **columns}), root / "rows.parquet")
    return open_image_rows(RowSource(kind="parquet", path="rows.parquet", **source), root=root, classes=None)


def test_names_are_sorted_into_classes() -> None:
    assert decoded(["dog", "cat", "dog"]) == ([1, 0, 1], ("cat", "dog"))


def test_names_follow_the_order_of_the_model() -> None:
    assert decoded(["dog", "cat"], classes=("dog", "fox", "cat")) == ([0, 2], ("dog", "fox", "cat"))


@pytest.mark.parametrize("kind", [pa.int8(), pa.int64(), pa.uint8(), pa.float64()])
def test_codes_of_any_number_type_count_from_zero(kind: pa.DataType) -> None:
    assert decoded(pa.chunked_array([pa.array([2, 0, None], kind)])) == ([2, 0, -1], ("0", "1", "2"))


def test_missing_labels_are_minus_one_however_they_are_written() -> None:
    assert decoded(["cat", "", None])[0] == [0, -1, -1]
    assert decoded([1, -1, None])[0] == [1, -1, -1]
    assert decoded([1.0, float("nan")])[0] == [1, -1]
    assert decoded([None, None], classes=CLASSES) == ([-1, -1], CLASSES)
    assert decoded([True, False])[0] == [1, 0]


def test_dictionaries_and_chunks_are_read_as_one_column() -> None:
    chunks = pa.chunked_array([["cat", "dog"], ["fox", "cat"]]).dictionary_encode()
    assert decoded(chunks) == ([0, 1, 2, 0], CLASSES)


def test_names_beside_codes_name_the_classes() -> None:
    assert decoded([0, 2], names={0: "cat", 2: "fox"}) == ([0, 2], ("cat", "1", "fox"))


def test_codes_meet_the_outputs_of_the_model_by_name_where_both_have_names() -> None:
    assert decoded([0, 1, 2], names={0: "fox", 1: "cat", 2: "dog"}, classes=CLASSES)[0] == [2, 0, 1]


def test_codes_are_outputs_where_only_the_data_has_names() -> None:
    assert decoded([0, 1], names={0: "fox", 1: "cat"}, classes=("LABEL_0", "LABEL_1"))[0] == [0, 1]


def test_a_code_whose_name_the_model_lacks_is_refused_even_if_its_number_fits() -> None:
    with pytest.raises(DataError, match=r"label 2 \(owl\)"):
        decoded([0, 2], names={0: "cat", 1: "dog", 2: "owl"}, classes=CLASSES)


@pytest.mark.parametrize(("values", "shown"), [(["cat", "owl", "cat", "owl"], "'owl'"), ([0, 3, 1, 3], "3")])
def test_an_unknown_label_is_named_with_its_rows_and_the_known_classes(values: list[object], shown: str) -> None:
    with pytest.raises(DataError, match=f"label {shown} .*3 known classes; rows row1, row3") as error:
        decoded(values, classes=CLASSES)
    assert "cat, dog, fox" in error.value.hint


@pytest.mark.parametrize("values", [[0.5, 1.0], [-2, 0], [10**9], [[1], [2]]])
def test_what_cannot_be_labels_is_refused(values: list[object]) -> None:
    with pytest.raises(DataError, match="label"):
        decoded(values)


def test_a_column_of_names_describes_the_codes_it_goes_with(tmp_path: Path) -> None:
    rows = opened(tmp_path, label=[0, 1, 2], label_name=["fox", "cat", "dog"], noisy=[1, 1, 0], with_label="noisy")
    assert rows.classes == ("fox", "cat", "dog")
    assert rows.labels.tolist() == [1, 1, 0]
    assert rows.labels_in("label").tolist() == [0, 1, 2]


def test_names_that_do_not_go_with_the_codes_are_refused_when_asked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one to one"):
        opened(tmp_path, label=[0, 0, 1], kinds=["cat", "dog", "fox"], with_label_name="kinds")


@pytest.fixture
def rows(tmp_path: Path) -> ImageRows:
    return opened(tmp_path, id=list("abcd"), label=["cat", "dog", "fox", "dog"], clean=["cat", "dog", "fox", "fox"])


def test_a_subset_reads_through_in_its_own_order(rows: ImageRows) -> None:
    some = Subset(rows, [3, 1])
    assert list(some.ids) == ["d", "b"]
    assert some.position("b") == 1
    assert some.image(0).getpixel((0, 0)) == 3
    assert some.labels.tolist() == [1, 1]
    assert some.labels_in("clean").tolist() == [2, 1]
    assert some.column("clean").tolist() == ["fox", "dog"]
    with pytest.raises(DataError, match="no row with id 'a'"):
        some.position("a")


def test_relabelled_rows_have_other_labels_and_the_same_images(rows: ImageRows) -> None:
    flipped = Relabelled(rows, [0, 1, 2, 2])
    assert flipped.labels.tolist() == [0, 1, 2, 2]
    assert rows.labels.tolist() == [0, 1, 2, 1]
    assert flipped.payload(2) == rows.payload(2)
    assert flipped.fingerprint != rows.fingerprint


def test_views_with_the_same_content_have_the_same_fingerprint(rows: ImageRows) -> None:
    assert Subset(rows, range(4)).fingerprint == rows.fingerprint
    assert Relabelled(Relabelled(rows, [0, 0, 0, 0]), rows.labels).fingerprint == rows.fingerprint
    changed = rows.labels.copy()
    changed[3] = 0
    assert Subset(Relabelled(rows, changed), [0, 1]).fingerprint == Subset(rows, [0, 1]).fingerprint
    assert Subset(rows, [1, 0]).fingerprint != Subset(rows, [0, 1]).fingerprint


def test_an_empty_subset_is_possible(rows: ImageRows) -> None:
    assert len(Subset(rows, [])) == 0
    assert Subset(rows, []).digests.shape == (0, 32)


def test_labels_cannot_be_changed_in_place(rows: ImageRows) -> None:
    for view in (rows, Subset(rows, [0]), Relabelled(rows, rows.labels)):
        with pytest.raises(ValueError, match="read-only"):
            view.labels[0] = 1


def test_wrong_positions_and_labels_are_refused(rows: ImageRows) -> None:
    with pytest.raises(DataError, match="Position 4"):
        Subset(rows, [0, 4])
    with pytest.raises(DataError, match="Position -1"):
        Subset(rows, [0, -1])
    with pytest.raises(DataError, match="more than once"):
        Subset(rows, [1, 1])
    with pytest.raises(ShapeError, match="Positions"):
        Subset(rows, [0.5])
    with pytest.raises(ShapeError, match="4 rows"):
        Relabelled(rows, [0, 1])
    with pytest.raises(DataError, match="Label 3 of row b"):
        Relabelled(rows, [0, 3, 0, 0])
