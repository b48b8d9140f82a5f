"""Decoding: what every mode looks like, upright, on white, and at one size."""

import resource
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from torchvision.transforms.v2 import functional as TF

from hybrid_vit.data.decode import decode, readable_suffixes, square

RED, WHITE = (255, 0, 0), (255, 255, 255)


def picture(mode: str, *pixels: Any) -> Image.Image:
    """One row of pixels."""
    made = Image.new(mode, (len(pixels), 1))
    for x, pixel in enumerate(pixels):
        made.putpixel((x, 0), pixel)
    return made


def palette(transparency: int | bytes | None = None) -> Image.Image:
    """Two pixels, red and blue, of a palette."""
    made = picture("P", 0, 1)
    made.putpalette([255, 0, 0, 0, 0, 255])
    if transparency is not None:
        made.info["transparency"] = transparency
    return made


def grey16(mode: str, **info: int) -> Image.Image:
    values = np.array([[0, 255, 256, 32768, 65535]], dtype=">u2" if mode == "I;16B" else "<u2")
    made = Image.frombytes(mode, (5, 1), values.tobytes())
    made.info |= info
    return made


def floats(*values: float) -> Image.Image:
    return Image.fromarray(np.array([values], np.float32))


def greys(*values: int) -> list[tuple[int, int, int]]:
    return [(value,) * 3 for value in values]


TABLE: dict[str, tuple[Image.Image, list[tuple[int, ...]]]] = {
    "1": (picture("1", 0, 255), greys(0, 255)),
    "L": (picture("L", 0, 7, 255), greys(0, 7, 255)),
    "LA": (picture("LA", (0, 0), (0, 255), (100, 51)), greys(255, 0, 224)),
    "P": (palette(), [RED, (0, 0, 255)]),
    "P, one colour transparent": (palette(1), [RED, WHITE]),
    "P, alpha by colour": (palette(bytes([255, 0])), [RED, WHITE]),
    "PA": (palette().convert("PA"), [RED, (0, 0, 255)]),
    "RGB": (picture("RGB", (1, 2, 3)), [(1, 2, 3)]),
    "RGBA": (picture("RGBA", (0, 0, 0, 0), (1, 2, 3, 255), (0, 0, 0, 51)), [WHITE, (1, 2, 3), (204, 204, 204)]),
    "CMYK": (picture("CMYK", (0, 255, 255, 0), (0, 0, 0, 255)), [RED, (0, 0, 0)]),
    "YCbCr": (picture("YCbCr", (255, 128, 128)), [WHITE]),
    "I;16": (grey16("I;16"), greys(0, 0, 1, 128, 255)),
    "I;16, one grey transparent": (grey16("I;16", transparency=256), [*greys(0, 0), WHITE, *greys(128, 255)]),
    "I;16B": (grey16("I;16B"), greys(0, 0, 1, 128, 255)),
    "I, 8 bits": (picture("I", 0, 7, 255), greys(0, 7, 255)),
    "I, 16 bits": (picture("I", 0, 256, 65535), greys(0, 1, 255)),
    "I, 32 bits": (picture("I", 0, 2**30, 2**31 - 1), greys(0, 128, 255)),
    "I, negative": (picture("I", -100, 0, 300), greys(0, 64, 255)),
    "F, 0 to 1": (floats(0, 0.2, 1), greys(0, 51, 255)),
    "F, 0 to 255": (floats(0, 1.6, 255), greys(0, 2, 255)),
    "F, others": (floats(-1000, 0, 3000), greys(0, 64, 255)),
    "F, not numbers": (floats(float("nan"), 0, 1, float("inf")), greys(0, 0, 255, 255)),
    "F, none a number": (floats(float("nan")), greys(0)),
    "F, one value": (floats(300, 300), greys(0, 0)),
}


