"""Image bytes from anywhere, decoded safely, and thumbnails to show.

The type is read from the content, never from a name; size is read from the header before a pixel is decoded; what comes
out is a plain RGB or grey image without metadata. Pillow does the decoding.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from forwardinf_core.errors import DataError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
ACCEPTED = "PNG, JPEG, WebP, GIF, BMP or TIFF"
PIXEL_LIMIT = 50_000_000  # 200 MB once decoded as RGBA, above any phone or camera picture a classifier is fed
UPLOAD_LIMIT_BYTES = 20 * 1024**2  # a 50-megapixel JPEG at good quality
THUMBNAIL_TYPE = "image/webp"
ORIENTATION = 0x0112  # EXIF tag

_SIGNATURES = (
    (b"\x89PNG", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
)
_OTHER_CONTENT = (
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"PAR1", "a parquet file"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"{", "a text file"),
)


@dataclass(frozen=True, slots=True)
class Upload:
    """A person's image, decoded. ``notes`` are sentences on what was changed to make it a plain picture."""

    image: Image.Image
    notes: tuple[str, ...]


def decode_image(data: bytes, *, name: str) -> Image.Image:
    """Return a plain image, mode RGB or L, EXIF-rotated, without metadata.

    First frame of an animation, transparency on white, 16 bits scaled to 8, CMYK and palettes to RGB. ``name`` says in
    errors which row or file it was. Raises DataError for anything that is not a whole image of an accepted type.
    """
    return _decode(data, name)[0]


def decode_upload(data: bytes, *, name: str) -> Upload:
    """Return an uploaded image with notes on what was changed. Raises DataError as ``decode_image``, and on size."""
    if len(data) > UPLOAD_LIMIT_BYTES:
        raise DataError(
            f"{name} is {len(data) / 1024**2:.1f} MB; an upload may have {UPLOAD_LIMIT_BYTES // 1024**2} MB.",
            hint="Save it smaller: the model sees it at its own input size anyway.",
        )
    image, notes = _decode(data, name)
    return Upload(image, notes)


def thumbnail(image: Image.Image, size: int = 96) -> bytes:
    """Return WebP bytes whose longer side is at most ``size``, aspect kept.

    A small picture is enlarged by the largest whole factor without smoothing, so that single pixels stay crisp, and
    stored without loss; a large one is reduced with Lanczos.
    """
    shown = image if image.mode in ("L", "RGB") else image.convert("RGB")
    longer = max(shown.size)
    out = BytesIO()
    if longer > size:
        width, height = (max(1, round(side * size / longer)) for side in shown.size)
        shown.resize((width, height), Image.Resampling.LANCZOS).save(out, "WEBP", quality=85, method=2)
    else:
        factor = size // longer
        enlarged = shown.resize((shown.width * factor, shown.height * factor), Image.Resampling.NEAREST)
        enlarged.save(out, "WEBP", lossless=True, quality=20, method=0)
    return out.getvalue()


def image_ending(data: bytes) -> str:
    """Return the usual ending of a file with these encoded bytes, read from the content."""
    kind = next((kind for signature, kind in _SIGNATURES if data.startswith(signature)), None)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind = "WebP"
    return {"PNG": ".png", "JPEG": ".jpg", "GIF": ".gif", "BMP": ".bmp", "TIFF": ".tif", "WebP": ".webp"}.get(
        kind or "", ".img"
    )


def _decode(data: bytes, name: str) -> tuple[Image.Image, tuple[str, ...]]:
    if not data:
        raise DataError(f"{name} is empty: it has 0 bytes.", hint=f"Expected {ACCEPTED}.")
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            _check_size(image.size, name)
            notes = _notes(image)
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            flat = _flatten(image, name)
    except (DataError, MemoryError):
        raise
    except Image.DecompressionBombError as problem:
        raise _too_large(name, "far more") from problem
    except UnidentifiedImageError as problem:
        raise _not_an_image(data, name) from problem
    except Exception as problem:  # Pillow's readers raise anything on bytes made to break them
        raise DataError(
            f"{name} is a broken or incomplete image: {problem}.", hint="Save the image again or leave it out."
        ) from problem
    plain = Image.new(flat.mode, flat.size)
    plain.paste(flat)  # leaves EXIF, comments and colour profiles behind
    return plain, notes


def _check_size(size: tuple[int, int], name: str) -> None:
    if size[0] * size[1] > PIXEL_LIMIT:
        raise _too_large(name, f"{size[0]} × {size[1]}")


def _too_large(name: str, found: str) -> DataError:
    return DataError(
        f"{name} has {found} pixels; at most {PIXEL_LIMIT // 1_000_000} million are decoded.",
        hint="Save it smaller: the model sees it at its own input size anyway.",
    )


def _not_an_image(data: bytes, name: str) -> DataError:
    start = data[:64].lstrip()
    kind = next((kind for signature, kind in _SIGNATURES if data.startswith(signature)), None)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind = "WebP"
    if kind is not None:
        return DataError(f"{name} is a broken {kind} image: its header cannot be read.", hint="Save the image again.")
    looks = next((text for signature, text in _OTHER_CONTENT if start.startswith(signature)), None)
    if data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypavif"):
        looks = "a HEIC or AVIF image"
    elif start[:4].lower() in (b"<svg", b"<?xm", b"<htm", b"<!do"):
        looks = "an SVG, XML or web page"
    found = f" but {looks}" if looks else ""
    return DataError(f"{name} is not an image of an accepted type{found}.", hint=f"Save it as {ACCEPTED}.")


def _notes(image: Image.Image) -> tuple[str, ...]:
    notes = []
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format in ("GIF", "PNG", "WEBP", "TIFF"):
        notes.append(f"The first of {frames} {'pages' if image.format == 'TIFF' else 'frames'} is used.")
    if image.has_transparency_data:
        notes.append("Transparent parts are shown on white.")
    if image.mode.startswith("I;16"):
        notes.append("16-bit grey is scaled to 8 bits.")
    if image.mode == "CMYK":
        notes.append("Print colours (CMYK) are converted to RGB.")
    if image.getexif().get(ORIENTATION, 1) != 1:
        notes.append("It is turned upright, as the camera noted.")
    return tuple(notes)


def _flatten(image: Image.Image, name: str) -> Image.Image:
    """Return the image in mode RGB or L."""
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))  # 65535 = 257 · 255
    if image.mode in ("I", "F"):
        raise DataError(
            f"{name} has 32-bit pixel values, whose range is not known.", hint="Save it with 8 or 16 bits a channel."
        )
    if image.has_transparency_data:
        grey = image.mode in ("L", "LA", "La", "1")
        coloured = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, coloured).convert("L" if grey else "RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")
