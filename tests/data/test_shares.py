"""Processes that train together share every batch of a data module, and each has the whole test set."""

from pathlib import Path

import pytest
import torch
from data_modules import Place, module
from torch import Tensor

from hybrid_vit.augment import (
    Augment,
    Mix,
    RandomCrop,
    RandomErasing,
    TrivialAugment,
)

AUGMENTS = {
    "default": None,
    "all": Augment(
        crop=RandomCrop(padding=4),
        policy=TrivialAugment(),
        erase=RandomErasing(p=0.5),
        mix=Mix(mixup_alpha=0.8, cutmix_alpha=1.0, p=0.8),
    ),
}


@pytest.mark.parametrize("source", ["digits", "folder"])
def test_every_process_has_the_whole_test_set(picture_root: Path, source: str) -> None:
    folder = {"root": picture_root, "image_size": 16, "batch_size": 8, "num_workers": 0} if source == "folder" else {}
    plain = {"root": None, "image_size": 32, "batch_size": 8, "mean": None, "std": None, "val_size": None}
    data = module(source, **plain | folder)
    data.trainer = Place(1, 2)  # type: ignore[assignment]
    assert sum(len(batch.labels) for batch in data.test_dataloader()) == data.sizes["test"]
    (val,) = data.val_dataloader()
    assert sum(len(batch.labels) for batch in val) == (data.sizes["val"] + 1) // 2
    data.teardown("test")


@pytest.mark.parametrize("augment", AUGMENTS)
def test_processes_share_every_batch(small_cifar_root: Path, augment: str) -> None:
    alone = module(root=small_cifar_root, augment=AUGMENTS[augment])
    expected = [alone.on_after_batch_transfer(batch, 0) for batch in alone.train_dataloader()]
    shares = []
    for rank in range(3):
        data = module(root=small_cifar_root, augment=AUGMENTS[augment])
        data.trainer = Place(rank, 3)  # type: ignore[assignment]
        assert data.steps_per_epoch == 8
        shares.append([data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader()])
    for (images, targets), *parts in zip(expected, *shares, strict=True):
        assert torch.cat([part[0] for part in parts]).equal(images)
        assert torch.cat([part[1] for part in parts]).equal(targets)


def test_processes_share_every_batch_of_a_folder(picture_root: Path) -> None:
    def batches(rank: int, world_size: int) -> list[tuple[Tensor, Tensor]]:
        data = module(
            "folder", picture_root, image_size=16, val_size=0, batch_size=8, augment=AUGMENTS["all"], prepared=False
        )
        data.setup()
        data.trainer = Place(rank, world_size)  # type: ignore[assignment]
        return [data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader()]

    for (images, targets), *parts in zip(batches(0, 1), batches(0, 2), batches(1, 2), strict=True):
        assert torch.cat([part[0] for part in parts]).equal(images)
        assert torch.cat([part[1] for part in parts]).equal(targets)
