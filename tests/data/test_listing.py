"""A CSV of pictures: which rows are which split and class, and what is wrong with it in one sentence."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from data_modules import module
from PIL import Image

from hybrid_vit.data.listing import listed_pictures
from hybrid_vit.data.pictures import PictureFolder, picture_splits


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with images/0.png to 29.png, and another picture elsewhere."""
    folder = tmp_path / "set"
    (folder / "images").mkdir(parents=True)
    for i in range(30):
        Image.new("L", (5, 4), i).save(folder / "images" / f"{i}.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "other.png")
    return folder


def write(folder: Path, *lines: str) -> Path:
    path = folder / "list.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return path


def rows(split: str, numbers: range) -> list[str]:
    return [f"images/{i}.png,{'odd' if i % 2 else 'even'},{split}" for i in numbers]


def test_splits_and_classes_are_those_of_the_columns(pictures: Path, tmp_path: Path) -> None:
    other = f"{tmp_path / 'other.png'},even,train"
    listing = write(pictures, "path,label,split", *rows("train", range(20)), other, *rows("VALID", range(20, 24)),
                    *rows("test", range(24, 30)))  # fmt: skip
    train, val, test = picture_splits(listing, 4, None, seed=0)
    assert val is not None
    assert train.class_names == val.class_names == test.class_names == ["even", "odd"]
    assert (len(train), len(val), len(test)) == (21, 4, 6)
    assert sorted(test.names) == sorted(f"images/{i}.png" for i in range(24, 30))
    assert "other.png" in train.names
    for part in (val, test):
        assert [int(Path(name).stem) % 2 for name in part.names] == part.labels.tolist()
    image, label = test[0]
    assert image.shape == (3, 4, 4) and image.unique().tolist() == [24] and label == 0


def test_without_a_split_it_is_split_as_a_folder_is(pictures: Path, tmp_path: Path) -> None:
    root = tmp_path / "folder"
    labels = ["odd" if i % 2 else "even" for i in range(30)]
    for name in ("even", "odd"):
        (root / name).mkdir(parents=True)
    for i, label in enumerate(labels):
        shutil.copy(pictures / "images" / f"{i}.png", root / label)
    folder = [part.names for part in picture_splits(root, 4, None, seed=0) if part]
    listing = write(root, "label,path", *(f"{label},{label}/{i}.png" for i, label in enumerate(labels)))
    assert [part.names for part in picture_splits(listing, 4, None, seed=0) if part] == folder
    assert len(folder) == 3


def test_a_run_of_a_listing_has_a_fingerprint_that_does_not_depend_on_its_place(pictures: Path, tmp_path: Path) -> None:
    listing = write(pictures, "path,label,split", *rows("train", range(24)), *rows("test", range(24, 30)))
    shutil.copytree(pictures, tmp_path / "copy")
    settings = {"image_size": 4, "batch_size": 4, "val_size": None}
    one, other = (module("folder", path, **settings) for path in (listing, tmp_path / "copy" / "list.csv"))
    assert one.fingerprint() == other.fingerprint()
    assert one.sizes["test"] == 6 and one.class_names == ["even", "odd"]
    loaded = next(iter(one.test_dataloader()))
    assert loaded.images.shape == (6, 3, 4, 4)
    one.teardown("fit")


def test_the_split_of_files_elsewhere_does_not_depend_on_their_place(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there, listing = pictures / "images", tmp_path / "other" / "place" / "images", tmp_path / "lists" / "list.csv"
    shutil.copytree(here, there)
    listing.parent.mkdir()

    def names(images: Path, listing: Path) -> list[list[str]]:
        write(listing.parent, "path,label", *(f"{images / str(i)}.png,{'odd' if i % 2 else 'even'}" for i in range(30)))
        return [part.names for part in picture_splits(listing, 4, None, seed=0) if part]

    def fingerprint() -> dict[str, Any]:
        return module("folder", listing, image_size=4, batch_size=4, val_size=None).fingerprint()

    listed = names(here, listing)
    before = fingerprint()
    assert sorted(name for part in listed for name in part) == sorted(f"{i}.png" for i in range(30))
    assert names(there, listing) == listed and fingerprint() == before
    assert names(Path("..") / "set" / "images", listing) == listed and fingerprint() == before
    monkeypatch.chdir(pictures)
    own = Path("list.csv")
    assert names(here, own) == names(here, own.absolute()) == names(Path("images"), own)
    assert names(Path("images"), own) == names(Path("images"), Path("..") / "set" / "list.csv")


def test_a_class_may_be_absent_from_the_test_set(pictures: Path) -> None:
    listing = write(pictures, "path,label,split", *rows("train", range(10)), *rows("test", range(10, 11)))
    _, _, test = picture_splits(listing, 4, 0, seed=0)
    assert isinstance(test, PictureFolder) and test.labels.tolist() == [0] and test.class_names == ["even", "odd"]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["file,label", "images/0.png,a"], "has no column path; its first line must be path,label or path,label,split"),
        (["a,b"], "has no column label and no column path"),
        (["path,label", "images/0.png,a", "images/1.png,"], "line 3: it has no label; add it, or delete the row"),
        (["path,label,split", "images/0.png,a,later"], "line 2: split 'later' is unknown; use one of train, val, test"),
        (["path,label", "images/0.png,a", "images/0.png,b"], "images/0.png more than once"),
        (["path,label", "images/0.png,a", "images/../images/0.png,b"], "images/0.png more than once"),
        (["path,label", "images/0.png,a", "x.png,b", "y.png,b"], "x.png and 1 more, which cannot be found; paths are"),
        (["path,label", "images/0.png,a"], "lists 1 classes; list at least two"),
        (["path,label,split", "images/0.png,a,train", "images/1.png,b,test"], "no picture of class 'b' to train on"),
    ],
)
def test_what_is_wrong_is_one_sentence(pictures: Path, lines: list[str], said: str) -> None:
    with pytest.raises(ValueError) as caught:
        listed_pictures(write(pictures, *lines))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_no_text(pictures: Path) -> None:
    (pictures / "list.csv").write_bytes(b"\xff\xfe\x00,\x81")
    with pytest.raises(ValueError, match=r"list\.csv cannot be read as a CSV"):
        listed_pictures(pictures / "list.csv")
