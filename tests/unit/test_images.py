"""Decoding: every kind of picture a person may bring, and everything that only pretends to be one."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from forwardinf_core.datasets import images
from forwardinf_core.datasets.images import decode_image, decode_upload, thumbnail
from forwardinf_core.errors import DataError


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    out = BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def noise(width: int = 20, height: int = 10) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def png_header(width: int, height: int) -> bytes:
    """A PNG whose header promises a size and whose data holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_types_keep_every_pixel(kind: str) -> None:
    assert np.array_equal(decode_image(encoded(noise(), kind), name="x"), noise())


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF"])
def test_lossy_types_keep_size_and_mode(kind: str) -> None:
    image = decode_image(encoded(noise(), kind), name="x")
    assert image.size == (20, 10)
    assert image.mode == "RGB"


def test_grey_pictures_stay_grey() -> None:
    grey = noise().convert("L")
    assert decode_image(encoded(grey), name="x").mode == "L"
    assert decode_image(encoded(grey, "JPEG"), name="x").mode == "L"
    assert decode_image(encoded(grey.convert("1")), name="x").mode == "L"


def test_a_single_pixel_is_a_picture() -> None:
    assert decode_image(encoded(Image.new("RGB", (1, 1), (1, 2, 3))), name="x").getpixel((0, 0)) == (1, 2, 3)


def test_exif_rotation_is_applied_and_nothing_is_carried_onward() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by a quarter turn
    exif[0x010E] = "where I live"
    image = decode_image(encoded(noise(20, 10), "JPEG", exif=exif, comment=b"secret"), name="x")
    assert image.size == (10, 20)
    assert image.info == {}
    assert not image.getexif()


def test_text_in_a_png_is_not_carried_onward() -> None:
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Author", "someone")
    image = decode_image(encoded(noise(), pnginfo=notes), name="x")
    assert image.info == {}
    assert b"someone" not in encoded(image)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_and_not_clipped(kind: str) -> None:
    values = np.array([[0, 257, 128 * 257, 40_000, 65_535]], dtype=np.uint16)
    image = decode_image(encoded(Image.fromarray(values), kind), name="x")
    assert image.mode == "L"
    assert np.asarray(image).tolist() == [[0, 1, 128, 156, 255]]


def test_thirty_two_bit_values_are_refused_with_what_to_do() -> None:
    with pytest.raises(DataError, match="32-bit") as error:
        decode_image(encoded(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"), name="scan.tif")
    assert "8 or 16 bits" in error.value.hint


def test_print_colours_become_rgb() -> None:
    upload = decode_upload(encoded(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "TIFF"), name="x")
    assert upload.image.getpixel((0, 0)) == (255, 0, 0)
    assert "CMYK" in upload.notes[0]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_parts_turn_white(mode: str) -> None:
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    upload = decode_upload(encoded(image.convert(mode)), name="x")
    assert np.asarray(upload.image.convert("L")).tolist() == [[0, 255]]
    assert upload.notes == ("Transparent parts are shown on white.",)


def test_palettes_become_rgb() -> None:
    colours = Image.new("RGB", (2, 1), (200, 10, 10))
    assert decode_image(encoded(colours.quantize(4)), name="x").getpixel((0, 0)) == (200, 10, 10)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_gives_its_first_frame_and_a_note(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    upload = decode_upload(encoded(frames[0], kind, save_all=True, append_images=frames[1:]), name="x")
    red, green, _blue = upload.image.getpixel((4, 4))
    assert red > 200 > 60 > green
    assert upload.notes[0].startswith("The first of 3")


def test_a_plain_picture_has_no_notes() -> None:
    assert decode_upload(encoded(noise()), name="x").notes == ()


@pytest.mark.parametrize("size", [(10_000, 10_000), (50_000, 50_000), (2_000_000_000, 2)])
def test_a_huge_picture_is_refused_by_its_header(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("pixels were decoded"))
    with pytest.raises(DataError, match=r"big\.png has .* pixels; at most 50 million"):
        decode_image(png_header(*size), name="big.png")


def test_a_text_chunk_that_unpacks_to_a_hundred_megabytes_is_refused() -> None:
    body = b"note\0\0" + zlib.compress(b"a" * 100_000_000)
    chunk = struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    whole = encoded(noise())
    with pytest.raises(DataError, match="broken"):
        decode_image(whole[:33] + chunk + whole[33:], name="bomb.png")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("kept", [0.2, 0.5, 0.8])
def test_a_truncated_picture_is_refused_by_name(kind: str, kept: float) -> None:
    whole = encoded(noise(64, 64), kind)
    with pytest.raises(DataError, match=r"Row 17 of train\.parquet is a broken"):
        decode_image(whole[: int(len(whole) * kept)], name="Row 17 of train.parquet")


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow remarks on damaged tags
def test_random_damage_gives_a_picture_or_a_sentence_and_nothing_else() -> None:
    generator = np.random.default_rng(0)
    refused = 0
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"):
        whole = np.frombuffer(encoded(noise(), kind), np.uint8)
        for _ in range(60):
            damaged = whole.copy()
            damaged[generator.integers(0, min(len(whole), 200), 4)] = generator.integers(0, 256, 4)
            try:
                assert decode_image(damaged.tobytes(), name="x").mode in ("L", "RGB")
            except DataError:
                refused += 1
    assert refused > 30


def zip_file() -> bytes:
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.txt", "a")
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (zip_file, "ZIP"),
        (lambda: b"%PDF-1.7 and so on", "PDF"),
        (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (lambda: b"\0\0\0\x18ftypheic" + bytes(20), "HEIC"),
        (lambda: b"just some words", "not an image"),
        (lambda: encoded(noise(), "PPM"), "not an image"),
        (lambda: b"\x89PNG nothing else", "broken PNG"),
        (lambda: b"", "0 bytes"),
    ],
)
def test_what_is_no_picture_is_named_for_what_it_is(content: Callable[[], bytes], words: str) -> None:
    with pytest.raises(DataError, match=rf"photo\.png .*{words}"):
        decode_image(content(), name="photo.png")


def test_an_upload_above_the_limit_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("the upload was opened"))
    with pytest.raises(DataError, match=r"20\.0 MB; an upload may have 20 MB"):
        decode_upload(bytes(images.UPLOAD_LIMIT_BYTES + 1), name="photo.png")


def test_a_small_picture_is_enlarged_to_crisp_squares() -> None:
    digit = Image.fromarray(np.random.default_rng(1).integers(0, 256, (8, 8), dtype=np.uint8))
    shown = decode_image(thumbnail(digit, 96), name="x")
    assert shown.size == (96, 96)
    assert np.array_equal(np.asarray(shown.convert("L")), np.kron(np.asarray(digit), np.ones((12, 12), np.uint8)))


@pytest.mark.parametrize(
    ("size", "expected"),
    [((28, 28), (84, 84)), ((96, 40), (96, 40)), ((200, 100), (96, 48)), ((5000, 1), (96, 1)), ((60, 70), (60, 70))],
)
def test_thumbnails_fit_and_keep_their_aspect(size: tuple[int, int], expected: tuple[int, int]) -> None:
    data = thumbnail(noise(*size))
    with Image.open(BytesIO(data)) as shown:
        assert shown.size == expected
        assert shown.format == "WEBP"
