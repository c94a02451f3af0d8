"""Image rows from every kind of source: what is read, and what is said when something is wrong."""

from __future__ import annotations

import json
import os
import threading
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydantic import ValidationError

from forwardinf_core.datasets import parquet
from forwardinf_core.datasets.opening import open_image_rows
from forwardinf_core.datasets.rows import ImageRows
from forwardinf_core.datasets.source import RowSource
from forwardinf_core.errors import DataError

DATA = Path(os.environ.get("FORWARDINF_TEST_DATA", "../shared/data"))
CLASSES = ("cat", "dog", "fox")


def png(value: int, size: int = 4) -> bytes:
    out = BytesIO()
    Image.new("RGB", (size, size), (value, 0, 0)).save(out, "PNG")
    return out.getvalue()


def rows_of(root: Path, *, classes: tuple[str, ...] | None = None, outside: bool = False, **source: Any) -> ImageRows:
    return open_image_rows(RowSource(**source), root=root, classes=classes, allow_outside=outside)


def parquet_rows(
    root: Path, columns: dict[str, object], *, classes: tuple[str, ...] | None = None, **source: Any
) -> ImageRows:
    pq.write_table(pa.table(columns), root / "rows.parquet", row_group_size=2)
    return rows_of(root, classes=classes, kind="parquet", path="rows.parquet", **source)


