"""Image operations on a batch: (B, 3, H, W) uint8 images and one parameter per image enter, new images leave.

Every op gives, for each image of the batch, what torchvision.transforms.v2.functional gives for that image alone on
the same device; the docstring says how closely. "Exact" rests on float32 sums rounding in the same order, which holds
where add and addcmul fuse alike (x86 CPUs, measured); elsewhere a value that falls on a grey level may differ by 1.

Parameters are (B,) tensors and live on the CPU: the few numbers that need float64 get it there, then all move to the
device of the images without a synchronisation. No op changes its input, reads a value back or loops over the batch.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from hybrid_vit.utils.errors import UserError

# Python's `1.0 - factor` is float64 in torchvision; so is it here, before the rounding to float32.
_EXACT = torch.float64


def moved(values: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on `device`; only CUDA copies before `values` may be freed, if it is not waited for."""
    return values.to(device, non_blocking=device.type == "cuda")


def _per_image(values: Tensor, images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """(B,) parameters -> (B, 1, 1, 1) on the device of the images."""
    return moved(values.to(dtype), images.device).view(-1, 1, 1, 1)


def _to_uint8(values: Tensor) -> Tensor:
    """Clamp float values in place to [0, 255] and cut off the fraction."""
    return values.clamp_(0, 255).to(torch.uint8)


# ---------------------------------------------------------------- where pixels come from


def crop_with_padding(images: Tensor, top: Tensor, left: Tensor, *, padding: int) -> Tensor:
    """An (H, W) window of each image padded with black, its corner at (top, left) of the padded image. Exact.

    top, left: int64 in [0, 2 * padding]. torchvision: pad, then crop.
    """
    height, width = images.shape[2:]
    padded = F.pad(images, (padding,) * 4)
    row = padded.shape[3]
    corner = moved(top * row + left, images.device).view(-1, 1, 1)
    window = torch.arange(height, device=images.device).view(-1, 1) * row + torch.arange(width, device=images.device)
    pixels = (corner + window.flatten()).expand(-1, images.shape[1], -1)
    return padded.flatten(2).gather(2, pixels).view_as(images)


def crop_with_reflection(images: Tensor, top: Tensor, left: Tensor, *, padding: int) -> Tensor:
    """The same of each image padded with its mirror image, whose axis is the outermost pixel: torch's "reflect".

    Raises:
        UserError: as much padding as the image has pixels, or more.
    """
    height, width = images.shape[2:]
    if padding >= min(height, width):
        raise UserError(f"augment.crop.padding={padding} cannot reflect images of {height} x {width} pixels; use less")

    def mirrored(first: Tensor, size: int) -> Tensor:  # (B,) -> (B, size)
        place = (first.view(-1, 1) + torch.arange(size) - padding).abs()
        return size - 1 - (size - 1 - place).abs()

    pixels = mirrored(top, height).unsqueeze(2) * width + mirrored(left, width).unsqueeze(1)
    pixels = moved(pixels.flatten(1).unsqueeze(1), images.device).expand(-1, images.shape[1], -1)
    return images.flatten(2).gather(2, pixels).view_as(images)


def _stretching(start: Tensor, length: Tensor, size: int, device: torch.device) -> Tensor:
    """(B, size, size) bilinear weights: row i says how output pixel i is made of the pixels start ... start + length.

    A box lies within its image, so it is only ever enlarged, where antialiasing has nothing to do.
    """
    start, length = (moved(v.to(torch.float32), device).view(-1, 1) for v in (start, length))
    pixel = torch.arange(size, device=device, dtype=torch.float32) + 0.5
    source = torch.clamp(start + pixel * (length / size), start + 0.5, start + length - 0.5)
    return (pixel - source.unsqueeze(2)).abs_().neg_().add_(1.0).clamp_(min=0.0)


def resized_crop(images: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """The box (top, left, height, width) of each image, in pixels, resized to (H, W) by bilinear interpolation.

    Within 1 grey level (torchvision rounds between the two passes on a CPU); the whole image comes back exactly.
    torchvision: resized_crop, with antialiasing or without.
    """
    batch, channels, rows, columns = images.shape
    across = _stretching(left, width, columns, images.device).transpose(1, 2)
    down = _stretching(top, height, rows, images.device)
    stretched = torch.bmm(images.float().view(batch, channels * rows, columns), across)
    stretched = torch.einsum("bij,bcjk->bcik", down, stretched.view(batch, channels, rows, columns))
    return stretched.round_().to(torch.uint8)


def hflip(images: Tensor, flipped: Tensor) -> Tensor:
    """Mirror left and right the images where `flipped` (bool) is True. Exact."""
    both = torch.cat((images, images.flip(3)))
    chosen = torch.arange(len(images)) + len(images) * flipped.to(torch.int64)
    return both.index_select(0, moved(chosen, images.device))


@lru_cache(maxsize=16)
def _pixel_centres(height: int, width: int, device: torch.device) -> Tensor:
    """(1, H * W, 3): homogeneous pixel coordinates (x, y, 1), the origin in the middle of the image."""
    x = torch.linspace((1.0 - width) * 0.5, (width - 1.0) * 0.5, width, device=device)
    y = torch.linspace((1.0 - height) * 0.5, (height - 1.0) * 0.5, height, device=device)
    y, x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack((x, y, torch.ones_like(x)), dim=2).view(1, height * width, 3)


def _warp(images: Tensor, entries: dict[tuple[int, int], Tensor]) -> Tensor:
    """Nearest-neighbour affine warp with black outside.

    Output pixel (x, y, 1), measured from the middle of the image, is read at (x, y, 1) @ matrix, where each image's
    (3, 2) matrix is the identity but for the given entries, each (B,).

    The order of the arithmetic is torchvision's: the angles and slopes that are drawn do hit points half-way between
    two pixels, where the last bit decides.
    """
    batch, _, height, width = images.shape
    matrix = torch.eye(3, 2).repeat(batch, 1, 1)
    for (row, column), values in entries.items():
        matrix[:, row, column] = values
    matrix /= torch.tensor((0.5 * width, 0.5 * height))
    centres = _pixel_centres(height, width, images.device).expand(batch, -1, -1)
    grid = torch.bmm(centres, moved(matrix, images.device)).view(batch, height, width, 2)
    warped = F.grid_sample(images.float(), grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return warped.to(torch.uint8)


def shear_x(images: Tensor, slope: Tensor) -> Tensor:
    """Row y moves left by slope * y pixels, from the top edge on. Exact.

    torchvision: affine(shear=[degrees(atan(slope)), 0], center=[0, 0]), nearest.
    """
    slope = slope.to(_EXACT)
    return _warp(images, {(1, 0): slope, (2, 0): slope * (0.5 * images.shape[2])})


def shear_y(images: Tensor, slope: Tensor) -> Tensor:
    """Column x moves up by slope * x pixels, from the left edge on. Exact.

    torchvision: affine(shear=[0, degrees(atan(slope))], center=[0, 0]), nearest.
    """
    slope = slope.to(_EXACT)
    return _warp(images, {(0, 1): slope, (2, 1): slope * (0.5 * images.shape[3])})


def translate_x(images: Tensor, pixels: Tensor) -> Tensor:
    """Move right by whole pixels; a fraction is cut off, as torchvision's policies do. Exact.

    torchvision: affine(translate=[int(pixels), 0]), nearest.
    """
    return _warp(images, {(2, 0): -pixels.trunc()})


def translate_y(images: Tensor, pixels: Tensor) -> Tensor:
    """Move down by whole pixels; a fraction is cut off, as torchvision's policies do. Exact.

    torchvision: affine(translate=[0, int(pixels)]), nearest.
    """
    return _warp(images, {(2, 1): -pixels.trunc()})


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Turn counter-clockwise about the middle. Exact. torchvision: rotate(angle=degrees), nearest."""
    angle = torch.deg2rad(degrees.to(_EXACT).remainder(360.0))
    cos, sin = angle.cos(), angle.sin()
    return _warp(images, {(0, 0): cos, (1, 0): -sin, (0, 1): sin, (1, 1): cos})


# ---------------------------------------------------------------- blends with a plainer image


def _grey(images: Tensor) -> Tensor:
    """(B, 1, H, W) float32 luma in whole grey levels, ITU-R BT.601."""
    red, green, blue = images.unbind(1)
    return red.mul(0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114).floor_().unsqueeze(1)


def _blend(images: Tensor, plain: Tensor, factor: Tensor) -> Tensor:
    """plain + factor * (images - plain), in the order in which torchvision rounds."""
    blended = images.float().mul_(_per_image(factor, images))
    return _to_uint8(blended.addcmul_(plain, _per_image(1.0 - factor.to(_EXACT), images)))


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with black: 0 is black, 1 changes nothing. Exact. torchvision: adjust_brightness."""
    return _to_uint8(images.float().mul_(_per_image(factor, images)))


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the mean luma of the image: 0 is plain grey, 1 changes nothing. Exact up to 65,793 pixels, where the
    sum of the luma is exact in float32; within 1 grey level above. torchvision: adjust_contrast.
    """
    return _blend(images, _grey(images).mean(dim=(1, 2, 3), keepdim=True), factor)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the luma of the pixel: 0 is a grey image, 1 changes nothing. Exact. torchvision: adjust_saturation."""
    return _blend(images, _grey(images), factor)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with a 3x3 smoothing (weights 1, centre 5, over 13): 0 is smooth, 1 changes nothing, the border stays.
    Exact; an image of 2 rows or columns or fewer stays as it is. torchvision: adjust_sharpness.
    """
    if min(images.shape[2:]) <= 2:
        return images.clone()
    sharp = images.float()
    inner = sharp[..., 1:-1, 1:-1]
    columns = sharp[..., :-2, :] + sharp[..., 1:-1, :] + sharp[..., 2:, :]
    smooth = columns[..., :-2] + columns[..., 1:-1] + columns[..., 2:]
    # k / 13 is never half-way between two grey levels, so the order of this sum cannot matter.
    smooth = smooth.add_(inner, alpha=4.0).div_(13.0).round_()
    inner.addcmul_(smooth.sub_(inner), _per_image(1.0 - factor.to(_EXACT), images))
    return _to_uint8(sharp)


# ---------------------------------------------------------------- maps of colours


def hue(images: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue by a fraction of the colour circle, in [-0.5, 0.5]. Within 1 grey level. torchvision: adjust_hue.

    In HSV the value (the largest channel) and the chroma (largest minus smallest) stay. The hue runs over six sextants,
    from red (0) over green (2) and blue (4) back to red.
    """
    red, green, blue = images.float().unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    lowest = torch.minimum(torch.minimum(red, green), blue)
    chroma = value - lowest
    per_chroma = 1.0 / chroma.clamp(min=1.0)
    near_red = (green - blue).mul_(per_chroma)
    near_green = (blue - red).mul_(per_chroma).add_(2.0)
    near_blue = (red - green).mul_(per_chroma).add_(4.0)
    # Grey levels are whole numbers, so these are 0 where the channel is the largest and 1 elsewhere: a selection
    # without torch.where, which branches on every pixel on a CPU.
    not_red, not_green = (value - red).clamp_(max=1.0), (value - green).clamp_(max=1.0)
    sextant = near_green.addcmul_(not_green, near_blue - near_green)
    sextant = near_red.addcmul_(not_red, sextant - near_red).add_(6.0 * _per_image(turn, images).squeeze(1))
    sextant.sub_((sextant / 6.0).floor_(), alpha=6.0)
    share_of_red = (sextant - 3.0).abs_().sub_(1.0)
    share_of_green = 2.0 - (sextant - 2.0).abs_()
    share_of_blue = 2.0 - (sextant - 4.0).abs_()
    shares = torch.stack((share_of_red, share_of_green, share_of_blue), dim=1).clamp_(0.0, 1.0)
    turned = torch.addcmul(lowest.unsqueeze(1), chroma.unsqueeze(1), shares)
    # torchvision spreads [0, 1] over 255.999 levels and cuts off the fraction.
    return turned.mul_(255.999 / 255.0).to(torch.uint8)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the highest `bits` bits of every channel, 0 to 8; a fraction is cut off. Exact. torchvision: posterize."""
    lowest = torch.exp2((8 - bits.trunc()).clamp(0, 8))
    return images & _per_image(256 - lowest, images, torch.uint8)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert the values at or above a threshold in [0, 255]. Exact. torchvision: solarize."""
    level = threshold.to(torch.float32).ceil().clamp(0, 255)
    # True is 1, its negative 255: an exclusive or with it inverts (four times faster than torch.where on a CPU).
    return images ^ (images >= _per_image(level, images, torch.uint8)).view(torch.uint8).neg_()


def invert(images: Tensor) -> Tensor:
    """255 - value. Exact. torchvision: invert."""
    return ~images


def autocontrast(images: Tensor) -> Tensor:
    """Stretch every channel of every image to [0, 255]; a constant channel stays. Exact. torchvision: autocontrast."""
    flat = images.flatten(2)
    low, high = flat.amin(2).float(), flat.amax(2).float()
    constant = low == high
    scale = ((high - low) * (1.0 / 255.0)).masked_fill_(constant, 1.0)
    low = low.masked_fill_(constant, 0.0)
    return _to_uint8((images - low[..., None, None]).div_(scale[..., None, None]))


def equalize(images: Tensor) -> Tensor:
    """Spread the histogram of every channel of every image evenly, by Pillow's integer rule. Exact.

    torchvision: equalize.
    """
    flat = images.flatten(2)
    pixels = flat.to(torch.int64)
    histogram = torch.zeros(*flat.shape[:2], 256, dtype=torch.int32, device=images.device)
    histogram.scatter_add_(2, pixels, torch.ones_like(pixels, dtype=torch.int32))
    darker = histogram.cumsum(2, dtype=torch.int32) - histogram
    brightest = histogram.gather(2, flat.amax(2, keepdim=True).to(torch.int64))
    step = (flat.shape[2] - brightest) // 255
    table = torch.div(darker + step // 2, step.clamp(min=1), rounding_mode="trunc").clamp_(max=255)
    table = torch.where(step > 0, table, torch.arange(256, device=images.device)).to(torch.uint8)
    return table.gather(2, pixels).view_as(images)


# ---------------------------------------------------------------- on normalised floats


def erase(images: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor, value: Tensor | float) -> Tensor:
    """Fill the box (top, left, height, width) of each float image, in pixels, with `value`; height or width 0 leaves
    the image as it is. Exact. torchvision: erase.

    images: (B, C, H, W) float. value: a number, or a tensor that broadcasts to the images.
    """
    device = images.device
    y = torch.arange(images.shape[2], device=device).view(1, 1, -1, 1)
    x = torch.arange(images.shape[3], device=device).view(1, 1, 1, -1)
    top, left, height, width = (_per_image(v, images, torch.int64) for v in (top, left, height, width))
    inside = ((y >= top) & (y < top + height)) & ((x >= left) & (x < left + width))
    return torch.where(inside, value, images)
