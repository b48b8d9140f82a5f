"""MedMNIST's files: their splits as tensors, names of classes, and one sentence for other files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from data_modules import module

from hybrid_vit.data.medmnist import NAMES, read_medmnist

SIZES = {"train": 40, "val": 12, "test": 10}


def write(path: Path, *, colours: bool = False, classes: int = 2, **change: np.ndarray | None) -> Path:
    """A file as MedMNIST's are."""
    random, arrays = np.random.default_rng(0), {}
    for name, n in SIZES.items():
        shape = (n, 28, 28, 3) if colours else (n, 28, 28)
        arrays[f"{name}_images"] = random.integers(0, 256, shape, dtype=np.uint8)
        arrays[f"{name}_labels"] = (np.arange(n) % classes).astype(np.uint8)[:, None]
    np.savez(path, **{name: array for name, array in (arrays | change).items() if array is not None})
    return path


@pytest.mark.parametrize("colours", [False, True])
def test_pixels_labels_and_names(tmp_path: Path, colours: bool) -> None:
    path = write(tmp_path / "pneumoniamnist.npz", colours=colours)
    splits, names = read_medmnist(tmp_path)
    assert names == ["normal", "pneumonia"] and {name: len(y) for name, (_, y) in splits.items()} == SIZES
    with np.load(path) as file:
        for name, (images, labels) in splits.items():
            raw = file[f"{name}_images"]
            raw = raw if colours else np.repeat(raw[..., None], 3, axis=3)
            assert images.dtype == torch.uint8 and np.array_equal(images.permute(0, 2, 3, 1).numpy(), raw)
            assert labels.dtype == torch.int64 and labels.tolist() == file[f"{name}_labels"].flatten().tolist()


def test_other_names_are_numbers(tmp_path: Path) -> None:
    assert read_medmnist(write(tmp_path / "mine.npz", classes=3))[1] == ["0", "1", "2"]
    assert read_medmnist(write(tmp_path / "pneumoniamnist.npz", classes=3))[1] == ["0", "1", "2"]
    assert read_medmnist(write(tmp_path / "dermamnist_melanoma.npz"))[1] == ["0", "1"]
    assert read_medmnist(write(tmp_path / "BreastMNIST_64.npz"))[1] == ["malignant", "normal or benign"]
    assert [len(names) for names in NAMES.values()] == [9, 7, 4, 2, 2, 8, 8, 11, 11, 11]


def test_its_own_images_validate(tmp_path: Path) -> None:
    path = write(tmp_path / "pneumoniamnist.npz")
    settings = {"batch_size": 8, "image_size": 32}
    data = module("medmnist", path, val_size=None, **settings)
    assert data.sizes == {"train": 40, "test": 10, "val": 12}
    assert module("medmnist", path, val_size=12, **settings).sizes == data.sizes
    assert module("medmnist", path, val_size=0, **settings).sizes == {"train": 40, "test": 10}
    assert module("medmnist", path, val_size=None, fraction=0.1, **settings).sizes["train"] == 4
    assert next(iter(data.val_dataloader()[0])).images.shape == (12, 3, 32, 32)
    with pytest.raises(ValueError, match=r"has 12 validation images of its own, not data\.val_size=5; leave"):
        module("medmnist", path, val_size=5, **settings)


def test_other_files_are_one_sentence(tmp_path: Path) -> None:
    images = np.zeros((40, 28, 28), np.uint8)
    for change, said in (
        ({"train_images": None}, "train_images"),
        ({"train_images": images.astype(np.float32)}, r"must be \(N, H, W\) or \(N, H, W, 3\) of uint8"),
        ({"train_images": np.zeros((40, 8, 8, 8), np.uint8)}, r"images of shape \(40, 8, 8, 8\)"),
        ({"train_labels": np.zeros((40, 14), np.uint8)}, r"40 images with labels of shape \(40, 14\)"),
        ({"train_labels": np.array([None] * 40)}, "pickle"),
        ({"train_labels": np.array(["cat"] * 40)}, "labels of <U3"),
        ({"test_labels": np.arange(10) - 1}, "labels of int64, which must be"),
        ({"val_labels": np.full(12, 0.7)}, "labels of float64"),
    ):
        path = write(tmp_path / "chestmnist.npz", **change)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=rf"chestmnist\.npz cannot be used \(.*{said}.*; give a file of MedMNIST"):
            read_medmnist(path)
    np.save(tmp_path / "array.npy", images)
    path.write_bytes((tmp_path / "array.npy").read_bytes())
    with pytest.raises(ValueError, match=r"chestmnist\.npz cannot be used"):
        read_medmnist(path)
    path.write_bytes(write(tmp_path / "whole.npz").read_bytes()[:1000])
    (tmp_path / "whole.npz").unlink()
    with pytest.raises(ValueError, match=r"chestmnist\.npz cannot be used"):
        read_medmnist(path)
    write(tmp_path / "bloodmnist.npz")
    with pytest.raises(ValueError, match=r"and it holds bloodmnist\.npz, chestmnist\.npz$"):
        read_medmnist(tmp_path)
    with pytest.raises(ValueError, match=r"nowhere must be an \.npz of MedMNIST"):
        read_medmnist(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"set data\.root=FILE\.npz"):
        read_medmnist(None)
