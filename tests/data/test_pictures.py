"""Picture folders: what is decoded, how the parts are made, and which sentence a wrong folder gets."""

import logging
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as TF

from hybrid_vit.augment import Draw, RandomResizedCrop
from hybrid_vit.data import pictures
from hybrid_vit.data.decode import decode
from hybrid_vit.data.pictures import PictureFolder, check, picture_splits
from hybrid_vit.utils.errors import UserError


def save(path: Path, colour: tuple[int, int, int] = (9, 8, 7), size: tuple[int, int] = (8, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def test_items_are_square_rgb_with_the_label_of_their_folder(picture_root: Path) -> None:
    pictures = PictureFolder(picture_root, 16)
    assert len(pictures) == 45
    assert pictures.class_names == ["cat", "dog", "eel"]
    for i in (0, 1, 2, 3, 44):
        image, label = pictures[i]
        assert image.shape == (3, 16, 16) and image.dtype == torch.uint8
        assert pictures.class_names[label] == pictures.paths[i].parent.name
    assert torch.bincount(pictures.labels).tolist() == [20, 15, 10]


def test_shorter_side_is_resized_and_the_centre_cut_out(tmp_path: Path) -> None:
    stripes = np.zeros((10, 40, 3), np.uint8)
    stripes[:, :15], stripes[:, 15:25], stripes[:, 25:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    (tmp_path / "a").mkdir()
    Image.fromarray(stripes).save(tmp_path / "a" / "wide.png")
    save(tmp_path / "b" / "tall.png", (1, 2, 3), (10, 50))
    pictures = PictureFolder(tmp_path, 10)
    assert pictures[0][0][:, 5, 5].tolist() == [0, 255, 0]
    assert pictures[0][0].permute(1, 2, 0).numpy().tolist() == stripes[:, 15:25].tolist()
    assert pictures[1][0].flatten(1).unique(dim=1).flatten().tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("size", "part"), [((60, 20), (27, 20)), ((20, 60), (20, 27)), ((20, 20), (20, 20)), ((24, 20), (24, 20))]
)
@pytest.mark.parametrize("scale", [(0.1, 0.3), (0.8, 1.0)])
def test_a_random_crop_is_torchvisions_anywhere_in_the_picture(
    tmp_path: Path, size: tuple[int, int], part: tuple[int, int], scale: tuple[float, float]
) -> None:
    noise = np.random.default_rng(0).integers(256, size=(size[1], size[0], 3), dtype=np.uint8)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(noise).save(tmp_path / name / "1.png")
    folder, crop, seen = PictureFolder(tmp_path, 12), RandomResizedCrop(scale=scale), np.zeros(noise.shape[:2], bool)
    for seed in range(60):
        draw = Draw(seed, 1)
        top, left, height, width = (int(side) for side in crop.boxes(draw, part[1], part[0]))
        top, left = (int(side + draw.integers(whole - of + 1)) for side, whole, of in
                     ((top, size[1], part[1]), (left, size[0], part[0])))  # fmt: skip
        image, label = folder.cropped(1, crop, seed)
        expected = TF.resized_crop(Image.fromarray(noise), top, left, height, width, [12, 12])
        assert image.equal(TF.pil_to_tensor(expected)) and label == 1
        seen[top : top + height, left : left + width] = True
    assert seen.mean() > 0.6, "of a picture of 3:1 the square in the middle is a third"


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(tmp_path / name / "deeper" / "1.JPG")
        (tmp_path / name / "notes.txt").write_text("")
    save(tmp_path / ".cache" / "1.jpg")
    save(tmp_path / "cover.jpg")
    pictures = PictureFolder(tmp_path, 8)
    assert pictures.class_names == ["a", "b"] and len(pictures) == 2


@pytest.mark.parametrize("content", [b"", b"not a picture", "half"])
def test_unreadable_picture_is_named(tmp_path: Path, content: bytes | str) -> None:
    save(tmp_path / "a" / "1.png", size=(64, 64))
    save(tmp_path / "b" / "1.png")
    bad = tmp_path / "a" / "1.png"
    bad.write_bytes(bad.read_bytes()[:-60] if isinstance(content, str) else content)
    with pytest.raises(ValueError) as caught:
        PictureFolder(tmp_path, 8)[0]
    sentence = str(caught.value)
    assert sentence.startswith(f"{bad} cannot be read as an image (") and sentence.endswith("; repair or remove it")
    assert "\n" not in sentence and caught.value.__suppress_context__


def test_a_picture_of_too_many_pixels_is_not_called_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "large.png", size=(64, 64))
    with pytest.raises(UserError, match=r"64 x 64 pixels, more than 0\.004 million\); make it smaller"):
        decode(tmp_path / "large.png", max_pixels=4000)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)  # Pillow refuses twice as many
    with pytest.raises(UserError, match=r"large\.png cannot be read .*4096.*; make it smaller"):
        decode(tmp_path / "large.png")


