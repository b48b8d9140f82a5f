"""The data module: what a trainer and a picture of a batch get from it, and which sentence a wrong setting gets."""

import logging
import math
import shutil
from pathlib import Path

import lightning.pytorch as L
import pytest
import torch
from data_modules import MEAN, STD, Place, module
from torch import Tensor
from torch.utils.data import TensorDataset
from torchvision.transforms.v2 import functional as TF

from hybrid_vit.augment import (
    Augment,
    RandomCrop,
    RandomHorizontalFlip,
    RandomResizedCrop,
)
from hybrid_vit.augment.draw import Draw, derive_seed
from hybrid_vit.data import module as data_module
from hybrid_vit.data.loader import Batch, ResidentLoader, StreamLoader
from hybrid_vit.data.module import IMAGENET_MEAN, IMAGENET_STD, DataModule
from hybrid_vit.data.pictures import PictureFolder
from hybrid_vit.data.sources import cifar100


def test_sizes_names_and_steps(small_cifar_root: Path) -> None:
    data = module(root=small_cifar_root, num_classes=100)
    assert data.sizes == {"train": 900, "test": 200, "val": 100}
    assert data.num_classes == 100 and data.class_names[7] == "class_07"
    assert data.steps_per_epoch == len(data.train_dataloader()) == 8
    assert module(root=small_cifar_root, drop_last=True).steps_per_epoch == 7
    assert data.val_names == ["val"]
    (val,) = data.val_dataloader()
    assert len(val) == 2
    labels = torch.cat([batch.labels for batch in val])
    assert torch.bincount(labels).tolist() == [1] * 100


def test_images_are_brought_to_another_size(small_cifar_root: Path) -> None:
    source, data = cifar100(small_cifar_root), module(root=small_cifar_root, image_size=48)
    images, labels = next(iter(data.test_dataloader()))[:2]
    assert images.shape[1:] == (3, 48, 48) and images.dtype == torch.uint8
    for image, original in zip(images[:20], source.test_images, strict=False):
        expected = TF.pil_to_tensor(TF.resize(TF.to_pil_image(original), [48, 48]))
        assert (image.int() - expected.int()).abs().max() <= 1  # Pillow rounds in fixed point
    assert torch.equal(labels, source.test_labels[: len(labels)])
    assert data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)[0].shape[1:] == (3, 48, 48)


def test_parts_are_the_source_split_by_the_seed(small_cifar_root: Path) -> None:
    source = cifar100(small_cifar_root)

    def images(data: DataModule, name: str) -> Tensor:
        part = data._parts[name]
        assert isinstance(part, TensorDataset)
        return part.tensors[0]

    one, same, other = (module(root=small_cifar_root, seed=seed) for seed in (1, 1, 2))
    together = torch.cat([images(one, "train"), images(one, "val")]).flatten(1)
    assert sorted(map(bytes, together.numpy())) == sorted(map(bytes, source.train_images.flatten(1).numpy()))
    assert images(one, "test").equal(source.test_images)
    assert images(one, "val").equal(images(same, "val"))
    assert not images(one, "val").equal(images(other, "val"))


