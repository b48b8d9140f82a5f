"""The fingerprint of a data module tells whether a run continues on the data that it began with."""

import json
import shutil
from pathlib import Path
from typing import Any

from data_modules import module
from PIL import Image
from torch.utils.data import TensorDataset

from hybrid_vit.data.module import changes
from hybrid_vit.data.pictures import PictureFolder


def copy_of(root: Path, to: Path) -> tuple[Path, dict[str, Any]]:
    shutil.copytree(root, to)
    return to, fingerprint(to)


def fingerprint(root: Path) -> dict[str, Any]:
    found = module("folder", root, image_size=16, val_size=None, batch_size=8, check=False).fingerprint()
    assert json.loads(json.dumps(found)) == found
    return found


def test_fingerprint_of_a_folder(picture_root: Path, tmp_path: Path) -> None:
    root, before = copy_of(picture_root, tmp_path / "a")
    assert changes(before, fingerprint(root)) == changes(before, fingerprint(picture_root)) == []
    for i in range(7):
        shutil.copy(root / "cat" / "0.png", root / "cat" / f"new {i}.png")
    grown = fingerprint(root)
    more = {key: grown[key]["images"] - before[key]["images"] for key in ("train", "val", "test")}
    kinds = {"train": "training", "val": "validation", "test": "test"}
    assert sum(more.values()) == 7 and more["train"] > 1
    found = changes(before, grown)
    assert f"{more['train']} more training images" in found and len(found) == sum(n > 0 for n in more.values())
    assert f"{more['train']} fewer training images" in changes(grown, before)
    assert all(any(kinds[key] in text for text in found) == (n > 0) for key, n in more.items())

    root, before = copy_of(picture_root, tmp_path / "b")  # cat and dog swapped
    for old, new in (("cat", "x"), ("dog", "cat"), ("x", "dog")):
        (root / old).rename(root / new)
    assert changes(before, fingerprint(root)) != []

    root, before = copy_of(picture_root, tmp_path / "c")  # renamed
    (root / "cat").rename(root / "zebra")
    assert changes(before, fingerprint(root))[0] == "other classes (without cat; with zebra)"

    root, before = copy_of(picture_root, tmp_path / "d")  # exchanged for others
    for name in ("cat", "dog", "eel"):
        (root / name).rename(root / f"{name}fish")
    assert changes(before, fingerprint(root))[0] == (
        "other classes (without cat, dog, eel; with catfish, dogfish, eelfish)"
    )

    root, before = copy_of(picture_root, tmp_path / "e")  # one file of another size
    data = module("folder", root, image_size=16, val_size=None, batch_size=8)
    part = data._parts["train"]
    assert isinstance(part, PictureFolder)
    with part.paths[3].open("ab") as file:
        file.write(b"1")
    assert changes(before, fingerprint(root)) == ["other training images, as many as before"]


def test_the_fingerprint_of_a_folder_knows_what_is_in_files_of_one_size(tmp_path: Path) -> None:
    for name, grey in (("cat", 10), ("dog", 200)):
        (tmp_path / "before" / name).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (9, 9), (grey, i, 0)).save(tmp_path / "before" / name / f"{i}.bmp")
    shutil.copytree(tmp_path / "before", tmp_path / "after")
    cat, dog = (tmp_path / "after" / name for name in ("cat", "dog"))
    cat.rename(tmp_path / "aside")
    dog.rename(cat)
    (tmp_path / "aside").rename(dog)
    before, after = (fingerprint(tmp_path / name) for name in ("before", "after"))
    assert before["train"]["sha256"] == after["train"]["sha256"]  # names, sizes and labels
    assert "other training images, as many as before" in changes(before, after)
    for each in before.values():
        if isinstance(each, dict):
            each.pop("heads")  # as an older version wrote it
    assert changes(before, after) == []


def test_fingerprint_of_tensors(small_cifar_root: Path) -> None:
    data = module(root=small_cifar_root)
    before = data.fingerprint()
    assert [before[key]["images"] for key in ("train", "val", "test")] == [900, 100, 200]
    assert changes(before, module(root=small_cifar_root).fingerprint()) == []
    assert changes(before, module(root=small_cifar_root, seed=1).fingerprint()) == [
        "other training images, as many as before",
        "other validation images, as many as before",
    ]
    assert changes(before, module(root=small_cifar_root, val_size=0).fingerprint()) == [
        "100 more training images",
        "100 fewer validation images",
    ]
    for change in ("images", "labels"):
        other = module(root=small_cifar_root)
        part = other._parts["test"]
        assert isinstance(part, TensorDataset)
        images, labels = part.tensors
        if change == "images":
            images[0, 0, 0, 0].bitwise_xor_(1)
        else:
            labels[:2] = labels[:2].flip(0)
        assert changes(before, other.fingerprint()) == ["other test images, as many as before"], change


def test_changes_in_words() -> None:
    before = {"class_names": ["a", "b"], "train": {"images": 5, "sha256": "x"}}
    assert changes(before, before | {"class_names": ["b", "a"]}) == ["other classes (in another order)"]
    assert changes(before, before | {"class_names": ["a", "b", *"cdefgh"]}) == [
        "other classes (with c, d, e, f, g, ...)"
    ]
    assert changes(before, before | {"train": {"images": 4, "sha256": "y"}}) == ["1 fewer training image"]
