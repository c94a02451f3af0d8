"""Files, chunks and arrays: whole or not at all, verified, and never another model's."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from forwardinf_core.errors import DiskFullError, StoreError
from forwardinf_core.store import files
from forwardinf_core.store.arrays import (
    BLOCKS,
    DATA,
    MANIFEST,
    ArrayWriter,
    Layout,
    is_complete,
    open_array,
    open_tensor,
)
from forwardinf_core.store.binding import Binding
from forwardinf_core.store.chunks import ChunkStore
from forwardinf_core.store.locks import turn

BOUND = Binding("test", {"model": "aaaa", "train": "bbbb"}, {"batch": 8, "names": ["x"]})
OTHER = Binding("test", {"model": "cccc", "train": "bbbb"}, {"batch": 8, "names": ["x"]})


def chunk(seed: int) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {
        "a": torch.randn(3, 4, generator=draw).T,
        "b": torch.randn(2, generator=draw).bfloat16(),
        "n": torch.tensor(7),
    }


def fail_with(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fsync(_handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, "fsync", fsync)


def test_a_chunk_comes_back_bit_equal(tmp_path: Path) -> None:
    store = ChunkStore(tmp_path / "chunks", BOUND)
    store.put("rows-0", chunk(1))
    found = ChunkStore(tmp_path / "chunks", BOUND).get("rows-0")
    assert found is not None
    assert found.keys() == chunk(1).keys()
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in chunk(1).items())
    assert store.keys() == ["rows-0"]


def test_equal_chunks_are_equal_files(tmp_path: Path) -> None:
    for number in range(8):
        ChunkStore(tmp_path / str(number), BOUND).put("rows-0", chunk(1))
    assert len({(tmp_path / str(number) / "rows-0.safetensors").read_bytes() for number in range(8)}) == 1


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "foreign"])
def test_a_damaged_chunk_is_discarded(tmp_path: Path, damage: str) -> None:
    store = ChunkStore(tmp_path / "chunks", BOUND)
    store.put("rows-0", chunk(1))
    path = tmp_path / "chunks" / "rows-0.safetensors"
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[-1] ^= 1
    elif damage == "foreign":
        ChunkStore(tmp_path / "other", OTHER).put("rows-0", chunk(1))
        content = bytearray((tmp_path / "other" / "rows-0.safetensors").read_bytes())
    path.write_bytes(content[: len(content) // 2] if damage == "truncate" else b"" if damage == "empty" else content)
    assert store.get("rows-0") is None
    assert store.keys() == []


def test_a_write_that_lost_power_leaves_the_old_state(tmp_path: Path) -> None:
    store = ChunkStore(tmp_path, BOUND)
    store.put("rows-0", chunk(1))
    (tmp_path / f"{files.TEMPORARY_PREFIX}torn").write_bytes(b"half a chu")
    assert store.keys() == ["rows-0"]
    files.remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "rows-0.safetensors"]


def test_a_truncated_manifest_loses_no_chunk(tmp_path: Path) -> None:
    ChunkStore(tmp_path, BOUND).put("rows-0", chunk(1))
    manifest = (tmp_path / "manifest.json").read_bytes()
    (tmp_path / "manifest.json").write_bytes(manifest[:20])
    assert ChunkStore(tmp_path, BOUND).get("rows-0") is not None
    assert (tmp_path / "manifest.json").read_bytes() == manifest


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (OTHER, "another model"),
        (Binding("test", BOUND.fingerprints, {"batch": 9, "names": ["x"]}), "another value of batch"),
        (Binding("test", BOUND.fingerprints, BOUND.options, 2), "version 1"),
        (Binding("fisher", BOUND.fingerprints, BOUND.options), "'test', not 'fisher'"),
    ],
)
def test_a_folder_of_another_model_options_or_version_is_refused(tmp_path: Path, other: Binding, said: str) -> None:
    ChunkStore(tmp_path, BOUND)
    with pytest.raises(StoreError, match=said):
        ChunkStore(tmp_path, other)
    assert other.key() != BOUND.key()


@pytest.mark.parametrize(
    ("number", "kind", "said"),
    [(errno.ENOSPC, DiskFullError, "disk is full"), (errno.EROFS, StoreError, "may not be written")],
)
def test_a_disk_that_takes_nothing_is_one_sentence_and_the_old_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[StoreError], said: str
) -> None:
    files.write_bytes(tmp_path / "file", b"old")
    fail_with(monkeypatch, number)
    with pytest.raises(kind, match=said):
        files.write_bytes(tmp_path / "file", b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_a_folder_that_was_deleted_is_not_made_again_by_a_late_write(tmp_path: Path) -> None:
    store = ChunkStore(tmp_path / "project" / "work", BOUND)
    files.remove_leftovers(store.folder)
    store.remove()
    with pytest.raises(StoreError, match="not there any more"):
        store.put("rows-0", chunk(1))
    assert not store.folder.exists()


LAYOUT = Layout((10, 3), "float32", 4)
ROWS = np.arange(30, dtype=np.float32).reshape(10, 3)


def write_array(folder: Path, *, blocks: int = 3) -> list[tuple[int, int]]:
    with ArrayWriter(folder, LAYOUT, BOUND) as writer:
        missing = writer.missing()
        for start, stop in missing[:blocks]:
            writer.write(start, torch.from_numpy(ROWS[start:stop]))
    return missing


def test_an_array_written_in_two_goes_comes_back_and_cannot_be_changed(tmp_path: Path) -> None:
    assert write_array(tmp_path, blocks=1) == [(0, 4), (4, 8), (8, 10)]
    assert not is_complete(tmp_path, BOUND)
    with pytest.raises(StoreError, match="not complete"):
        open_array(tmp_path, BOUND)
    assert write_array(tmp_path) == [(4, 8), (8, 10)]
    found = open_array(tmp_path, BOUND, verify=True)
    assert np.array_equal(found, ROWS)
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 1
    tensor = open_tensor(tmp_path, BOUND)
    tensor[0] = 100.0
    assert np.array_equal(open_array(tmp_path, BOUND, verify=True), ROWS)


@pytest.mark.parametrize("damage", ["data", "line", "manifest"])
def test_blocks_that_a_power_loss_damaged_are_written_again(tmp_path: Path, damage: str) -> None:
    write_array(tmp_path)
    name = {"data": DATA, "line": BLOCKS, "manifest": MANIFEST}[damage]
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:-5])
    assert not is_complete(tmp_path, BOUND)
    missing = write_array(tmp_path)
    assert missing == ([(0, 4), (4, 8), (8, 10)] if damage == "manifest" else [(8, 10)])
    assert np.array_equal(open_array(tmp_path, BOUND, verify=True), ROWS)


def test_a_flipped_byte_is_found_by_verification(tmp_path: Path) -> None:
    write_array(tmp_path)
    content = bytearray((tmp_path / DATA).read_bytes())
    content[4 * 3 * 4] ^= 1  # the first byte of row 4
    (tmp_path / DATA).write_bytes(content)
    with pytest.raises(StoreError, match="Rows 4 to 7"):
        open_array(tmp_path, BOUND, verify=True)


def test_an_array_of_another_model_or_shape_is_refused(tmp_path: Path) -> None:
    write_array(tmp_path)
    with pytest.raises(StoreError, match="another model"):
        open_tensor(tmp_path, OTHER)
    with pytest.raises(StoreError, match="has shape"), ArrayWriter(tmp_path, Layout((11, 3), "float32", 4), BOUND):
        pass


def test_one_writer_at_a_time_holds_an_array(tmp_path: Path) -> None:
    with ArrayWriter(tmp_path, LAYOUT, BOUND):
        with pytest.raises(StoreError, match="another process"), ArrayWriter(tmp_path, LAYOUT, BOUND):
            pass
        with turn(tmp_path / "lock", 0) as free:
            assert not free


def test_an_empty_array_is_complete_at_once(tmp_path: Path) -> None:
    layout = Layout((0, 3), "uint8", 4)
    with ArrayWriter(tmp_path, layout, BOUND) as writer:
        assert writer.missing() == []
    assert open_tensor(tmp_path, BOUND).shape == (0, 3)
    assert open_array(tmp_path, BOUND).shape == (0, 3)


def test_the_key_of_a_binding_does_not_depend_on_the_order_of_its_parts() -> None:
    turned = Binding("test", dict(reversed(BOUND.fingerprints.items())), dict(reversed(BOUND.options.items())))
    assert turned.key() == BOUND.key()
    assert json.loads(json.dumps(BOUND.record())) == BOUND.record()
