"""Folder layouts: what is taken for a split, a class or a picture, and that nothing vanishes without a word."""

import errno
import logging
import os
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from hybrid_vit.data.folders import SPLITS, in_words, pictures_in, split_folders
from hybrid_vit.data.pictures import picture_splits


def fill(*folders: Path, number: int = 3) -> None:
    """Put pictures into folders."""
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(number):
            Image.new("RGB", (4, 4)).save(folder / f"{i}.png")


def sentence(kind: type[Exception], root: Path) -> str:
    with pytest.raises(kind) as caught:
        picture_splits(root, 4, None, seed=0)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("change", [str.lower, str.upper, str.title])
def test_usual_names_in_any_case(tmp_path: Path, split: str, change: object) -> None:
    assert callable(change)
    for name in SPLITS[split]:
        root = tmp_path / name
        folder = root / change(name)
        fill(folder / "cat", folder / "dog")
        if split != "train":
            fill(root / "train" / "cat", root / "train" / "dog", number=9)
        parts = dict(zip(SPLITS, picture_splits(root, 4, None, seed=0), strict=True))
        part = parts[split]
        assert part is not None and part.class_names == ["cat", "dog"]
        assert {path.relative_to(root).parts[0] for path in part.paths} == {folder.name}
        assert split == "train" or len(part) == 6  # all of its own pictures


def test_one_line_says_what_was_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path / "Training" / "cat", tmp_path / "Training" / "dog", number=50)
    fill(tmp_path / "valid" / "cat", tmp_path / "valid" / "dog", number=2)
    (tmp_path / "Training" / "cat" / ".ipynb_checkpoints").mkdir()
    fill(tmp_path / "Training" / "cat" / ".ipynb_checkpoints")
    for name in ("Training/cat/._0.png", "Training/.DS_Store", "valid/dog/Thumbs.db", ".hidden", "README.txt"):
        (tmp_path / name).write_bytes(b"?")
    for name in ("Training/cat/notes.txt", "Training/dog/labels.CSV", "Training/dog/more.csv", "Training/dog/LICENSE"):
        (tmp_path / name).write_bytes(b"?")
    fill(tmp_path / "__MACOSX" / "cat")
    (tmp_path / "annotations").mkdir()
    os.symlink(tmp_path / "nowhere", tmp_path / "Training" / "cat" / "broken.png")
    with caplog.at_level(logging.INFO, "hybrid_vit"):
        train, _, test = picture_splits(tmp_path, 4, None, seed=0)
    assert len(train) + len(test) == 100
    assert [record.getMessage() for record in caplog.records] == [
        f"pictures of {tmp_path}: 2 classes, {len(train)} to train on (in Training/), 4 to validate on (in valid/), "
        f"{len(test)} to test on (split off the training pictures); left out: 2 x .csv file, 1 x .txt file, "
        "1 x broken link or special file, 1 x file outside the class folders, 1 x file without a suffix, "
        "1 x folder without pictures, 4 x hidden, 2 x made by the system"
    ]


def test_line_of_a_folder_where_all_is_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("train", "val", "test"):
        fill(tmp_path / name / "cat", tmp_path / name / "dog", number=2)
    with caplog.at_level(logging.INFO, "hybrid_vit"):
        picture_splits(tmp_path, 4, None, seed=0)
        picture_splits(tmp_path, 4, 0, seed=0)
    own = "4 to test on (in test/); left out"
    assert [record.getMessage().partition(": 2 classes, ")[2] for record in caplog.records] == [
        f"4 to train on (in train/), 4 to validate on (in val/), {own}: nothing",
        f"4 to train on (in train/), none to validate on, {own}: 4 x picture for validation",
    ]


def test_line_of_a_folder_without_splits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path / "cat", tmp_path / "dog", number=2)
    with caplog.at_level(logging.INFO, "hybrid_vit"):
        picture_splits(tmp_path, 4, None, seed=0)
    assert caplog.messages == [
        f"pictures of {tmp_path}: 2 classes, 2 to train on, none to validate on, "
        "2 to test on (split off the training pictures); left out: nothing"
    ]


