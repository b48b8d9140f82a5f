"""Folders of pictures: which folder is which split, which files are pictures, and what is left out for which reason."""

import os
import re
from collections import Counter, deque
from pathlib import Path

from hybrid_vit.data.decode import readable_suffixes
from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.paths import composed

SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
# Such as train_images or test-set.
ALMOST = re.compile(r"(?i)(train|training|val|valid|validation|dev|test|testing)[^a-z]")
# What systems and programs add: archives of macOS, previews of Windows and Synology, the check of a file system.
SYSTEM = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "lost+found"}

LeftOut = Counter[str]  # reason -> number of files or folders


def split_folders(top: Path, left_out: LeftOut) -> dict[str, Path]:
    """The folder of each split in `top`: "train" and, if they are there, "val" and "test".

    The names are those of `SPLITS` in any case. Where there is none of them, `top` itself holds the classes.

    Raises:
        FileNotFoundError: there is a folder for val or test and none for train.
        UserError: two folders for one split, or a folder of pictures beside the splits.
    """
    found: dict[str, Path] = {}
    others = []
    for folder in _folders(top):
        split = split_of(folder.name)
        if split is None:
            others.append(folder)
        elif split in found:
            raise UserError(
                f"{top} holds {found[split].name}/ and {folder.name}/, two folders for one split; "
                "keep one of them, or put both together"
            )
        else:
            found[split] = folder
    if not found:
        names = [folder.name for folder in others]
        if names and all(ALMOST.match(name) for name in names):
            raise UserError(
                f"{top} holds {', '.join(sorted(names))}, which may be splits or classes; name splits train, val and "
                "test, or give the classes other names"
            )
        return {"train": top}
    if "train" not in found:
        name = next(iter(found.values())).name
        raise FileNotFoundError(f"{top} holds {name}/ but no train/; add it, or rename {name}/ if it is a class")
    for folder in others:
        if pictures_in(folder, Counter()):
            raise UserError(
                f"{top} holds {found['train'].name}/, a split, beside {folder.name}/, which may be a class; "
                f"move {folder.name}/ elsewhere, or rename {found['train'].name}/ if it is a class"
            )
        left_out["folder without pictures"] += 1
    _plain_files(top, left_out)
    return {split: found[split] for split in SPLITS if split in found}


def split_of(name: str) -> str | None:
    """The split that a folder's name stands for, in any case."""
    return next((split for split, names in SPLITS.items() if name.lower() in names), None)


def class_folders(folder: Path, left_out: LeftOut) -> dict[str, list[Path]]:
    """The pictures of each class: the sorted names of the folders in `folder` -> their sorted files.

    Raises:
        FileNotFoundError: there are no pictures, or none in one of the folders.
        UserError: fewer than two classes, or folders that hold nothing but folders named like splits.
    """
    outside, classes = _plain_files(folder, left_out), _folders(folder)
    for path in classes:
        inside = [inner.name for inner in path.iterdir() if not _unwanted(inner.name)]
        if inside and all(map(split_of, inside)):
            raise UserError(
                f"{path} holds nothing but {', '.join(f'{name}/' for name in sorted(inside))}, which look like splits; "
                f"set data.root={path} if it is the data set, or put the splits above the classes: train/CLASS/1.jpg"
            )
    found, skipped = {}, {}
    for path in classes:
        skipped[path.name] = LeftOut()
        found[path.name] = pictures_in(path, skipped[path.name])
        left_out.update(skipped[path.name])
    if not any(found.values()):
        pictures = sum(path.suffix.lower() in readable_suffixes() for path in outside)
        raise FileNotFoundError(
            f"{folder} holds {f'{pictures} pictures, but none in a class folder' if pictures else 'no pictures'}"
            f"{without(sum(skipped.values(), LeftOut()))}; give a folder with one folder per class, such as "
            f"{folder / 'cat' / '1.jpg'}"
        )
    empty = [name for name, paths in found.items() if not paths]
    if empty:
        raise FileNotFoundError(
            f"{folder / empty[0]} holds no pictures{without(skipped[empty[0]])}; fill or remove that folder"
        )
    if len(found) == 1:
        raise UserError(f"{folder} holds the one class {next(iter(found))!r}; give at least two class folders")
    # Folders are named in UTF-8 by all common systems, whatever the locale of this process says.
    named = {composed(os.fsencode(name).decode("utf-8", "replace")): paths for name, paths in found.items()}
    named = dict(sorted(named.items()))
    if len(named) < len(found):
        raise UserError(f"{folder} holds class folders whose names cannot be told apart in UTF-8; rename them")
    return named


def pictures_in(folder: Path, left_out: LeftOut) -> list[Path]:
    """The sorted picture files below `folder`, also in linked folders; each folder is read once."""
    found: list[Path] = []
    read: set[tuple[int, int]] = set()
    here = folder.resolve()
    waiting, linked = deque([folder]), deque[Path]()
    while waiting or linked:  # links come last, so that a picture's name does not depend on the links to its folder
        current = (waiting or linked).popleft()
        try:
            status, entries = current.stat(), sorted(os.scandir(current), key=lambda entry: entry.name)
        except OSError:
            left_out["unreadable folder"] += 1
            continue
        if (status.st_dev, status.st_ino) in read or (current != folder and here.is_relative_to(current.resolve())):
            left_out["link to a folder that is read already"] += 1
            continue
        read.add((status.st_dev, status.st_ino))
        for entry in entries:
            path = current / entry.name
            try:
                is_folder, is_file = entry.is_dir(), entry.is_file()
            except OSError:  # a ring of links, or a link to where this user may not look
                is_folder = is_file = False
            reason = _unwanted(entry.name)
            if reason:
                left_out[reason] += 1
            elif is_folder:
                (linked if entry.is_symlink() else waiting).append(path)
            elif not is_file:
                left_out["broken link or special file"] += 1
            elif has_readable_suffix(path, left_out):
                found.append(path)
    return sorted(found)


def has_readable_suffix(path: Path, left_out: LeftOut) -> bool:
    """Whether a file is a picture by its suffix; any other is counted in `left_out`."""
    suffix = path.suffix.lower()
    if suffix in readable_suffixes():
        return True
    left_out[f"{suffix} file" if suffix else "file without a suffix"] += 1
    return False


def in_words(left_out: LeftOut) -> str:
    """'2 x hidden, 1 x .txt file', or 'nothing'."""
    return ", ".join(f"{count} x {reason}" for reason, count in sorted(left_out.items())) or "nothing"


def without(left_out: LeftOut) -> str:
    """' (left out: 2 x .heic file)', or nothing."""
    return f" (left out: {in_words(left_out)})" if +left_out else ""


def _plain_files(folder: Path, left_out: LeftOut) -> list[Path]:
    """What lies in `folder` beside its folders; all of it is left out."""
    files = []
    for path in folder.iterdir():
        reason = _unwanted(path.name)
        if reason is None and not path.is_dir():
            files.append(path)
            reason = "file outside the class folders"
        if reason:
            left_out[reason] += 1
    return files


def _folders(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and not _unwanted(path.name)]


def _unwanted(name: str) -> str | None:
    """Why a file or folder of that name is left out, if it is."""
    if name.startswith("."):
        return "hidden"
    return "made by the system" if name.lower() in SYSTEM else None