def test_wrong_folders(tmp_path: Path) -> None:
    def sentence(kind: type[Exception], root: Path) -> str:
        with pytest.raises(kind) as caught:
            PictureFolder(root, 8)
        return str(caught.value)

    absent = tmp_path / "absent"
    assert sentence(FileNotFoundError, absent) == (
        f"the image folder {absent} does not exist; set data.root to one that does"
    )
    file = tmp_path / "file"
    file.write_text("")
    assert sentence(NotADirectoryError, file) == f"data.root={file} is a file; give the folder that holds the pictures"
    empty = tmp_path / "empty"
    (empty / "cat").mkdir(parents=True)
    assert sentence(FileNotFoundError, empty) == (
        f"{empty} holds no pictures; give a folder with one folder per class, such as {empty / 'cat' / '1.jpg'}"
    )
    (empty / "cat" / "1.HEIC").write_text("")
    assert f"{empty} holds no pictures (left out: 1 x .heic file); give" in sentence(FileNotFoundError, empty)
    one = tmp_path / "one"
    save(one / "cat" / "1.jpg")
    assert sentence(ValueError, one) == f"{one} holds the one class 'cat'; give at least two class folders"
    (one / "dog").mkdir()
    assert sentence(FileNotFoundError, one) == f"{one / 'dog'} holds no pictures; fill or remove that folder"


def test_flat_folder_gives_a_tenth_each_and_always_the_same_test_pictures(picture_root: Path) -> None:
    train, val, test = picture_splits(picture_root, 16, None, seed=1)
    assert val is not None
    assert (len(train), len(val), len(test)) == (32, 5, 8)  # 45 pictures, each by the hash of its name
    paths = [*train.paths, *val.paths, *test.paths]
    assert sorted(paths) == sorted(PictureFolder(picture_root, 16).paths)
    for part in (train, val, test):
        assert part.labels.unique().tolist() == [0, 1, 2]
        assert [part.class_names[label] for label in part.labels] == [path.parent.name for path in part.paths]
    _, other, same = picture_splits(picture_root, 16, None, seed=2)
    assert other is not None
    assert same.paths == test.paths and other.paths != val.paths


def test_val_size_of_a_flat_folder(picture_root: Path) -> None:
    train, val, test = picture_splits(picture_root, 16, 9, seed=1)
    assert val is not None
    assert (len(train), len(val), len(test)) == (28, 9, 8)
    train, val, test = picture_splits(picture_root, 16, 0, seed=1)
    assert val is None and (len(train), len(test)) == (37, 8)
    with pytest.raises(ValueError) as caught:
        picture_splits(picture_root, 16, 2, seed=1)
    assert str(caught.value) == (
        "data.val_size=2 cannot hold one image of each of 3 classes; use at least 3, or 0 for no split"
    )


def touch(root: Path, counts: dict[str, int]) -> None:
    """Files that are named like pictures, in class folders."""
    for name, count in counts.items():
        (root / name).mkdir()
        for i in range(count):
            (root / name / f"{i}.png").touch()


def parts(root: Path, val_size: int | None = None) -> dict[str, str]:
    """Where each file is: "train", "val" or "test"."""
    found = zip(("train", "val", "test"), picture_splits(root, 16, val_size, seed=0), strict=True)
    return {name: part for part, pictures in found if pictures is not None for name in pictures.names}


def test_a_new_or_deleted_picture_moves_no_other(tmp_path: Path) -> None:
    """The number of pictures once drew all splits anew: six of seven tested on had been trained on."""
    touch(tmp_path, {"cat": 40, "dog": 30})
    before = parts(tmp_path)
    assert set(before.values()) == {"train", "val", "test"}
    deleted = 0
    for name in before:
        held = [n for n, part in before.items() if part != "train" and n.split("/")[0] == name.split("/")[0]]
        if len(held) <= 4:
            continue
        (tmp_path / name).unlink()
        now = parts(tmp_path)
        assert now == {other: part for other, part in before.items() if other != name}
        (tmp_path / name).touch()
        deleted += 1
    assert deleted >= 30
    for i in range(100):
        new = tmp_path / ("cat" if i % 2 else "dog") / f"new {i}.png"
        new.touch()
        now = parts(tmp_path)
        assert {name: now[name] for name in before} == before
        before = now
    assert 9 < list(before.values()).count("test") < 26  # a tenth of 170 and four standard deviations


def test_a_split_of_a_given_size_stays_almost_the_same(tmp_path: Path) -> None:
    touch(tmp_path, {"cat": 40, "dog": 30})
    before = parts(tmp_path, 20)
    for i in range(50):
        new = tmp_path / ("cat" if i % 2 else "dog") / f"new {i}.png"
        new.touch()
        now = parts(tmp_path, 20)
        assert list(now.values()).count("val") == 20
        assert sum(now[name] != before[name] for name in before) <= 2
        before = now