def test_batches_are_no_larger_than_the_training_set(small_cifar_root: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = module(root=small_cifar_root, batch_size=1200)
    assert caplog.messages == ["batch_size=1200 is larger than the 900 training images, so it is 900"]
    assert data.batch_size == 900 and data.steps_per_epoch == len(data.train_dataloader()) == 1
    assert [len(batch.labels) for batch in data.train_dataloader()] == [900]
    assert module(root=small_cifar_root, batch_size=1200, drop_last=True).steps_per_epoch == 1
    for rank in range(2):
        data.trainer = Place(rank, 2)  # type: ignore[assignment]
        assert [len(batch.labels) for batch in data.train_dataloader()] == [450]


def test_fractions_are_rounded(small_cifar_root: Path) -> None:
    for fraction, images in ((0.999, 899), (0.9999, 900), (0.12, 108), (0.1115, 100)):
        assert module(root=small_cifar_root, fraction=fraction).sizes["train"] == images
    assert module("digits", fraction=0.999).sizes["train"] == 1337  # of 1,338, where classes differ in size


def test_small_folders_are_checked_before_the_training(
    picture_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "pictures"
    shutil.copytree(picture_root, root)
    bad = root / "eel" / "3.bmp"
    bad.write_bytes(bad.read_bytes()[:-9])
    settings = {"val_size": None, "image_size": 16, "batch_size": 8, "prepared": False}
    for check in (None, True):
        with pytest.raises(ValueError) as caught:
            module("folder", root, check=check, **settings).setup()  # type: ignore[arg-type]
        assert str(caught.value).startswith(f"{bad} cannot be read as an image (")
    with pytest.raises(ValueError, match="has 3 classes, not 4"):  # what is known at once comes first
        module("folder", root, num_classes=4, **settings).setup()  # type: ignore[arg-type]
    module("folder", root, check=False, **settings).setup()  # type: ignore[arg-type]
    monkeypatch.setenv("LOCAL_RANK", "1")
    module("folder", root, check=True, **settings).setup()  # type: ignore[arg-type]


def test_of_large_folders_a_sample_is_checked(
    picture_root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    checked: list[int] = []
    monkeypatch.setattr(data_module, "CHECKED", 44)
    monkeypatch.setattr(data_module, "SAMPLE", 10)
    monkeypatch.setattr(data_module, "check", lambda paths, threads: checked.append(len(paths)))
    settings = {"val_size": None, "image_size": 16, "batch_size": 8}
    with caplog.at_level(logging.INFO, "hybrid_vit.data.module"):
        for check in (None, True, False):
            module("folder", picture_root, check=check, **settings)  # type: ignore[arg-type]
        monkeypatch.setattr(data_module, "CHECKED", 45)
        module("folder", picture_root, **settings)  # type: ignore[arg-type]
    sizes = module("folder", picture_root, check=False, **settings).sizes  # type: ignore[arg-type]
    sampled = len(range(0, sizes["train"], math.ceil(sizes["train"] / 10))) + sizes["val"] + sizes["test"]
    assert checked == [sampled, 45, 45] and sampled < 30
    assert [text for text in caplog.messages if "check" in text] == [
        f"{sampled} of 45 pictures are checked; data.check=true checks all of them"
    ]


def test_without_validation(small_cifar_root: Path) -> None:
    data = module(root=small_cifar_root, val_size=0)
    assert data.sizes == {"train": 1000, "test": 200}
    assert data.val_names == [] and data.val_dataloader() == []
    assert module(root=small_cifar_root, val_size=None).sizes["val"] == 100  # a tenth


def test_published_protocol_adds_the_test_set_under_its_name(small_cifar_root: Path) -> None:
    data = module(root=small_cifar_root, monitor_test=True)
    assert data.val_names == ["val", "published_test"]
    assert [sum(len(batch.labels) for batch in loader) for loader in data.val_dataloader()] == [100, 200]
    assert module(root=small_cifar_root, val_size=0, monitor_test=True).val_names == ["published_test"]


def test_training_batch_is_augmented_with_its_own_draw(small_cifar_root: Path) -> None:
    augment = Augment(crop=RandomCrop(padding=4))
    data = module(root=small_cifar_root, augment=augment, seed=3)
    loader = data.train_dataloader()
    loader.sampler.set_epoch(2)
    batches = list(loader)
    got, targets = data.on_after_batch_transfer(batches[1], 0)
    draw = Draw(derive_seed(3, 2, 1), 128, slice(0, 128))
    expected, _ = augment(batches[1].images, batches[1].labels, draw, normalize=data.normalize, num_classes=100)
    assert got.equal(expected) and targets.equal(batches[1].labels)
    assert not got.equal(data.normalize(batches[1].images))


def test_evaluation_batch_is_only_normalised(small_cifar_root: Path) -> None:
    data = module(root=small_cifar_root)
    batch = next(iter(data.test_dataloader()))
    images, labels = data.on_after_batch_transfer(batch, 0)
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    torch.testing.assert_close(images, (batch.images / 255 - mean) / std)
    assert images.dtype == torch.float32 and labels.equal(batch.labels)
    assert data.denormalize(images).equal(batch.images)
    assert data.denormalize(torch.full((1, 3, 1, 1), 1e4)).flatten().tolist() == [255] * 3


class Watcher(L.LightningModule):
    """Notes which images reach each step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def note(self, name: str, batch: tuple[Tensor, Tensor]) -> None:
        if not self.trainer.sanity_checking:
            self.seen.setdefault(name, []).append(batch)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        self.note("train", batch)
        return self.weight * batch[0].mean()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        self.note(data.val_names[dataloader_idx], batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.note("test", batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def quiet_trainer(limit_val_batches: int | None = None) -> L.Trainer:
    return L.Trainer(
        limit_val_batches=limit_val_batches,
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


@pytest.mark.parametrize("val_size", [100, 0])
def test_trainer_gets_augmented_training_and_plain_evaluation_batches(small_cifar_root: Path, val_size: int) -> None:
    data = module(root=small_cifar_root, val_size=val_size, monitor_test=val_size > 0, prepared=False)
    watcher, trainer = Watcher(), quiet_trainer(limit_val_batches=None if val_size else 0)
    trainer.fit(watcher, datamodule=data)
    trainer.test(watcher, datamodule=data, verbose=False)
    reference = module(root=small_cifar_root, val_size=val_size)
    train = [reference.on_after_batch_transfer(batch, 0) for batch in reference.train_dataloader()]
    test = [(reference.normalize(batch.images), batch.labels) for batch in reference.test_dataloader()]
    expected = {"train": train, "test": test}
    if val_size:
        (val,) = reference.val_dataloader()
        expected["val"] = [(reference.normalize(batch.images), batch.labels) for batch in val]
        expected["published_test"] = test
    assert watcher.seen.keys() == expected.keys()
    for name, batches in expected.items():
        assert len(batches) == len(watcher.seen[name])
        for (images, targets), (seen_images, seen_targets) in zip(batches, watcher.seen[name], strict=True):
            assert images.equal(seen_images) and targets.equal(seen_targets)


def test_training_images_are_plain_when_the_trainer_evaluates_on_them(small_cifar_root: Path) -> None:
    data = module(root=small_cifar_root)
    loader = data.train_dataloader()
    watcher = Watcher()
    quiet_trainer().test(watcher, datamodule=_Of(data, loader), verbose=False)
    for batch, (images, _) in zip(loader, watcher.seen["test"], strict=True):
        assert images.equal(data.normalize(batch.images))


class _Of(L.LightningDataModule):
    """Tests on a loader of another data module, with its hook."""

    def __init__(self, data: DataModule, loader: ResidentLoader | StreamLoader) -> None:
        super().__init__()
        self.data, self.loader = data, loader

    def test_dataloader(self) -> ResidentLoader | StreamLoader:
        return self.loader

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> tuple[Tensor, Tensor]:
        self.data.trainer = self.trainer
        return self.data.on_after_batch_transfer(batch, dataloader_idx)


def test_folder(picture_root: Path) -> None:
    data = module("folder", picture_root, image_size=16, val_size=None, batch_size=8, mean=None, std=None)
    assert data.sizes == {"train": 32, "test": 8, "val": 5}
    assert data.class_names == ["cat", "dog", "eel"] and data.num_classes == 3
    assert data.normalize.mean == IMAGENET_MEAN and data.normalize.std == IMAGENET_STD
    loader = data.train_dataloader()
    assert isinstance(loader, StreamLoader) and len(loader) == data.steps_per_epoch == 4
    images, labels = data.on_after_batch_transfer(next(iter(loader)), 0)
    assert images.shape == (8, 3, 16, 16) and images.dtype == torch.float32 and labels.shape == (8,)
    data.teardown("fit")


def test_a_resized_crop_of_a_folder_is_made_of_the_whole_pictures_and_once(picture_root: Path) -> None:
    whole = Augment(crop=RandomResizedCrop(scale=(0.1, 0.5)), flip=RandomHorizontalFlip())
    settings = {"image_size": 16, "val_size": None, "batch_size": 8}
    data, plain = (module("folder", picture_root, augment=a, **settings) for a in (whole, Augment(flip=whole.flip)))
    part, order = data._parts["train"], data.train_dataloader().sampler.order()
    assert isinstance(part, PictureFolder)
    images, labels = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    crops = torch.stack([part.cropped(i, whole.crop, derive_seed(0, 0, i, 0))[0] for i in order[:8].tolist()])
    draw = next(data.train_dataloader().sampler.shares())[1]
    expected, _ = plain.augment(crops, labels, draw, normalize=data.normalize, num_classes=3)
    assert images.equal(expected)
    assert whole.crop is not None, "the caller's own augmentation is left as it is"
    for ours, theirs in zip(data.test_dataloader(), plain.test_dataloader(), strict=True):
        assert ours.images.equal(theirs.images)


# Python 3.12+: torch forks its workers while its own threads run.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_trainer_streams_a_folder(picture_root: Path) -> None:
    data = module("folder", picture_root, image_size=16, val_size=0, batch_size=8, num_workers=2, prepared=False)
    watcher = Watcher()
    quiet_trainer(limit_val_batches=0).fit(watcher, datamodule=data)
    assert sum(len(labels) for _, labels in watcher.seen["train"]) == 37


def sentence(kind: type[Exception], source: str, root: Path | None, **settings: float) -> str:
    with pytest.raises(kind) as caught:
        module(source, root, **settings)  # type: ignore[arg-type]
    return str(caught.value)


def test_wrong_settings(small_cifar_root: Path, picture_root: Path, tmp_path: Path) -> None:
    root = small_cifar_root
    assert sentence(ValueError, "cifar100", root, fraction=0.001) == (
        "data.fraction=0.001 of 900 training images is 1, fewer than the 100 classes; use at least 0.112"
    )
    assert sentence(ValueError, "cifar100", root, num_classes=10) == (
        "data=cifar100 has 100 classes, not 10; set data.num_classes=100, or leave it out"
    )
    assert sentence(ValueError, "folder", picture_root, num_classes=4, batch_size=2, val_size=5) == (
        "data=folder has 3 classes, not 4; set data.num_classes=3, or leave it out"
    )
    assert sentence(ValueError, "cifar100", root, val_size=99) == (
        "data.val_size=99 cannot hold one image of each of 100 classes; use at least 100, or 0 for no split"
    )
    assert sentence(ValueError, "cifar100", root, val_size=1000) == (
        "data.val_size=1000 leaves nothing of 1000 images to train on; use less than 1000"
    )
    assert sentence(ValueError, "folder", None) == "data=folder needs a folder of pictures; set data.root"
    assert sentence(ValueError, "cifar", root).startswith("there is no data set 'cifar'; did you mean 'cifar10'?")
    assert sentence(FileNotFoundError, "folder", tmp_path).startswith(f"{tmp_path} holds no pictures;")
    shutil.copytree(picture_root, tmp_path / "train")
    shutil.copytree(picture_root / "cat", tmp_path / "test" / "cat")
    assert "holds the one class 'cat'" in sentence(ValueError, "folder", tmp_path)


def test_images_of_all_classes_are_among_the_few_of_a_folder(picture_root: Path) -> None:
    data = module("folder", picture_root, val_size=0)
    part = data._parts["train"]
    chosen = [part[i * len(part) // 9] for i in range(9)]
    assert {int(label) for _, label in chosen} == {0, 1, 2}
    assert data.training_images(9).equal(data.normalize(torch.stack([image for image, _ in chosen])))
    assert len(data.training_images(10_000)) == len(part)