def six(**columns: object) -> dict[str, object]:
    return {"id": [f"r{i}" for i in range(6)], "image": [png(i) for i in range(6)], **columns}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Six pictures in three class folders."""
    for position in range(6):
        folder = tmp_path / "images" / CLASSES[position % 3]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{position}.png").write_bytes(png(position))
    return tmp_path


PATHS = [f"images/{CLASSES[i % 3]}/{i}.png" for i in range(6)]


def reds(rows: ImageRows) -> list[int]:
    return [rows.image(position).getpixel((0, 0))[0] for position in range(len(rows))]


def test_parquet_rows_have_ids_labels_images_and_columns(tmp_path: Path) -> None:
    rows = parquet_rows(tmp_path, six(label=["dog", "cat", "dog", "cat", "dog", "fox"], weight=[1.5] * 6))
    assert list(rows.ids) == ["r0", "r1", "r2", "r3", "r4", "r5"]
    assert rows.classes == CLASSES
    assert rows.labels.tolist() == [1, 0, 1, 0, 1, 2]
    assert reds(rows) == [0, 1, 2, 3, 4, 5]
    assert rows.columns == ("id", "label", "weight")
    assert rows.column("weight").tolist() == [1.5] * 6
    assert rows.position("r4") == 4
    assert rows.payload(3) == png(3)


def test_ids_are_row_numbers_where_there_is_no_id_column(tmp_path: Path) -> None:
    assert list(parquet_rows(tmp_path, {"image": [png(1), png(2)]}).ids) == ["0", "1"]


def test_whole_numbers_as_ids_become_plain_text(tmp_path: Path) -> None:
    rows = parquet_rows(tmp_path, {"key": [7.0, 9.0], "image": [png(1), png(2)]}, id="key")
    assert list(rows.ids) == ["7", "9"]


def test_images_as_hugging_face_writes_them_are_read_from_bytes_or_path(pictures: Path) -> None:
    cells = [{"bytes": png(0), "path": "elsewhere.png"}, {"bytes": None, "path": PATHS[1]}]
    assert reds(parquet_rows(pictures, {"image": cells})) == [0, 1]


def test_several_parquet_files_are_one_set(tmp_path: Path) -> None:
    for part in range(2):
        pq.write_table(pa.table({"image": [png(2 * part), png(2 * part + 1)]}), tmp_path / f"train-{part}.parquet")
    assert reds(rows_of(tmp_path, kind="parquet", path="train-*.parquet")) == [0, 1, 2, 3]
    assert reds(rows_of(tmp_path, kind="parquet", path=".")) == [0, 1, 2, 3]
    pq.write_table(pa.table({"picture": [png(0)]}), tmp_path / "train-9.parquet")
    with pytest.raises(DataError, match=r"train-9\.parquet has other columns"):
        rows_of(tmp_path, kind="parquet", path="train-*.parquet")


def test_parquet_with_paths_reads_the_files(pictures: Path) -> None:
    assert reds(parquet_rows(pictures, {"file": PATHS}, image="file")) == [0, 1, 2, 3, 4, 5]


def test_csv_keeps_leading_zeros_of_ids_and_missing_labels(pictures: Path) -> None:
    frame = pd.DataFrame({"id": [f"00{i}" for i in range(6)], "image": PATHS, "label": [0, 1, None, 2, 0, 1]})
    frame.to_csv(pictures / "rows.csv", index=False)
    rows = rows_of(pictures, kind="csv", path="rows.csv", classes=CLASSES)
    assert rows.ids[1] == "001"
    assert rows.labels.tolist() == [0, 1, -1, 2, 0, 1]
    assert reds(rows) == [0, 1, 2, 3, 4, 5]


def test_json_lines_are_rows(pictures: Path) -> None:
    lines = [json.dumps({"image": path, "label": CLASSES[i % 3]}) for i, path in enumerate(PATHS)]
    (pictures / "rows.jsonl").write_text("\n".join(lines))
    rows = rows_of(pictures, kind="jsonl", path="rows.jsonl")
    assert rows.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert reds(rows) == [0, 1, 2, 3, 4, 5]


def test_a_folder_of_class_folders_is_a_set(pictures: Path) -> None:
    (pictures / "images" / "readme.txt").write_text("not a picture")
    (pictures / "images" / "loose.png").write_bytes(png(9))
    rows = rows_of(pictures, kind="folder", path="images")
    assert rows.classes == CLASSES
    assert list(rows.ids) == ["cat/0.png", "cat/3.png", "dog/1.png", "dog/4.png", "fox/2.png", "fox/5.png", "loose.png"]
    assert rows.labels.tolist() == [0, 0, 1, 1, 2, 2, -1]
    assert reds(rows) == [0, 3, 1, 4, 2, 5, 9]


def test_data_sets_saved_by_hugging_face_are_read_with_their_class_names(tmp_path: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))})
    pictures = [Image.new("RGB", (4, 4), (i, 0, 0)) for i in range(6)]
    whole = datasets.Dataset.from_dict({"image": pictures, "label": [0, 1, 2, 0, 1, 2]}, features=features)
    whole.shuffle(seed=3).save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": whole, "test": whole}).save_to_disk(tmp_path / "several")
    whole.to_parquet(tmp_path / "rows.parquet")

    shuffled = rows_of(tmp_path, kind="datasets", path="one")
    assert sorted(reds(shuffled)) == [0, 1, 2, 3, 4, 5]
    assert shuffled.labels.tolist() == [red % 3 for red in reds(shuffled)]
    assert rows_of(tmp_path, kind="datasets", path="several", split="test").classes == CLASSES
    assert rows_of(tmp_path, kind="parquet", path="rows.parquet").classes == CLASSES
    turned = rows_of(tmp_path, kind="parquet", path="rows.parquet", classes=CLASSES[::-1])
    assert turned.labels.tolist() == [2, 1, 0, 2, 1, 0]
    with pytest.raises(DataError, match="several splits") as error:
        rows_of(tmp_path, kind="datasets", path="several")
    assert "train, test" in error.value.hint
    with pytest.raises(DataError, match="does not exist"):
        rows_of(tmp_path, kind="datasets", path="no/such/folder")


def test_unknown_and_missing_keys_of_a_source_are_refused() -> None:
    with pytest.raises(ValidationError, match="extra"):
        RowSource(kind="csv", path="a.csv", labels="label")
    with pytest.raises(ValidationError, match="kind"):
        RowSource(kind="excel", path="a.xlsx")


@pytest.mark.parametrize("role", ["id", "image", "label", "label_name"])
def test_a_missing_column_is_answered_with_the_columns_found(tmp_path: Path, role: str) -> None:
    with pytest.raises(DataError, match="no column 'nope'") as error:
        parquet_rows(tmp_path, six(label=[0] * 6), **{role: "nope"})
    assert "id, image, label" in error.value.hint
    with pytest.raises(DataError, match="no column 'nope'"):
        parquet_rows(tmp_path, six()).column("nope")


def test_rows_without_an_image_column_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No column holds the images") as error:
        parquet_rows(tmp_path, {"picture": [png(0)]})
    assert "picture" in error.value.hint


def test_duplicate_and_empty_ids_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 ids that occur more than once: a, b"):
        parquet_rows(tmp_path, {"id": ["a", "a", "b", "b", "c"], "image": [png(i) for i in range(5)]})
    with pytest.raises(DataError, match="1 rows without an id"):
        parquet_rows(tmp_path, {"id": ["a", None], "image": [png(0), png(1)]})


def test_an_unknown_id_is_answered_with_near_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no row with id 'r55'") as error:
        parquet_rows(tmp_path, six()).position("r55")
    assert "r5" in error.value.hint


def test_an_empty_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no rows"):
        parquet_rows(tmp_path, {"image": pa.array([], pa.binary())})
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        rows_of(tmp_path, kind="folder", path="none")
    (tmp_path / "rows.csv").write_text("id,image,label\n")
    with pytest.raises(DataError, match="has no rows"):
        rows_of(tmp_path, kind="csv", path="rows.csv")
    for kind in ("csv", "jsonl"):
        (tmp_path / f"empty.{kind}").write_text("")
        with pytest.raises(DataError, match="empty"):
            rows_of(tmp_path, kind=kind, path=f"empty.{kind}")


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl", "folder", "datasets"])
def test_a_missing_source_is_named(tmp_path: Path, kind: str) -> None:
    with pytest.raises(DataError, match="missing/thing/x"):
        rows_of(tmp_path, kind=kind, path="missing/thing/x")


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").write_bytes(png(0) * 20)
    with pytest.raises(DataError, match="read"):
        rows_of(tmp_path, kind=kind, path="file")


def test_a_folder_where_a_file_is_expected_is_refused(pictures: Path) -> None:
    with pytest.raises(DataError, match="is a folder"):
        rows_of(pictures, kind="csv", path="images")


def test_a_broken_image_is_named_by_its_row(tmp_path: Path) -> None:
    rows = parquet_rows(tmp_path, {"id": ["a", "b", "c"], "image": [png(0), png(0)[:30], None]})
    with pytest.raises(DataError, match=r"Row b of rows\.parquet is a broken"):
        rows.image(1)
    with pytest.raises(DataError, match=r"Row c of rows\.parquet has no image"):
        rows.image(2)
    numbers = parquet_rows(tmp_path, {"image": [1, 2]})
    with pytest.raises(DataError, match="holds int, not an image"):
        numbers.image(0)


def test_missing_image_files_are_named_when_the_set_is_opened(pictures: Path) -> None:
    (pictures / PATHS[4]).unlink()
    pd.DataFrame({"image": PATHS}).to_csv(pictures / "rows.csv")
    with pytest.raises(DataError, match=r"1 of 6 image files do not exist: images/dog/4\.png"):
        rows_of(pictures, kind="csv", path="rows.csv")


def test_files_outside_the_project_are_read_only_when_allowed(pictures: Path) -> None:
    project = pictures / "project"
    project.mkdir()
    pd.DataFrame({"image": [f"../{path}" for path in PATHS]}).to_csv(project / "rows.csv")
    with pytest.raises(DataError, match="outside the project folder"):
        rows_of(project, kind="csv", path="rows.csv")
    with pytest.raises(DataError, match="outside the project folder"):
        rows_of(project, kind="folder", path="../images")
    assert reds(rows_of(project, kind="csv", path="rows.csv", outside=True)) == [0, 1, 2, 3, 4, 5]
    (project / "link.png").symlink_to(pictures / PATHS[0])
    pd.DataFrame({"image": ["link.png"]}).to_csv(project / "rows.csv")
    with pytest.raises(DataError, match="outside the project folder"):
        rows_of(project, kind="csv", path="rows.csv").image(0)


def test_the_fingerprint_changes_with_one_label_one_pixel_one_id_and_nothing_else(tmp_path: Path) -> None:
    labels = [0, 1, 2, 0, 1, 2]
    first = parquet_rows(tmp_path, six(label=labels)).fingerprint
    assert parquet_rows(tmp_path, six(label=labels, note=["x"] * 6)).fingerprint == first
    one_label = parquet_rows(tmp_path, six(label=[0, 1, 2, 0, 1, 1])).fingerprint
    pixels = [png(i) for i in range(6)]
    image = Image.open(BytesIO(pixels[2])).convert("RGB")
    image.putpixel((1, 1), (2, 0, 1))
    out = BytesIO()
    image.save(out, "PNG")
    pixels[2] = out.getvalue()
    one_pixel = parquet_rows(tmp_path, {**six(label=labels), "image": pixels}).fingerprint
    one_id = parquet_rows(tmp_path, {**six(label=labels), "id": ["x", *[f"r{i}" for i in range(1, 6)]]}).fingerprint
    assert len({first, one_label, one_pixel, one_id}) == 4


def test_a_file_written_over_while_open_is_noticed(tmp_path: Path) -> None:
    rows = parquet_rows(tmp_path, six(label=[0] * 6))
    parquet_rows(tmp_path, six(label=[1] * 6, note=["longer"] * 6))
    with pytest.raises(DataError, match=r"rows\.parquet was changed or moved while it was open"):
        rows.image(5)
    with pytest.raises(DataError, match="was changed"):
        rows.column("label")


def test_a_damaged_row_group_is_answered_with_a_sentence(tmp_path: Path) -> None:
    pq.write_table(pa.table(six()), tmp_path / "rows.parquet")
    content = bytearray((tmp_path / "rows.parquet").read_bytes())
    content[90:400] = bytes(310)
    (tmp_path / "rows.parquet").write_bytes(bytes(content))
    with pytest.raises(DataError, match="damaged"):
        rows_of(tmp_path, kind="parquet", path="rows.parquet").image(0)


def test_the_same_rows_have_the_same_fingerprint_from_any_source(pictures: Path) -> None:
    frame = pd.DataFrame(
        {"id": [path[7:] for path in PATHS], "image": PATHS, "label": [CLASSES[i % 3] for i in range(6)]}
    )
    frame = frame.sort_values("id")
    frame.to_csv(pictures / "rows.csv", index=False)
    folder = rows_of(pictures, kind="folder", path="images")
    table = rows_of(pictures, kind="csv", path="rows.csv")
    assert folder.fingerprint == table.fingerprint


def noisy_parquet(path: Path, rows: int, bytes_per_row: int, row_group_size: int) -> None:
    generator = np.random.default_rng(0)
    schema = pa.schema([("image", pa.binary()), ("label", pa.int64())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, row_group_size):
            count = min(row_group_size, rows - start)
            cells = [generator.bytes(bytes_per_row) for _ in range(count)]
            writer.write_table(pa.table({"image": cells, "label": [0] * count}, schema=schema))


def test_reading_a_large_file_keeps_memory_bounded(tmp_path: Path) -> None:
    noisy_parquet(tmp_path / "rows.parquet", 5_000, 16_000, 250)  # 80 MB in groups of 4 MB
    store = parquet.ParquetStore([tmp_path / "rows.parquet"], where="rows", cache_bytes=8_000_000)
    process = psutil.Process()
    before, most = anonymous_memory(process), 0
    for position in range(len(store)):
        store.cell("image", position)
        if position % 100 == 0:
            most = max(most, anonymous_memory(process) - before)
    assert most < 40_000_000, most


def anonymous_memory(process: psutil.Process) -> int:
    """Bytes this process holds for itself: without pages of memory-mapped files, which the system can take back."""
    info = process.memory_info()
    return int(info.rss - info.shared)


def test_one_huge_row_group_is_read_from_a_copy_on_disk(tmp_path: Path) -> None:
    noisy_parquet(tmp_path / "rows.parquet", 500, 40_000, 500)
    store = parquet.ParquetStore([tmp_path / "rows.parquet"], where="rows", group_limit_bytes=1_000_000)
    expected = pq.read_table(tmp_path / "rows.parquet").column("image")
    before = pa.total_allocated_bytes()
    assert all(store.cell("image", position) == expected[position].as_py() for position in (0, 499, 250, 63, 64))
    assert pa.total_allocated_bytes() - before < 1_000_000
    folder = Path(store._copy_folder.name)
    assert folder.exists()
    del store
    assert not folder.exists()


def test_threads_read_the_same_rows(tmp_path: Path) -> None:
    columns = {"image": [png(i) for i in range(200)]}
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet", row_group_size=7)
    store = parquet.ParquetStore([tmp_path / "rows.parquet"], where="rows", cache_bytes=1_000)
    wrong: list[int] = []

    def read(seed: int) -> None:
        for position in np.random.default_rng(seed).permutation(200).tolist():
            if store.cell("image", position) != columns["image"][position]:
                wrong.append(position)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_real_human_labels_are_read_as_published() -> None:
    folder = DATA / "cifar10n"
    if not folder.exists():
        pytest.skip(f"{folder} is not there; set FORWARDINF_TEST_DATA to the folder with the public data sets")
    rows = rows_of(folder, kind="parquet", path="train.parquet", label="label_random1")
    assert len(rows) == 10_000
    assert rows.classes[:4] == ("airplane", "automobile", "bird", "cat")
    assert 0.16 < (rows.labels != rows.labels_in("label")).mean() < 0.18
    image = rows.image(9_999)
    assert (image.mode, image.size) == ("RGB", (32, 32))
    test = rows_of(folder, kind="parquet", path="test.parquet", classes=rows.classes)
    assert np.array_equal(test.labels, test.column("label"))


def test_real_digits_are_read_as_grey_images() -> None:
    folder = DATA / "mnist"
    if not folder.exists():
        pytest.skip(f"{folder} is not there; set FORWARDINF_TEST_DATA to the folder with the public data sets")
    rows = rows_of(folder, kind="parquet", path="train.parquet")
    assert rows.classes == tuple("0123456789")
    assert (rows.image(0).mode, rows.image(0).size) == ("L", (28, 28))
    assert np.bincount(rows.labels).tolist() == [1000] * 10