def test_unclear_layouts_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "two"
    fill(root / "Train" / "a", root / "training" / "a")
    assert sentence(ValueError, root) == (
        f"{root} holds Train/ and training/, two folders for one split; keep one of them, or put both together"
    )
    root = tmp_path / "beside"
    fill(root / "train" / "a", root / "train" / "b", root / "cat")
    assert sentence(ValueError, root) == (
        f"{root} holds train/, a split, beside cat/, which may be a class; "
        "move cat/ elsewhere, or rename train/ if it is a class"
    )
    root = tmp_path / "almost"
    fill(root / "train_images" / "a", root / "Test-set" / "a")
    assert sentence(ValueError, root) == (
        f"{root} holds Test-set, train_images, which may be splits or classes; name splits train, val and test, "
        "or give the classes other names"
    )
    root = tmp_path / "no_train"
    fill(root / "Dev" / "a", root / "cat")
    assert sentence(FileNotFoundError, root) == (
        f"{root} holds Dev/ but no train/; add it, or rename Dev/ if it is a class"
    )
    root = tmp_path / "no_classes"
    fill(root / "Training", root / "Testing")
    assert sentence(FileNotFoundError, root) == (
        f"{root / 'Training'} holds 3 pictures, but none in a class folder; "
        f"give a folder with one folder per class, such as {root / 'Training' / 'cat' / '1.jpg'}"
    )
    root = tmp_path / "classes_first"
    fill(root / "cat" / "train", root / "cat" / "Test", root / "dog" / "train", root / "dog" / "Test")
    assert sentence(ValueError, root) == (
        f"{root / 'cat'} holds nothing but Test/, train/, which look like splits; set data.root={root / 'cat'} "
        "if it is the data set, or put the splits above the classes: train/CLASS/1.jpg"
    )
    root = tmp_path / "one_too_deep"
    fill(root / "data" / "train" / "a", root / "data" / "train" / "b")
    assert f"set data.root={root / 'data'} if it is the data set" in sentence(ValueError, root)


def test_linked_folders_are_read_once(tmp_path: Path) -> None:
    cat, elsewhere = tmp_path / "root" / "cat", tmp_path / "elsewhere"
    fill(cat / "real", elsewhere)
    os.symlink(elsewhere, cat / "a link")
    os.symlink(cat / "real", cat / "again")  # before "real" in the alphabet
    os.symlink(cat, cat / "itself")
    os.symlink(tmp_path, cat / "above")
    os.symlink(cat / "ring", cat / "ring")
    os.symlink(elsewhere / "0.png", cat / "0.png")
    left_out: Counter[str] = Counter()
    found = pictures_in(cat, left_out)
    assert [path.relative_to(cat).as_posix() for path in found] == [
        *("0.png", "a link/0.png", "a link/1.png", "a link/2.png", "real/0.png", "real/1.png", "real/2.png")
    ]
    assert left_out == {"link to a folder that is read already": 3, "broken link or special file": 1}
    assert in_words(left_out) == "1 x broken link or special file, 3 x link to a folder that is read already"


def test_an_unreadable_folder_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> object:
        if folder.name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return scandir(folder)

    scandir = os.scandir
    fill(tmp_path / "cat" / "locked", tmp_path / "cat" / "open")
    monkeypatch.setattr(os, "scandir", refuse)  # root may read every folder
    left_out: Counter[str] = Counter()
    assert pictures_in(tmp_path / "cat", left_out) == [tmp_path / "cat" / "open" / f"{i}.png" for i in range(3)]
    assert in_words(left_out) == "1 x unreadable folder"


def test_hidden_and_system_folders_are_no_classes(tmp_path: Path) -> None:
    fill(tmp_path / "cat", tmp_path / "dog", tmp_path / "__MACOSX" / "cat", tmp_path / ".ipynb_checkpoints", number=20)
    assert split_folders(tmp_path, Counter()) == {"train": tmp_path}
    train, _, _ = picture_splits(tmp_path, 4, 0, seed=0)
    assert train.class_names == ["cat", "dog"]


def test_a_hidden_folder_above_the_root_does_not_matter(tmp_path: Path) -> None:
    root = tmp_path / ".cache" / "pictures"
    fill(root / "cat", root / "dog", number=20)
    train, _, test = picture_splits(root, 4, 0, seed=0)
    assert len(train) + len(test) == 40
