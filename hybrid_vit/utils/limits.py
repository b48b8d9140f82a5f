"""Which numbers go together: the arithmetic of stems, heads and schedules, and the errors that name the remedy.

Nothing here imports torch: the parts use it when they are built, a command before torch is loaded.
"""

from collections.abc import Sequence

from hybrid_vit.utils.errors import UserError

HEAD_DIM = 32
WARMUP_EPOCHS, WARMUP_SHARE = 5, 0.1  # the published recipes; the longest default warm-up of a shorter run


def plan(
    embed_dim: int,
    img_size: int,
    grid: int,
    depth: int,
    channels: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> list[tuple[int, int, int]]:
    """(channels in, channels out, stride) of each of `depth` layers; what is None is derived."""
    check_sizes(embed_dim, img_size, grid)
    channels = list(channels or derive_channels(depth, embed_dim))
    strides = list(strides or derive_strides(depth, img_size, grid))
    if len(channels) != depth or channels[-1] != embed_dim or min(channels) < 1:
        raise UserError(
            f"stem.channels {channels} must be {depth} positive numbers (stem.depth) ending in "
            f"embed_dim {embed_dim}; leave them out to get {derive_channels(depth, embed_dim)}"
        )
    size = img_size
    for stride in strides:
        size = (size - 1) // stride + 1
    if len(strides) != depth or size != grid:
        raise UserError(
            f"stem.strides {strides} must be {depth} numbers (stem.depth) that take {img_size} pixels to "
            f"grid {grid}; they are {len(strides)} and give {size}: leave stem.strides out, or set "
            f"stem.depth={len(strides)} and stem.grid={size}"
        )
    return [*zip([3, *channels[:-1]], channels, strides, strict=True)]


def check_sizes(embed_dim: int, img_size: int, grid: int) -> None:
    """A width is positive, and a grid has between one cell and one cell a pixel."""
    if embed_dim < 1:
        raise UserError(f"model.embed_dim {embed_dim} must be positive, e.g. model.embed_dim=192")
    if not 1 <= grid <= img_size:
        raise UserError(f"stem.grid {grid} must lie between 1 and the {img_size} pixels of the image; use a divisor")


def derive_channels(depth: int, embed_dim: int) -> list[int]:
    """64, 128, ... doubling but never above `embed_dim`, which is the last of the `depth` numbers."""
    return [min(64 * 2**i, embed_dim) for i in range(depth - 1)] + [embed_dim]


def derive_strides(depth: int, img_size: int, grid: int) -> list[int]:
    """One stride per layer, 1 or 2, whose product is img_size / grid."""
    halvings = count_halvings(img_size, grid)
    if halvings is None:
        reachable = [img_size >> k for k in range(depth + 1) if not img_size % 2**k]
        raise UserError(f"stem.grid {grid} is not {img_size} pixels halved; with depth {depth} use one of {reachable}")
    if halvings > depth:
        raise UserError(
            f"stem.grid {grid} cannot be reached from {img_size} pixels with stem.depth {depth} (each layer halves at "
            f"most once); use stem.depth={halvings} or stem.grid={img_size >> depth}"
        )
    full = min(1, depth - halvings)
    return [1] * full + [2] * halvings + [1] * (depth - halvings - full)


def count_halvings(img_size: int, grid: int) -> int | None:
    """How often `img_size` must be halved to be `grid`; None: it never is."""
    halvings = (img_size // grid).bit_length() - 1
    return halvings if grid * 2**halvings == img_size else None


def halvings(embed_dim: int, img_size: int, grid: int) -> int:
    """How often a `TokenizerStem` halves the image: once or more."""
    check_sizes(embed_dim, img_size, grid)
    depth = count_halvings(img_size, grid)
    if not depth:
        halves = [img_size >> k for k in range(1, img_size.bit_length()) if not img_size % 2**k]
        raise UserError(f"stem.grid {grid} is not {img_size} pixels halved once or more; use one of {halves}")
    return depth


def groups(
    embed_dim: int,
    img_size: int,
    grid: int,
    channels: Sequence[int] | None = None,
    depths: Sequence[int] | None = None,
    patch_size: int = 2,
) -> tuple[int, list[int], list[int]]:
    """Padding of a `WhitenedStem`, and channels and depths of its groups, each of which halves; None is derived."""
    check_sizes(embed_dim, img_size, grid)
    reached: dict[int, tuple[int, int]] = {}  # grid -> padding, number of groups
    for padding in (0, patch_size - 1):
        size = img_size - patch_size + 1 + padding
        for depth in range(1, max(size, 0).bit_length()):
            reached.setdefault(size >> depth, (padding, depth))
    if grid not in reached:
        raise UserError(
            f"stem.grid {grid} is not {img_size} pixels whitened in patches of {patch_size} and halved; "
            f"use one of {sorted(reached, reverse=True)}"
        )
    padding, depth = reached[grid]
    derived = [min(64, embed_dim), *[embed_dim] * (depth - 1)] if depth > 1 else [embed_dim]
    widths = list(channels or derived)
    if len(widths) != depth or widths[-1] != embed_dim or min(widths) < 1:
        raise UserError(
            f"stem.channels {widths} must be {depth} positive numbers, one for each halving from {img_size} pixels to "
            f"grid {grid}, ending in embed_dim {embed_dim}; leave them out to get {derived}"
        )
    convs = list(depths or [1] * depth)
    if len(convs) != depth or min(convs) < 1:
        raise UserError(
            f"stem.depths {convs} must be {depth} positive numbers, the residual convolutions of each group; "
            f"leave them out to get {[1] * depth}"
        )
    return padding, widths, convs


def patches(embed_dim: int, img_size: int, grid: int, patch_size: int | None = None) -> tuple[int, int]:
    """Stride and side of the patches of a `PatchStem`, in pixels."""
    check_sizes(embed_dim, img_size, grid)
    if img_size % grid:
        raise UserError(f"stem.grid {grid} does not divide the image of {img_size} pixels; use a divisor of it")
    stride = img_size // grid
    patch_size = stride if patch_size is None else patch_size
    if patch_size < stride or (stride == 1 and patch_size % 2 == 0):
        raise UserError(
            f"stem.patch_size {patch_size} must be at least the {stride} pixels of a cell, and odd if that is 1; "
            f"use {stride} (or leave it out), or for patches that overlap {2 * stride - 1 if stride > 1 else 3}"
        )
    return stride, patch_size


def derive_heads(embed_dim: int, num_heads: int | None) -> int:
    """Heads of 32 channels when `num_heads` is None; a width that cannot be divided is an error with the remedy."""
    if num_heads is None:
        if embed_dim % HEAD_DIM:
            low = max(embed_dim // HEAD_DIM, 1) * HEAD_DIM
            raise UserError(
                f"embed_dim {embed_dim} is not a multiple of the head width {HEAD_DIM}; "
                f"use {low} or {low + HEAD_DIM}, or give model.num_heads"
            )
        return embed_dim // HEAD_DIM
    if num_heads < 1 or embed_dim % num_heads:
        divisors = [heads for heads in range(1, embed_dim + 1) if not embed_dim % heads]
        below = [heads for heads in divisors if heads < num_heads][-1:]
        above = [heads for heads in divisors if heads > num_heads][:1]
        raise UserError(
            f"embed_dim {embed_dim} is not divisible by num_heads {num_heads}; "
            f"use model.num_heads={' or '.join(map(str, below + above))}, or leave it out (head_dim {HEAD_DIM})"
        )
    return num_heads


def warmup(given: float | None, epochs: float, share: float = WARMUP_SHARE) -> float:
    """Warm-up of a run of `epochs`, in epochs: as given; else that of the published recipes, at most that share."""
    return min(WARMUP_EPOCHS, share * epochs) if given is None else given


def check_schedule(*, lr: float, epochs: float, warmup_epochs: float, min_lr: float) -> None:
    """A warm-up that does not end before the schedule does, or a last rate above the first, is an error.

    Args:
        epochs: infinite where the length is not known yet.
    """
    if not 0 <= warmup_epochs < epochs:
        raise UserError(
            f"optim.warmup_epochs {warmup_epochs:g} must be at least 0 and less than the {epochs:g} epochs of the run; "
            "leave it out for the share optim.warmup_share of them"
        )
    if not 0 <= min_lr <= lr:
        raise UserError(f"optim.min_lr {min_lr} must lie between 0 and optim.lr {lr}")