@pytest.mark.parametrize("name", TABLE)
def test_every_mode_as_a_viewer_shows_it(name: str) -> None:
    given, pixels = TABLE[name]
    before = given.tobytes()
    seen = decode(given)
    assert seen.mode == "RGB" and seen.size == given.size
    assert [seen.getpixel((x, 0)) for x in range(len(pixels))] == pixels
    assert given.tobytes() == before


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        *(("1", "png"), ("LA", "png"), ("P, one colour transparent", "gif"), ("P, alpha by colour", "png")),
        *(("RGBA", "webp"), ("RGBA", "tiff"), ("CMYK", "tiff"), ("I;16", "png"), ("I;16B", "tiff"), ("I;16", "tiff")),
        *(("I, 16 bits", "pgm"), ("I, 32 bits", "tiff"), ("F, 0 to 1", "tiff")),
    ],
)
def test_a_file_is_decoded_as_the_picture_in_it(tmp_path: Path, name: str, suffix: str) -> None:
    given, pixels = TABLE[name]
    path = tmp_path / f"1.{suffix}"
    given.save(path, **({"lossless": True} if suffix == "webp" else {}))
    seen = decode(path)
    assert [seen.getpixel((x, 0)) for x in range(len(pixels))] == pixels
    assert decode(str(path)).tobytes() == seen.tobytes()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tiff", "webp"])
def test_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    """EXIF 2.3: where the first row and the first column of the stored pixels are, in the upright picture."""
    row, column = [
        *(("top", "left"), ("top", "right"), ("bottom", "right"), ("bottom", "left")),
        *(("left", "top"), ("right", "top"), ("right", "bottom"), ("left", "bottom")),
    ][orientation - 1]
    upright = np.arange(6, dtype=np.uint8).reshape(2, 3)
    stored = upright.T if row in ("left", "right") else upright
    stored = stored[::-1] if row in ("bottom", "right") else stored
    stored = stored[:, ::-1] if column in ("right", "bottom") else stored
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"1.{suffix}"
    given = Image.fromarray(np.ascontiguousarray(stored)).convert("RGB")
    given.save(path, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    assert np.asarray(decode(path))[:, :, 0].tolist() == upright.tolist()


def test_damaged_metadata_does_not_hide_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "1.jpg"
    Image.new("RGB", (2, 2), RED).save(path, exif=b"Exif\0\0" + b"not a directory of tags")
    assert decode(path).size == (2, 2)


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (2, 2), colour) for colour in (RED, (0, 0, 255))]
    frames[0].save(tmp_path / "1.gif", save_all=True, append_images=frames[1:])
    assert decode(tmp_path / "1.gif").getpixel((1, 1)) == RED


def test_suffixes_are_what_pillow_reads() -> None:
    assert {".jpg", ".jfif", ".jp2", ".avif", ".webp", ".gif", ".tif", ".png", ".bmp", ".ppm"} <= readable_suffixes()
    assert not {".h5", ".mpg", ".eps", ".ps", ".iim", ".wmf", ".txt", ".csv", ".pdf"} & readable_suffixes()


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
# A header of 9 x 9 greys in JPEG; Pillow opens what follows whatever it is.
IPTC = {(3, 60): b"\1\0", (3, 20): b"\0\x09", (3, 30): b"\0\x09", (3, 120): b"\5", (8, 10): EPS}


@pytest.mark.parametrize(
    "content",
    [EPS, b"".join(struct.pack(">BBBH", 0x1C, *tag, len(value)) + value for tag, value in IPTC.items())],
    ids=["EPS", "EPS in IPTC"],
)
def test_a_program_in_disguise_is_not_run(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "1.jpg"
    path.write_bytes(content)
    sentence = r"1\.jpg cannot be read as an image \(cannot identify image file '.*1\.jpg'\)"  # and not one in it
    with pytest.raises(ValueError, match=sentence):
        decode(path)


def test_unreadable_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "1.bmp"
    path.write_bytes(b"BM" + struct.pack("<IHHIIiiHH", 0, 0, 0, 26, 12, 1, 1, 1, 77))
    for source, reason in ((path, ""), (tmp_path / "absent.png", "No such file or directory")):
        with pytest.raises(ValueError) as caught:
            decode(source)
        assert str(caught.value).startswith(f"{source} cannot be read as an image ({reason}")
        assert "\n" not in str(caught.value)


def test_squares_of_ordinary_pictures_are_resized_whole() -> None:
    random = np.random.default_rng(0)
    for size in ((1, 1), (7, 9), (32, 32), (640, 480), (33, 500), (500, 33), (3, 48)):
        given = Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8))
        whole = TF.pil_to_tensor(TF.center_crop(TF.resize(given, [32]), [32]))
        assert torch.equal(square(given, 32), whole), size


