"""Data sets that fit into memory: a name and a folder -> uint8 images and int64 labels as tensors.

A new data set is one function here that returns a `Source`, and its row in `SOURCES`.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from http.client import HTTPException
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import check_integrity, download_and_extract_archive
from torchvision.transforms.v2 import functional as TF

from hybrid_vit.data.medmnist import read_medmnist
from hybrid_vit.data.split import stratified_split
from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.files import Lock
from hybrid_vit.utils.paths import expanded

DIGITS_TEST_SHARE = 0.2
DIGITS_TEST_SEED = 0  # a constant: every run is tested on the same digits
JOINED = {"cifar110": ("cifar100", "cifar10")}  # data sets that consist of others


class Source(NamedTuple):
    """A data set: (N, 3, H, W) uint8 images in 0..255 and (N,) int64 labels, to train on and to test on.

    `val` has images and labels of its own to validate on, where the data set does. `parts` are the classes of each of
    the data sets that were joined.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    class_names: list[str]
    val: tuple[Tensor, Tensor] | None = None
    parts: Mapping[str, range] = MappingProxyType({})


def cifar100(root: str | Path | None) -> Source:
    """CIFAR-100 (Krizhevsky 2009): 50,000 + 10,000 images of 32x32 in 100 classes.

    Files that are there and whole are read without a network; where one is missing, the archive is downloaded.
    Nothing is unpickled before its md5 has been checked.

    Args:
        root: folder that holds, or is to hold, ``cifar-100-python/{train,test,meta}``.

    Raises:
        UserError: no root was given, or a file is truncated or altered.
        NotADirectoryError: root is a file.
        FileNotFoundError: the files are neither there nor to be downloaded.
    """
    return _cifar(CIFAR100, root)


def cifar10(root: str | Path | None) -> Source:
    """CIFAR-10: as `cifar100`, with 10 classes, in ``root/cifar-10-batches-py``."""
    return _cifar(CIFAR10, root)


def cifar110(root: str | Path | None) -> Source:
    """CIFAR-100 and CIFAR-10, joined: the 100 classes, then the 10, none of which has the name of one of the 100."""
    old, new = cifar100(root), cifar10(root)
    known, both = len(old.class_names), [*old.class_names, *new.class_names]
    return Source(
        torch.cat([old.train_images, new.train_images]),
        torch.cat([old.train_labels, new.train_labels + known]),
        torch.cat([old.test_images, new.test_images]),
        torch.cat([old.test_labels, new.test_labels + known]),
        both,
        parts=dict(zip(JOINED["cifar110"], (range(known), range(known, len(both))), strict=True)),
    )


def digits(root: str | Path | None = None) -> Source:
    """scikit-learn's 1,797 real handwritten digits of 8x8, enlarged to 32x32 RGB; 20 % are the test set.

    Args:
        root: not used, the digits come with scikit-learn.
    """
    from sklearn.datasets import load_digits  # slow to import, so only here

    data = load_digits()
    grey = torch.from_numpy(data.images).float()[:, None] * (255 / 16)  # (N, 1, 8, 8) in 0..16 -> 0..255
    images = F.interpolate(grey, size=(32, 32), mode="bilinear").round().to(torch.uint8).repeat(1, 3, 1, 1)
    labels = torch.from_numpy(data.target).long()
    train, test = stratified_split(labels, int(DIGITS_TEST_SHARE * len(labels)), DIGITS_TEST_SEED)
    names = [str(name) for name in data.target_names]
    return Source(images[train], labels[train], images[test], labels[test], names)


def medmnist(root: str | Path | None) -> Source:
    """A file of MedMNIST, such as pneumoniamnist.npz, with its own validation images; `read_medmnist` says more."""
    splits, names = read_medmnist(root)
    return Source(*splits["train"], *splits["test"], names, val=splits["val"])


