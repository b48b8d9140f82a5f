"""Pictures: a file or a PIL image of any mode -> RGB, as a viewer shows it, and from there to one size.

Training, evaluation and prediction all decode here, so a picture gives the same numbers in each of them.
"""

import threading
import warnings
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageFile
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.paths import expanded

# How to turn a picture upright, by the value of its EXIF orientation; 1 is upright.
ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Of longer pictures only the middle is resized: a line of 600,000 pixels would take gigabytes otherwise.
MAX_ASPECT = 16
# Formats that say how large a picture is before it is decoded. Icons do not, and FITS may hold compressed data of any
# size. Pillow opens MPO, which some phones write, as JPEG.
SIZED = {"AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP"}
# Pictures of more pixels are decoded one at a time, as several threads would need gigabytes each.
LARGE = 50_000_000
decoding_large = threading.Lock()
REMEDIES: dict[type[Exception], str] = {
    Image.DecompressionBombError: "make it smaller",
    FileNotFoundError: "check its name",
    IsADirectoryError: "give the images in it",
    PermissionError: "check who may read it",
}


Source = str | Path | Image.Image | np.ndarray | Tensor


def decode(source: Source, max_pixels: int | None = None) -> Image.Image:
    """A picture as RGB with 8 bits a channel.

    - The EXIF orientation is applied. Of an animation the first frame is taken.
    - Transparent pictures are composited on white.
    - 16-bit greys are divided by 256 (the lower byte is dropped, as Pillow does with 16-bit colours).
    - 32-bit integer greys: as they are if all lie within 0..255, divided by 256 if within 0..65535 (of PGM always),
      otherwise the picture's own range is stretched to 0..255.
    - Float greys: times 255 if all lie within 0..1, as they are if within 0..255, otherwise the picture's own range is
      stretched to 0..255. NaN and infinities count as the lowest and the highest finite value.

    Args:
        source: a file, of a format in `readable_formats`; a PIL image; a (H, W) or (H, W, 3) uint8 array; a (3, H, W)
            uint8 tensor. It is not changed.
        max_pixels: of a file; left out, as many as Pillow takes (178 million). With it, only the formats of `SIZED` are
            read.

    Raises:
        UserError: it is something else, or cannot be read, or is larger; names the file.
    """
    if isinstance(source, np.ndarray | Tensor):
        return _of_numbers(source)
    if not isinstance(source, str | Path | Image.Image):
        raise UserError(_no_picture(type(source).__name__))
    try:
        if isinstance(source, Image.Image):
            if 0 in source.size:
                raise ValueError("it has no pixels")
            return _rgb(source)
        formats = [name for name in readable_formats() if max_pixels is None or name in SIZED]
        with Image.open(expanded(source), formats=formats) as file:
            if max_pixels is not None and file.width * file.height > max_pixels:
                size = f"{file.width} x {file.height}"
                raise Image.DecompressionBombError(f"it has {size} pixels, more than {max_pixels / 1e6:g} million")
            with decoding_large if file.width * file.height > LARGE else nullcontext():
                return _rgb(file)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's readers raise whatever a damaged file leads them to
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or repr(error)
        name = "the picture" if isinstance(source, Image.Image) else source
        remedy = next((text for kind, text in REMEDIES.items() if isinstance(error, kind)), "repair or remove it")
        raise UserError(f"{name} cannot be read as an image ({' '.join(reason.split())}); {remedy}") from None


def square(picture: Image.Image, size: int) -> Tensor:
    """RGB picture -> (3, size, size) uint8: the shorter side is resized to size and the centre cut out.

    Of a picture that is more than `MAX_ASPECT` times as long as wide, the ends are cut off first.
    """
    longest = MAX_ASPECT * min(picture.size)
    if max(picture.size) > longest:
        picture = TF.center_crop(picture, [min(picture.height, longest), min(picture.width, longest)])
    return TF.pil_to_tensor(TF.center_crop(TF.resize(picture, [size]), [size]))


@cache
def readable_formats() -> tuple[str, ...]:
    """Names of the file formats that Pillow can decode by itself.

    Encapsulated PostScript needs another program, and an IPTC file may hold a picture of any format, also that one.
    """
    # Pillow warns of pictures above 90 million pixels, which are large but usual, and refuses twice as many.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    Image.init()
    # Of a stub Pillow only recognises the format, for a plugin to read.
    stubs = {n for n, (r, _) in Image.OPEN.items() if isinstance(r, type) and issubclass(r, ImageFile.StubImageFile)}
    return tuple(name for name in Image.ID if name not in {"EPS", "IPTC", "MPEG", *stubs})


@cache
def readable_suffixes() -> frozenset[str]:
    """Suffixes of `readable_formats` in lower case, such as ".jpg"."""
    formats = readable_formats()
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in formats)


def _of_numbers(values: np.ndarray | Tensor) -> Image.Image:
    shape = tuple(values.shape)
    if isinstance(values, Tensor):
        fits = len(shape) == 3 and shape[0] == 3
    else:
        fits = len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)
    if not fits or 0 in shape:
        raise UserError(_no_picture(f"{type(values).__name__} of shape {shape}"))
    if values.dtype not in (np.uint8, torch.uint8):
        raise UserError(_no_picture(f"{type(values).__name__} of {values.dtype}"))
    array = values.permute(1, 2, 0).cpu().numpy() if isinstance(values, Tensor) else values
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")


def _no_picture(given: str) -> str:
    return (
        f"{given} is not an image; give a path, a PIL image, a (H, W) or (H, W, 3) array of uint8, "
        "a (3, H, W) tensor of uint8, or a list of them"
    )


def _rgb(picture: Image.Image) -> Image.Image:
    picture.load()  # before anything is asked: some formats are turned upright, and know their palette, only then
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        rgb = _grey(picture).convert("RGB")
        if (transparent := picture.info.get("transparency")) is not None:  # a grey value of a PNG with 16 bits
            rgb.paste("white", mask=Image.fromarray(np.asarray(picture) == transparent))
    elif picture.has_transparency_data:
        plain = picture.convert("LA") if picture.mode == "La" else picture  # La converts to nothing else
        rgba = plain.convert("RGBA")
        rgb = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    else:
        rgb = picture.convert("RGB")
    turn = ORIENTATIONS.get(_orientation(picture))
    return rgb if turn is None else rgb.transpose(turn)


def _orientation(picture: Image.Image) -> int:
    try:
        return picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged metadata of a picture that is whole
        return 1


def _grey(picture: Image.Image) -> Image.Image:
    """More than 8 bits a pixel -> mode L, without clipping."""
    values = np.asarray(picture)
    if picture.mode.startswith("I;16"):
        return Image.fromarray((values >> 8).astype(np.uint8))
    if picture.mode == "F":
        finite = values[np.isfinite(values)] if np.isfinite(values).any() else np.zeros(1)
        values = np.nan_to_num(values.astype(np.float64), nan=finite.min(), neginf=finite.min(), posinf=finite.max())
        if values.min() >= 0 and values.max() <= 1:
            values = values * 255
    elif picture.format == "PPM" or (values.min() >= 0 and 255 < values.max() <= 65535):
        values = values >> 8
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 255:
        values = (values - low) * (255 / ((high - low) or 1))
    return Image.fromarray(np.rint(values).astype(np.uint8))