@pytest.mark.parametrize("size", [(600_000, 1), (1, 600_000)])
def test_a_line_takes_no_memory(size: tuple[int, int]) -> None:
    given = Image.new("RGB", size, RED)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert square(given, 32).flatten(1).unique(dim=1).flatten().tolist() == [255, 0, 0]
    limit = 100 << (20 if sys.platform == "darwin" else 10)  # in bytes there, in KiB elsewhere; 3.2 GB without the crop
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < limit


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # as in a process of its own
def test_large_pictures_are_read_and_bombs_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (30, 30)).save(tmp_path / "1.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    assert decode(tmp_path / "1.png").size == (30, 30)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    with pytest.raises(ValueError, match=r"1\.png cannot be read as an image \(Image size"):
        decode(tmp_path / "1.png")


def test_with_a_limit_nothing_is_decoded_before_its_size_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for suffix in ("png", "ico", "tga"):
        Image.new("RGB", (24, 24)).save(tmp_path / f"1.{suffix}")
        assert decode(tmp_path / f"1.{suffix}").size == (24, 24)
    Image.new("RGB", (24, 24)).save(tmp_path / "1.icns")
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)
    with pytest.raises(ValueError, match=r"1\.png .* 24 x 24 pixels, more than 0\.0003 million"):
        decode(tmp_path / "1.png", max_pixels=300)
    for suffix in ("ico", "icns", "tga"):
        with pytest.raises(ValueError, match=rf"1\.{suffix} cannot be read as an image \(cannot identify image file"):
            decode(tmp_path / f"1.{suffix}", max_pixels=300)


@pytest.mark.parametrize("suffix", ["avif", "bmp", "gif", "jpg", "jp2", "mpo", "png", "ppm", "tiff", "webp"])
def test_usual_formats_are_read_with_a_limit(tmp_path: Path, suffix: str) -> None:
    path, given = tmp_path / f"1.{suffix}", Image.new("RGB", (24, 24), RED)
    given.save(path, **({"save_all": True, "append_images": [given]} if suffix == "mpo" else {}))
    assert decode(path, max_pixels=600).size == (24, 24)
    with pytest.raises(ValueError, match="24 x 24 pixels, more than"):
        decode(path, max_pixels=500)


def test_a_dark_pgm_of_16_bits_stays_dark(tmp_path: Path) -> None:
    for brightest in (200, 60000):
        Image.fromarray(np.array([[0, brightest]], dtype=np.int32)).save(tmp_path / "dark.pgm")
        assert decode(tmp_path / "dark.pgm").getpixel((1, 0)) == (brightest >> 8,) * 3


def test_jpegs_of_phones_and_printers(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.new("RGB", (24, 16), RED).save(tmp_path / "turned.jpg", exif=exif)
    assert decode(tmp_path / "turned.jpg").size == (16, 24)
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "print.jpg", quality=95)
    red, green, blue = decode(tmp_path / "print.jpg").getpixel((8, 8))
    assert red > 240 and max(green, blue) < 15


def test_what_a_remedy_is(tmp_path: Path) -> None:
    for source, remedy in ((tmp_path, "give the images in it"), (tmp_path / "absent.png", "check its name")):
        with pytest.raises(ValueError, match=f"{remedy}$"):
            decode(source)
    with pytest.raises(ValueError, match="it has no pixels"):
        decode(Image.new("RGB", (0, 4)))