SOURCES: dict[str, Callable[[str | Path | None], Source]] = {
    "cifar100": cifar100,
    "cifar10": cifar10,
    "cifar110": cifar110,
    "digits": digits,
    "medmnist": medmnist,
}


def load_source(name: str, root: str | Path | None) -> Source:
    """The data set called `name`.

    Raises:
        UserError: there is none of that name; and what the data set itself raises.
    """
    if name not in SOURCES:
        known = [*SOURCES, "folder"]
        nearest = get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise UserError(f"there is no data set {name!r}; did you mean {nearest!r}? ({', '.join(known)})")
    return SOURCES[name](root)


def at_hand(name: str, root: str | Path | None) -> bool:
    """Whether the data set called `name` needs no download."""
    downloaded = {"cifar100": CIFAR100, "cifar10": CIFAR10}
    kinds = [downloaded[part] for part in JOINED.get(name, (name,)) if part in downloaded]
    if root is None:
        return not kinds
    files = [
        Path(kind.base_folder) / file
        for kind in kinds
        for file in (*(file for file, _ in [*kind.train_list, *kind.test_list]), kind.meta["filename"])
    ]
    return all((expanded(root) / file).exists() for file in [Path(), *files])


def resized(images: Tensor, size: int) -> Tensor:
    """(N, 3, h, w) uint8 -> (N, 3, size, size) uint8: bilinear and antialiased, as the pictures of a folder are."""
    if images.shape[-2:] == (size, size):
        return images.contiguous()
    made = images.new_empty((len(images), 3, size, size))  # parts to be joined would take this memory twice
    for part, place in zip(images.split(1000), made.split(1000), strict=True):
        place.copy_(TF.resize(part, [size, size], antialias=True))
    return made


def _cifar(kind: type[CIFAR10], root: str | Path | None) -> Source:
    if root is None:
        raise UserError(f"{kind.__name__} needs a directory; set data.root")
    folder = expanded(root)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"data.root={root} is a file; give the folder that holds {kind.base_folder}/")
    _fetch_missing(kind, folder)
    train, test = kind(folder, train=True), kind(folder, train=False)
    return Source(*_tensors(train), *_tensors(test), list(train.classes))


def _fetch_missing(kind: type[CIFAR10], root: Path) -> None:
    """Afterwards every file of the data set is there with the right md5."""
    checksums = dict([*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])])
    folder = root / kind.base_folder

    def missing() -> list[str]:
        return [name for name in checksums if not (folder / name).exists()]

    lock = root / f".{kind.base_folder}.lock"
    if (first := missing()) or not Lock(lock).free():  # another process may be extracting the last file
        made = not root.exists()
        try:
            root.mkdir(parents=True, exist_ok=True)
            with Lock(lock):
                if missing():  # else another process has downloaded it meanwhile
                    # Checks the archive's md5 before it extracts: a half download is not taken for it.
                    download_and_extract_archive(kind.url, str(root), filename=kind.filename, md5=kind.tgz_md5)
        except (OSError, HTTPException, RuntimeError) as error:
            if made:
                (root / kind.filename).unlink(missing_ok=True)
                lock.unlink(missing_ok=True)
                with suppress(OSError):  # something else is there, or nothing
                    root.rmdir()
            raise FileNotFoundError(
                f"{folder / first[0] if first else folder} is not there and {kind.url} cannot be downloaded "
                f"({_first_line(error)}); put the files at {folder}/{{{','.join(checksums)}}}; experiment=quickstart "
                "trains without a download"
            ) from None
    for name, md5 in checksums.items():
        if not check_integrity(folder / name, md5):
            raise UserError(
                f"{folder / name} is truncated or altered (its md5 differs); delete it to download it again"
            )


def _tensors(dataset: CIFAR10) -> tuple[Tensor, Tensor]:
    images = torch.from_numpy(dataset.data).permute(0, 3, 1, 2).contiguous()
    return images, torch.tensor(dataset.targets)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
