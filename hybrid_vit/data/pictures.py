"""Folders of pictures: root/[train,val,test]/CLASS/*.jpg -> uint8 tensors of one size, decoded when asked for."""

from collections.abc import Sequence
from copy import copy
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms.v2 import functional as TF

from hybrid_vit.data.split import stratified_split

TEST_SEED = 0  # a constant: every run is tested on the same pictures


class PictureFolder(Dataset[tuple[Tensor, int]]):
    """Pictures in one folder per class; item i is ((3, image_size, image_size) uint8, class index).

    A picture is decoded to RGB, its shorter side resized to image_size, and its centre cut out.

    Args:
        root: folder of the class folders, whose sorted names are the classes.
        image_size: side in pixels.

    Raises:
        FileNotFoundError: no such folder, or no pictures in it.
        NotADirectoryError: root is a file.
        ValueError: fewer than two classes; when an item is asked for, a picture that cannot be read.
    """

    def __init__(self, root: str | Path, image_size: int) -> None:
        self.root = _folder(root)
        self.image_size = image_size
        found = {folder.name: _pictures(folder) for folder in sorted(self.root.iterdir()) if _is_class(folder)}
        if not any(found.values()):
            raise FileNotFoundError(
                f"{self.root} holds no pictures; give a folder with one folder per class, "
                f"such as {self.root / 'cat' / '1.jpg'}"
            )
        empty = [name for name, paths in found.items() if not paths]
        if empty:
            raise FileNotFoundError(f"{self.root / empty[0]} holds no pictures; fill or remove that folder")
        if len(found) == 1:
            raise ValueError(f"{self.root} holds the one class {next(iter(found))!r}; give at least two class folders")
        self.class_names = list(found)
        self.paths = [path for paths in found.values() for path in paths]
        self.labels = torch.tensor([label for label, paths in enumerate(found.values()) for _ in paths])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path = self.paths[index]
        try:
            with Image.open(path) as file:
                picture = file.convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{path} cannot be read as a picture ({reason}); repair or remove it") from None
        square = TF.center_crop(TF.resize(picture, [self.image_size]), [self.image_size])
        return TF.pil_to_tensor(square), int(self.labels[index])

    def subset(self, indices: Tensor) -> "PictureFolder":
        """The pictures at `indices`, with the same classes."""
        part = copy(self)
        part.paths = [self.paths[i] for i in indices.tolist()]
        part.labels = self.labels[indices]
        return part


def picture_splits(
    root: str | Path, image_size: int, val_size: int | None, seed: int
) -> tuple[PictureFolder, PictureFolder | None, PictureFolder]:
    """Training, validation and test pictures of a folder.

    The folders root/train, root/val and root/test are taken as they are. Where there is no test folder, a tenth of
    the training pictures is split off (always the same); where there is no val folder, `val_size` of what is left.

    Args:
        root: holds train/CLASS/*.jpg (and val/..., test/...), or CLASS/*.jpg.
        image_size: side in pixels.
        val_size: pictures to validate on; None for a tenth or the val folder, 0 for none.
        seed: of the validation split.

    Raises:
        FileNotFoundError, NotADirectoryError, ValueError: as `PictureFolder`; if the parts have other classes, or if
            val_size says another number than the val folder holds.
    """
    top = _folder(root)
    parts = [name for name in ("train", "val", "test") if (top / name).is_dir()]
    if parts and "train" not in parts:
        raise FileNotFoundError(
            f"{top} holds {parts[0]}/ but no train/; add it, or rename {parts[0]}/ if it is a class"
        )
    train = PictureFolder(top / "train" if parts else top, image_size)
    val, test = (PictureFolder(top / name, image_size) if name in parts else None for name in ("val", "test"))
    for part in (val, test):
        if part is not None and part.class_names != train.class_names:
            odd = sorted(set(part.class_names) ^ set(train.class_names))
            raise ValueError(
                f"{train.root} and {part.root} must have the same class folders, but {odd[0]!r} is in one only; "
                "add or remove it"
            )
    if test is None:
        kept, taken = stratified_split(train.labels, tenth(train.labels), TEST_SEED)
        train, test = train.subset(kept), train.subset(taken)
    if val_size == 0:
        return train, None, test
    if val is None:
        size = tenth(train.labels) if val_size is None else val_size
        kept, taken = stratified_split(train.labels, size, seed, "val_size")
        train, val = train.subset(kept), train.subset(taken)
    elif val_size is not None and val_size != len(val):
        raise ValueError(
            f"{val.root} holds {len(val)} pictures, not val_size={val_size}; leave val_size out, or remove that folder"
        )
    return train, val, test


def tenth(labels: Tensor) -> int:
    """The size of a split when none is given: a tenth of the samples, and one of each class at least."""
    return max(len(labels) // 10, len(labels.unique()))


def _folder(root: str | Path) -> Path:
    folder = Path(root).expanduser()
    if not folder.exists():
        raise FileNotFoundError(f"the picture folder {folder} does not exist; set data.root to one that does")
    if not folder.is_dir():
        raise NotADirectoryError(f"data.root={folder} is a file; give the folder that holds the pictures")
    return folder


def _is_class(folder: Path) -> bool:
    return folder.is_dir() and not folder.name.startswith(".")


def _pictures(folder: Path) -> Sequence[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMG_EXTENSIONS and path.is_file())
