"""The data of a run: a data set's name and folder -> training, validation and test batches for a Lightning trainer.

What the model receives is (images, targets): normalised float32 images, in training augmented on the device with
targets as the augmentation gives them, in evaluation with the int64 labels.
"""

import hashlib
import logging
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import TensorDataset

from hybrid_vit.augment import Augment, Normalize, RandomResizedCrop
from hybrid_vit.data.loader import Batch, EpochSampler, ResidentLoader, StreamLoader
from hybrid_vit.data.pictures import PictureFolder, check, name_below, picture_splits
from hybrid_vit.data.sources import load_source, resized
from hybrid_vit.data.split import nested_subset, stratified_split
from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.paths import expanded

log = logging.getLogger(__name__)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CHECKED = 20_000  # so many pictures are all read before a training; of more, the sample below
SAMPLE = 1000
HEAD = 4096  # bytes of a file, in which pictures of one size and format differ

Part = TensorDataset | PictureFolder  # (N, 3, H, W) uint8 and (N,) int64 in memory, or N picture files


class DataModule(LightningDataModule):
    """Training, validation and test data, and what is done to a batch on the device.

    The validation images are split off the training images, class by class, by `seed`; the test set is only tested on,
    unless `monitor_test` makes it a further validation loader under a name that says so. How a folder is split is
    said at `picture_splits`.

    Args:
        source: one of `sources.SOURCES`, kept on the device; "folder" for pictures that are streamed.
        root: folder of the files, a CSV that lists them or an .npz of MedMNIST; None where the source needs none.
        num_classes: to be checked against the data; None takes it from there.
        image_size: side in pixels, to which all images are brought.
        mean: of each channel, for images in 0..1; None for ImageNet's.
        std: of each channel, for images in 0..1; None for ImageNet's.
        val_size: images to validate on; 0 uses none, None takes a tenth, or those that the data set has for it.
        batch_size: of training, over all processes; `setup` lowers it to the number of training images.
        fraction: of the training images, class by class, that are trained on, rounded to a number of images; at least
            one of each class. Smaller ones are parts of larger ones.
        eval_batch_size: of validation and test, over all processes.
        augment: (uint8 images, labels, draw) -> (normalised images, targets), in training only. A `RandomResizedCrop`
            of a folder's pictures is made while they are read, of the whole picture.
        seed: of the validation split, the shuffles and the augmentation.
        num_workers: processes that decode the pictures of a folder.
        check: decode all pictures of a folder before anything else, so that a damaged one is found early; None for
            all of up to 20,000 pictures; of more, those of validation and test and a sample of 1,000 others.
        drop_last: leave out an epoch's last training batch where it is smaller than the others.
        monitor_test: also give the test set in validation, as the published runs did. Not for choosing anything.
        world_size: number of processes, until a trainer says it: an epoch may have fewer steps on several.

    Attributes:
        normalize: uint8 images -> float32.
        weak: asked for each training batch: whether only the crop and the flip of `augment` are left.
        class_names: by class index; empty before `setup`.
        class_parts: the classes of each of the data sets that the source joins; empty if it is one.
    """

    def __init__(
        self,
        *,
        source: str,
        root: str | None,
        num_classes: int | None,
        image_size: int,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        val_size: int | None,
        batch_size: int,
        fraction: float = 1.0,
        eval_batch_size: int = 500,
        augment: Augment,
        seed: int,
        num_workers: int = 2,
        check: bool | None = None,
        drop_last: bool = False,
        monitor_test: bool = False,
        world_size: int = 1,
    ) -> None:
        super().__init__()
        self.source = source
        self.root = root
        self.image_size = image_size
        self.mean = tuple(IMAGENET_MEAN if mean is None else mean)
        self.std = tuple(IMAGENET_STD if std is None else std)
        self.val_size = val_size
        self.fraction = fraction
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.crop = augment.crop if source == "folder" and isinstance(augment.crop, RandomResizedCrop) else None
        self.augment = copy(augment)
        if self.crop is not None:
            self.augment.crop = None
        self.seed = seed
        self.num_workers = num_workers
        self.check = check
        self.drop_last = drop_last
        self.monitor_test = monitor_test
        self.world_size = world_size
        self.normalize = Normalize(self.mean, self.std)
        self.weak: Callable[[], bool] = lambda: False
        self._expected_classes = num_classes
        self._parts: dict[str, Part] = {}
        self.class_names: list[str] = []
        self.class_parts: dict[str, range] = {}
        self._streams: list[StreamLoader] = []
        self._fingerprint: dict[str, Any] | None = None

    # Lightning's hooks

    def setup(self, stage: str | None = None) -> None:
        """Download what is missing, load, split and check, once; one process of a machine checks.

        Raises:
            UserError: another number of classes or image size than asked for, a fraction that holds less than an image
                of each class, a picture that cannot be read; and what the source and the split raise.
            FileNotFoundError, NotADirectoryError: as the source.
        """
        if self._parts:
            return
        parts, class_names = self._folder() if self.source == "folder" else self._resident()
        if self._expected_classes not in (None, len(class_names)):
            raise UserError(
                f"data={self.source} has {len(class_names)} classes, not {self._expected_classes}; "
                f"set data.num_classes={len(class_names)}, or leave it out"
            )
        n = len(parts["train"])
        if self.batch_size > n:
            log.warning("batch_size=%d is larger than the %d training images, so it is %d", self.batch_size, n, n)
            self.batch_size = n
        if self.check is not False and os.environ.get("LOCAL_RANK", "0") == "0":
            self._check({name: part for name, part in parts.items() if isinstance(part, PictureFolder)})
        self._parts, self.class_names = parts, class_names

    def train_dataloader(self) -> ResidentLoader | StreamLoader:
        """Shuffled batches, each with its draw."""
        return self._loader("train", training=True)

    def val_dataloader(self) -> list[ResidentLoader | StreamLoader]:
        """A loader for each of `val_names`; where there are none, Lightning wants `Trainer(limit_val_batches=0)`."""
        return [self._loader("val" if name == "val" else "test", training=False) for name in self.val_names]

    def test_dataloader(self) -> ResidentLoader | StreamLoader:
        """The whole test set in order, in every process: the first one scores it alone, however long that takes."""
        return self.whole("test")

    def whole(self, part: str) -> ResidentLoader | StreamLoader:
        """All images of "train", "val" or "test" in order and as they are, in every process."""
        return self._loader(part, training=False, shared=False)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """uint8 batch -> (float32 images, targets), augmented if it has a draw and the trainer (if any) trains."""
        if batch.draw is not None and (self.trainer is None or self.trainer.training):
            augment = self.augment.weak if self.trainer and self.weak() else self.augment
            return augment(
                batch.images, batch.labels, batch.draw, normalize=self.normalize, num_classes=self.num_classes
            )
        return self.normalize(batch.images), batch.labels

    def teardown(self, stage: str) -> None:
        """End the worker processes; loaders used again start new ones."""
        for stream in self._streams:
            stream.close()
        self._streams.clear()

    # What others ask

    @property
    def num_classes(self) -> int:
        """Number of classes, after `setup`."""
        assert self.class_names, "setup() comes first"
        return len(self.class_names)

    @property
    def sizes(self) -> dict[str, int]:
        """Number of images in "train", "test" and, if there is one, "val"; after `setup`."""
        return {name: len(part) for name, part in self._parts.items()}

    @property
    def class_sizes(self) -> dict[str, int]:
        """Number of training images of each class, after `setup`."""
        part = self._parts["train"]
        labels = part.labels if isinstance(part, PictureFolder) else part.tensors[1]
        return dict(zip(self.class_names, labels.bincount(minlength=self.num_classes).tolist(), strict=True))

    @property
    def steps_per_epoch(self) -> int:
        """Training batches of an epoch, after `setup`."""
        return len(self._sampler("train", training=True))

    @property
    def val_names(self) -> list[str]:
        """Names of the loaders of `val_dataloader`, in order: of "val" and "published_test" those that there are."""
        return ["val"] * ("val" in self._parts) + ["published_test"] * self.monitor_test

    def fingerprint(self) -> dict[str, Any]:
        """What the data is, after `setup`, for JSON: `changes` says how two of them differ.

        ``{"class_names": [...], "train": {"images": n, "sha256": "..."}, "test": ...}``, with "val" if there is one.
        The checksum is that of the images and labels, or of the paths below root, sizes in bytes and labels of files.
        Of a folder of up to CHECKED pictures there is also "heads", the checksum of the first bytes of each file.
        """
        if self._fingerprint is None:
            self._fingerprint = {"class_names": self.class_names} | {
                name: {"images": len(part), "sha256": self._checksum(part), **self._heads(part)}
                for name, part in sorted(self._parts.items())
            }
        return self._fingerprint

    def training_images(self, n: int) -> Tensor:
        """n training images (or all), normalised and not augmented: (n, 3, H, W) float32.

        The first ones; of a folder, which is sorted by class, every so many-th.
        """
        part = self._parts["train"]
        n = min(n, len(part))
        if isinstance(part, PictureFolder):
            with ThreadPoolExecutor(max(1, self.num_workers)) as pool:
                return self.normalize(torch.stack([*pool.map(lambda i: part[i * len(part) // n][0], range(n))]))
        return self.normalize(part.tensors[0][:n])

    def denormalize(self, images: Tensor) -> Tensor:
        """The inverse of `normalize`: (B, 3, H, W) float -> uint8, clipped to 0..255."""
        mean, std = (images.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return ((images * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)

    # How

    def _resident(self) -> tuple[dict[str, Part], list[str]]:
        data = load_source(self.source, self.root)
        labels = data.train_labels
        size = max(len(labels) // 10, len(labels.unique())) if self.val_size is None else self.val_size
        own = data.val if size else None
        if own and self.val_size not in (None, len(own[1])):
            raise UserError(
                f"data={self.source} has {len(own[1])} validation images of its own, "
                f"not data.val_size={self.val_size}; leave data.val_size out, or use 0 for none"
            )
        train, val = stratified_split(labels, 0 if own else size, self.seed)
        train = train[self._kept(labels[train])]
        parts: dict[str, Part] = {
            "train": TensorDataset(resized(data.train_images[train], self.image_size), labels[train]),
            "test": TensorDataset(resized(data.test_images, self.image_size), data.test_labels),
        }
        if own:
            parts["val"] = TensorDataset(resized(own[0], self.image_size), own[1])
        elif len(val):
            parts["val"] = TensorDataset(resized(data.train_images[val], self.image_size), labels[val])
        self.class_parts = dict(data.parts)
        return parts, data.class_names

    def _folder(self) -> tuple[dict[str, Part], list[str]]:
        if self.root is None:
            raise UserError("data=folder needs a folder of pictures; set data.root")
        train, val, test = picture_splits(self.root, self.image_size, self.val_size, self.seed)
        parts: dict[str, Part] = {"train": train.subset(self._kept(train.labels)), "test": test}
        if val is not None:
            parts["val"] = val
        return parts, train.class_names

    def _kept(self, labels: Tensor) -> Tensor:
        """Indices of the training images that `fraction` keeps."""
        n, classes = len(labels), len(labels.unique())
        size = round(self.fraction * n)
        if size < classes:
            raise UserError(
                f"data.fraction={self.fraction} of {n} training images is {size}, fewer than the {classes} classes; "
                f"use at least {math.ceil(1000 * classes / n) / 1000:g}"
            )
        return nested_subset(labels, size, self.seed)

    def _check(self, parts: dict[str, PictureFolder]) -> None:
        """Of many pictures a sample of those to train on: each of the others is scored, and a bad one ends the run."""
        paths = {name: part.paths for name, part in parts.items()}
        total = sum(map(len, paths.values()))
        if self.check is None and total > CHECKED:
            paths["train"] = paths["train"][:: math.ceil(len(paths["train"]) / SAMPLE)]
            some = sum(map(len, paths.values()))
            log.info("%d of %d pictures are checked; data.check=true checks all of them", some, total)
        check([path for part in paths.values() for path in part], max(1, self.num_workers))

    def _checksum(self, part: Part) -> str:
        checksum = hashlib.sha256()
        if isinstance(part, PictureFolder):
            for name, path, label in self._by_name(part):
                row = f"{name}\0{path.stat().st_size}\0{label}\n"
                checksum.update(row.encode("utf-8", "surrogateescape"))
        else:
            for tensor in part.tensors:
                checksum.update(tensor.cpu().contiguous().numpy().data)
        return checksum.hexdigest()

    def _by_name(self, part: PictureFolder) -> list[tuple[PurePosixPath, Path, int]]:
        """(name, file, label) of each picture, in an order that does not depend on where the folder lies."""
        assert self.root is not None
        top = expanded(self.root)
        top = top.parent if top.is_file() else top
        names = [PurePosixPath(name_below(path, top, *part.tops)) for path in part.paths]
        return sorted(zip(names, part.paths, part.labels.tolist(), strict=True))

    def _heads(self, part: Part) -> dict[str, str]:
        if not isinstance(part, PictureFolder) or len(part) > CHECKED:
            return {}
        checksum = hashlib.sha256()
        for _, path, _ in self._by_name(part):
            with path.open("rb") as file:
                checksum.update(file.read(HEAD))
        return {"heads": checksum.hexdigest()}

    def _sampler(self, name: str, *, training: bool, shared: bool = True) -> EpochSampler:
        trainer = self.trainer if shared else None
        return EpochSampler(
            len(self._parts[name]),
            self.batch_size if training else self.eval_batch_size,
            seed=self.seed,
            shuffle=training,
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else self.world_size if shared else 1,
            drop_last=training and self.drop_last,
            led=training and self.augment.mix is not None,
            setting="batch_size" if training else "data.eval_batch_size",
        )

    def _loader(self, name: str, *, training: bool, shared: bool = True) -> ResidentLoader | StreamLoader:
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        sampler = self._sampler(name, training=training, shared=shared)
        part = self._parts[name]
        if isinstance(part, PictureFolder):
            crop = self.crop if training else None
            stream = StreamLoader(part, sampler, self.num_workers, pin_memory=device.type == "cuda", crop=crop)
            self._streams.append(stream)
            return stream
        images, labels = (tensor.to(device) for tensor in part.tensors)
        self._parts[name] = TensorDataset(images, labels)  # moved once, however many loaders there will be
        return ResidentLoader(images, labels, sampler)


def changes_of_test_set(before: dict[str, Any] | None, now: dict[str, Any] | None) -> list[str]:
    """How the test images of two fingerprints differ, in words; nothing where one of them, of an older run, is missing.

    Where they differ, the training images of one may be among the test images of the other.
    """
    if before is None or now is None:
        return []
    return changes(*({"class_names": [], "test": each["test"]} for each in (before, now)))


def changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """How two fingerprints differ, in words such as "7 more training images"; empty if they do not."""
    found = []
    if before["class_names"] != now["class_names"]:
        found.append(changed_classes(before["class_names"], now["class_names"]))
    for key, kind in (("train", "training"), ("val", "validation"), ("test", "test")):
        one, other = (fingerprint.get(key, {"images": 0, "sha256": ""}) for fingerprint in (before, now))
        more = other["images"] - one["images"]
        if more:
            found.append(
                f"{abs(more)} {'more' if more > 0 else 'fewer'} {kind} {'image' if abs(more) == 1 else 'images'}"
            )
        elif any(one[part] != other[part] for part in ("sha256", "heads") if part in one and part in other):
            found.append(f"other {kind} images, as many as before")
    return found


def changed_classes(before: list[str], now: list[str]) -> str:
    """How two lists of classes differ: 'other classes (without eel; with owl)'."""
    gone, new = [name for name in before if name not in now], [name for name in now if name not in before]
    parts = [
        f"{word} {', '.join(names[:5])}{', ...' if names[5:] else ''}"
        for word, names in (("without", gone), ("with", new))
        if names
    ]
    return f"other classes ({'; '.join(parts) or 'in another order'})"
