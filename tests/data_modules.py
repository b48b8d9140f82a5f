"""A data module with the settings of a test."""

from collections.abc import Sequence
from pathlib import Path

import torch

from hybrid_vit.augment import (
    Augment,
    RandomCrop,
    RandomHorizontalFlip,
)
from hybrid_vit.data.module import DataModule

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def module(
    source: str = "cifar100",
    root: Path | None = None,
    *,
    num_classes: int | None = None,
    image_size: int = 32,
    mean: Sequence[float] | None = MEAN,
    std: Sequence[float] | None = STD,
    val_size: int | None = 100,
    batch_size: int = 128,
    fraction: float = 1.0,
    check: bool | None = None,
    augment: Augment | None = None,
    seed: int = 0,
    num_workers: int = 0,
    drop_last: bool = False,
    monitor_test: bool = False,
    prepared: bool = True,
) -> DataModule:
    data = DataModule(
        source=source,
        root=None if root is None else str(root),
        num_classes=num_classes,
        image_size=image_size,
        mean=mean,
        std=std,
        val_size=val_size,
        batch_size=batch_size,
        fraction=fraction,
        check=check,
        eval_batch_size=64,
        augment=augment or Augment(crop=RandomCrop(padding=4), flip=RandomHorizontalFlip()),
        seed=seed,
        num_workers=num_workers,
        drop_last=drop_last,
        monitor_test=monitor_test,
    )
    if prepared:
        data.setup()
    return data


class Place:
    """What the data module asks of a trainer."""

    training = True

    def __init__(self, rank: int, world_size: int) -> None:
        self.global_rank, self.world_size = rank, world_size
        self.strategy = self
        self.root_device = torch.device("cpu")
