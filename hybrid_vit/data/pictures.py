"""Picture data sets: root/[train,val,test]/CLASS/*.jpg -> uint8 tensors of one size, decoded when asked for."""

import logging
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as TF

from hybrid_vit.augment import Draw, RandomResizedCrop
from hybrid_vit.data.decode import decode, square
from hybrid_vit.data.folders import LeftOut, class_folders, in_words, split_folders
from hybrid_vit.data.listing import listed_pictures
from hybrid_vit.data.split import split_by_name
from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.paths import composed, expanded

log = logging.getLogger(__name__)


class PictureFolder(Dataset[tuple[Tensor, int]]):
    """Pictures in one folder per class; item i is ((3, image_size, image_size) uint8, class index).

    A picture is decoded to RGB, its shorter side resized to image_size, and its centre cut out. Its class folder may
    hold folders in turn, and links. Hidden files and those of formats that Pillow does not read are left out.

    Args:
        root: folder of the class folders, whose sorted names are the classes.
        image_size: side in pixels.
        left_out: counts what is left out, by reason.
        found: the pictures of each class, if they are known already; they may lie elsewhere.
        tops: folders of the pictures, below which their names are taken; left out, root.

    Raises:
        FileNotFoundError: no such folder, or no pictures in it.
        NotADirectoryError: root is a file.
        UserError: fewer than two classes; when an item is asked for, a picture that cannot be read.
    """

    def __init__(
        self,
        root: str | Path,
        image_size: int,
        left_out: LeftOut | None = None,
        found: Mapping[str, Sequence[Path]] | None = None,
        tops: Sequence[Path] = (),
    ) -> None:
        self.root = _folder(root)
        self.tops = tops or [self.root]
        self.image_size = image_size
        found = class_folders(self.root, Counter() if left_out is None else left_out) if found is None else found
        self.class_names = [*found]
        self.paths = [path for paths in found.values() for path in paths]
        labels = [label for label, paths in enumerate(found.values()) for _ in paths]
        self.labels = torch.tensor(labels, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return square(decode(self.paths[index]), self.image_size), int(self.labels[index])

    def cropped(self, index: int, crop: RandomResizedCrop, seed: int) -> tuple[Tensor, int]:
        """As item `index`, but a box of the whole picture, which `crop` draws by `seed`, resized.

        Of a picture longer than `crop.ratio` it lies in a part of that ratio, which is drawn too: 80 % of a picture of
        16:9 have no box of 4:3, so that all of its crops would be the one in the middle.
        """
        picture, draw = decode(self.paths[index]), Draw(seed, 1)
        part = crop.largest(picture.height, picture.width)
        top, left, height, width = (int(side) for side in crop.boxes(draw, *part))
        top += int(draw.integers(picture.height - part[0] + 1))
        left += int(draw.integers(picture.width - part[1] + 1))
        square = TF.resized_crop(picture, top, left, height, width, [self.image_size] * 2)
        return TF.pil_to_tensor(square), int(self.labels[index])

    @property
    def names(self) -> list[str]:
        """The files' paths below `tops`, such as "cat/1.jpg", with "/" on every system."""
        return [name_below(path, *self.tops) for path in self.paths]

    def subset(self, indices: Tensor) -> "PictureFolder":
        """The pictures at `indices`, with the same classes."""
        part = copy(self)
        part.paths = [self.paths[i] for i in indices.tolist()]
        part.labels = self.labels[indices]
        return part


def picture_splits(
    root: str | Path, image_size: int, val_size: int | None, seed: int
) -> tuple[PictureFolder, PictureFolder | None, PictureFolder]:
    """Training, validation and test pictures of a folder or a CSV; logs which they are, and what is left out.

    The folders of root that are named train, val and test (or as `folders.SPLITS` says) are taken as they are. Where
    there is none for test, about a tenth of the training pictures is split off, always the same ones; where there is
    none for val, `val_size` of what is left. A picture's part depends on its own name, as `split_by_name` says.

    Args:
        root: holds train/CLASS/*.jpg (and val/..., test/...), or CLASS/*.jpg; or a CSV, as `listed_pictures` reads.
        image_size: side in pixels.
        val_size: pictures to validate on; None for about a tenth or the val folder, 0 for none.
        seed: of the validation split.

    Raises:
        FileNotFoundError, NotADirectoryError, UserError: as `PictureFolder` and `split_folders`; if the parts have
            other classes, or if val_size says another number than the val folder holds.
    """
    left_out = LeftOut()
    top = expanded(root)
    if top.is_file() and top.suffix.lower() == ".csv":
        listed = listed_pictures(top)
        tops = _tops(top.parent, [path for classes in listed.values() for paths in classes.values() for path in paths])
        parts = {name: PictureFolder(top.parent, image_size, found=found, tops=tops) for name, found in listed.items()}
        places = dict.fromkeys(parts, f"in {top.name}")
    else:
        top = _folder(root)
        folders = split_folders(top, left_out)
        parts = {name: PictureFolder(folder, image_size, left_out) for name, folder in folders.items()}
        places = {name: "" if folder == top else f"in {folder.name}/" for name, folder in folders.items()}
    train, val, test = parts["train"], parts.get("val"), parts.get("test")
    for part in (val, test):
        if part is not None and part.class_names != train.class_names:
            odd = sorted(set(part.class_names) ^ set(train.class_names))[0]
            has, lacks = (train, part) if odd in train.class_names else (part, train)
            raise UserError(
                f"{train.root} and {part.root} must have the same class folders, but {odd!r} is in {has.root} and not "
                f"in {lacks.root}; add or remove it, or list the pictures in a CSV, where only the training split must "
                "have every class"
            )
    if test is None:
        train, test = _split(train, None, "test")
        if not len(test):
            raise UserError(f"{train.root} has one picture in each class, so none to test on; add pictures")
    if val_size == 0:
        left_out["picture for validation"] += len(val or ())
        val = None
    elif val is None:
        train, val = _split(train, val_size, f"val {seed}")
        val = val if len(val) else None
    elif val_size is not None and val_size != len(val):
        raise UserError(
            f"{top} has {len(val)} pictures to validate on ({places['val']}), not data.val_size={val_size}; "
            "leave data.val_size out, or use 0 for none"
        )
    taken = []
    for name, use, part in (("train", "train", train), ("val", "validate", val), ("test", "test", test)):
        source = places.get(name, "split off the training pictures")
        taken.append(f"{len(part)} to {use} on{source and f' ({source})'}" if part else f"none to {use} on")
    log.info(
        "pictures of %s: %d classes, %s; left out: %s",
        *(top, len(train.class_names), ", ".join(taken), in_words(+left_out)),
    )
    return train, val, test


def name_below(path: Path, *tops: Path) -> str:
    """The path of a file below the first of `tops` that holds it, with "/" on every system; else the whole path."""
    top = next((top for top in tops if path.is_relative_to(top)), None)
    return composed((path.relative_to(top) if top else path).as_posix())


def check(paths: Sequence[Path], threads: int) -> None:
    """Decode every picture; says how far it is if it takes longer than some seconds.

    Raises:
        UserError: there are some that cannot be read.
    """

    def problem(path: Path) -> str | None:
        try:
            decode(path)
        except UserError as error:
            return str(error)
        return None

    problems, told = [], time.monotonic()
    with ThreadPoolExecutor(threads) as pool:
        for done, found in enumerate(pool.map(problem, paths)):
            problems += [found] if found else []
            if time.monotonic() - told > 10:
                told = time.monotonic()
                log.info("checking that all pictures can be read: %d of %d", done + 1, len(paths))
    if problems:
        more = f"; {len(problems) - 1} more of {len(paths)} cannot be read either" if problems[1:] else ""
        raise UserError(problems[0] + more)


def _split(whole: PictureFolder, size: int | None, stream: str) -> tuple[PictureFolder, PictureFolder]:
    kept, taken = split_by_name(whole.names, whole.labels, size, stream)
    return whole.subset(kept), whole.subset(taken)


def _tops(folder: Path, paths: Sequence[Path]) -> list[Path]:
    """Below which folders the files of a CSV are named: its own and, for others, the one that holds all of those."""
    tops = [folder, folder.absolute(), folder.resolve()]  # the CSV may be given by a relative path or a link
    elsewhere = [path.parent for path in paths if not any(path.is_relative_to(top) for top in tops)]
    return [*tops, Path(os.path.commonpath(elsewhere))] if elsewhere else tops


def _folder(root: str | Path) -> Path:
    folder = expanded(root)
    if not folder.exists():
        raise FileNotFoundError(f"the image folder {folder} does not exist; set data.root to one that does")
    if not folder.is_dir():
        raise NotADirectoryError(f"data.root={folder} is a file; give the folder that holds the pictures")
    return folder
