"""Augmentation on the device that trains: uint8 images and labels enter, float images and targets leave.

draw.py        the random numbers of a batch, one row per sample
ops.py         batched image operations with one parameter per image, equal to torchvision's
transforms.py  crop, flip, colour jitter, erasing
policies.py    AutoAugment, RandAugment, TrivialAugment
mixing.py      Mixup and CutMix
corruptions.py noise, blur and fog, for the demo; not part of training
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hybrid_vit.utils.errors import UserError

from .draw import Draw, derive_seed
from .mixing import CutMix, Mix, Mixup
from .policies import AutoAugment, RandAugment, TrivialAugment
from .transforms import ColorJitter, RandomCrop, RandomErasing, RandomHorizontalFlip, RandomResizedCrop

__all__ = [
    "Augment",
    "AutoAugment",
    "ColorJitter",
    "CutMix",
    "Draw",
    "Mix",
    "Mixup",
    "Normalize",
    "RandAugment",
    "RandomCrop",
    "RandomErasing",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "TrivialAugment",
    "derive_seed",
]


class Normalize:
    """(B, C, H, W) uint8 -> float32 (images / 255 - mean) / std, as one multiply-add.

    Args:
        mean, std: one number per channel, on the scale [0, 1].
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        if len(mean) != len(std):
            raise UserError(
                f"mean has {len(mean)} channels and std has {len(std)}; give one number of each per channel"
            )
        if min(std) <= 0.0:
            raise UserError(f"std is {tuple(std)}, but every channel is divided by it; use numbers above 0")
        self.mean = tuple(mean)
        self.std = tuple(std)
        self._constants: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def __call__(self, images: Tensor) -> Tensor:
        if images.device not in self._constants:
            with torch.inference_mode(False):  # so that a gradient of the images can be taken later
                mean, std = (torch.tensor(v, dtype=torch.float64).view(-1, 1, 1) for v in (self.mean, self.std))
                scale, shift = (1.0 / (255.0 * std)).float(), (-mean / std).float()
                self._constants[images.device] = scale.to(images.device), shift.to(images.device)
        scale, shift = self._constants[images.device]
        return torch.addcmul(shift, images.float(), scale)


class Augment:
    """The whole augmentation of a batch: crop, flip, jitter, policy, normalize, erase, mix; each can be left out.

    A transform is any callable (uint8 images, draw) -> uint8 images; `erase` takes and gives float images;
    `mix` is (float images, labels, num_classes, draw) -> (images, soft targets).
    """

    def __init__(
        self,
        *,
        crop: RandomCrop | RandomResizedCrop | None = None,
        flip: RandomHorizontalFlip | None = None,
        jitter: ColorJitter | None = None,
        policy: AutoAugment | RandAugment | TrivialAugment | None = None,
        erase: RandomErasing | None = None,
        mix: Mix | Mixup | CutMix | None = None,
    ) -> None:
        self.crop = crop
        self.flip = flip
        self.jitter = jitter
        self.policy = policy
        self.erase = erase
        self.mix = mix

    @property
    def weak(self) -> "Augment":
        """Crop and flip alone."""
        return Augment(crop=self.crop, flip=self.flip)

    def __call__(
        self,
        images: Tensor,
        labels: Tensor,
        draw: Draw,
        *,
        normalize: Callable[[Tensor], Tensor],
        num_classes: int,
    ) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) uint8 images and (B,) int64 labels -> float images and targets.

        The targets are the labels themselves, or (B, num_classes) float32 where `mix` is given. B is draw.size; where
        draw is `led`, the first sample is not returned.
        """
        assert len(images) == draw.size
        for transform in (self.crop, self.flip, self.jitter, self.policy):
            if transform is not None:
                images = transform(images, draw)
        floats = normalize(images)
        if self.erase is not None:
            floats = self.erase(floats, draw)
        if self.mix is not None:
            return self.mix(floats, labels, num_classes, draw)
        return (floats[1:], labels[1:]) if draw.led else (floats, labels)