def test_every_class_is_trained_on_and_tested_on_if_it_can_be(tmp_path: Path) -> None:
    touch(tmp_path, {f"{count} of {i}": count for count in (1, 2, 3, 8) for i in range(20)})
    where: dict[str, list[str]] = {}
    for name, part in parts(tmp_path).items():
        where.setdefault(name.split("/")[0], []).append(part)
    for name, held in where.items():
        count = int(name.split()[0])
        assert "train" in held
        assert ("test" in held) == (count > 1)
        assert "val" in held if count == 8 else count > 2 or "val" not in held


def test_nothing_to_test_on_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, {"cat": 1, "dog": 1})
    with pytest.raises(ValueError, match="has one picture in each class, so none to test on; add pictures"):
        picture_splits(tmp_path, 16, None, seed=0)


def test_check_names_what_cannot_be_read(picture_root: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = PictureFolder(picture_root, 16).paths
    check(whole, threads=2)
    assert not caplog.records
    with pytest.raises(ValueError) as caught:
        check([*whole, Path(__file__)], threads=2)
    assert str(caught.value).startswith(f"{__file__} cannot be read as an image (")
    with pytest.raises(ValueError) as caught:
        check([Path("absent.png"), *whole, Path(__file__), Path("absent.jpg")], threads=2)
    assert str(caught.value) == (
        "absent.png cannot be read as an image (No such file or directory); check its name; "
        "2 more of 48 cannot be read either"
    )


def test_long_checks_tell_how_far_they_are(
    picture_root: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter(range(0, 10_000, 6))
    monkeypatch.setattr(pictures.time, "monotonic", lambda: next(ticks))
    with caplog.at_level(logging.INFO, "hybrid_vit"):
        check(PictureFolder(picture_root, 16).paths[:5], threads=1)
    assert caplog.messages == [f"checking that all pictures can be read: {n} of 5" for n in (2, 4)]


def test_given_parts_are_taken_as_they_are(picture_root: Path, tmp_path: Path) -> None:
    for name in ("train", "test"):
        shutil.copytree(picture_root, tmp_path / name)
    train, val, test = picture_splits(tmp_path, 16, 5, seed=0)
    assert val is not None and (len(train), len(val), len(test)) == (40, 5, 45)
    assert {path.relative_to(tmp_path).parts[0] for path in val.paths} == {"train"}

    shutil.copytree(picture_root, tmp_path / "val")
    train, val, test = picture_splits(tmp_path, 16, None, seed=0)
    assert val is not None and (len(train), len(val), len(test)) == (45, 45, 45)
    assert {path.relative_to(tmp_path).parts[0] for path in val.paths} == {"val"}
    assert picture_splits(tmp_path, 16, 0, seed=0)[1] is None
    with pytest.raises(ValueError) as caught:
        picture_splits(tmp_path, 16, 5, seed=0)
    assert str(caught.value) == (
        f"{tmp_path} has 45 pictures to validate on (in val/), not data.val_size=5; "
        "leave data.val_size out, or use 0 for none"
    )


@pytest.mark.parametrize("part", ["val", "test"])
def test_parts_with_other_classes(tmp_path: Path, part: str) -> None:
    for folder in (tmp_path / "train", tmp_path / part):
        save(folder / "a" / "1.png")
        save(folder / "b" / "1.png")
    save(tmp_path / part / "c" / "1.png")
    with pytest.raises(ValueError) as caught:
        picture_splits(tmp_path, 8, 0, seed=0)
    assert str(caught.value) == (
        f"{tmp_path / 'train'} and {tmp_path / part} must have the same class folders, but 'c' is in "
        f"{tmp_path / part} and not in {tmp_path / 'train'}; add or remove it, or list the pictures in a CSV, where "
        "only the training split must have every class"
    )


def test_names_have_one_form_of_unicode(tmp_path: Path) -> None:
    forms = [unicodedata.normalize(form, "Äpfel") for form in ("NFC", "NFD")]
    folders = [tmp_path / form / "set" for form in ("NFC", "NFD")]
    for name, folder in zip(forms, folders, strict=True):
        for i in range(20):
            save(folder / name / f"{name}{i}.png")
            save(folder / "Birnen" / f"{i}.png")
    one, other = (
        [(part.class_names, part.names) for part in picture_splits(f, 8, None, seed=0) if part] for f in folders
    )
    assert one == other and one[0][0] == ["Birnen", forms[0]]
    save(folders[0] / forms[1] / "1.png")
    with pytest.raises(ValueError, match="cannot be told apart"):
        picture_splits(folders[0], 8, None, seed=0)
