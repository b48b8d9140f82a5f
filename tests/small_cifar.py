"""A small CIFAR-100 in the real one's files, which torchvision takes for the real one.

From a test: `write(root)` and `register(root)`. For another process, with the files in ROOT (written if absent):

    python tests/small_cifar.py ROOT -m some.module its arguments
"""

import hashlib
import pickle
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
from torchvision.datasets import CIFAR100

CLASSES = 100


def write(root: Path, *, train_per_class: int = 10, test_per_class: int = 2) -> Path:
    """Write root/cifar-100-python/{train,test,meta}; a class is a colour with noise, so it can be learned."""
    folder = root / CIFAR100.base_folder
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    colours = random.integers(0, 256, (CLASSES, 3, 1, 1))
    for name, per_class in ("train", train_per_class), ("test", test_per_class):
        labels = random.permutation(np.repeat(np.arange(CLASSES), per_class))
        images = np.clip(colours[labels] + random.normal(0, 8, (len(labels), 3, 32, 32)), 0, 255).astype(np.uint8)
        _dump(folder / name, {"fine_labels": labels.tolist(), "data": images.reshape(len(labels), 3072)})
    _dump(folder / "meta", {"fine_label_names": [f"class_{i:02d}" for i in range(CLASSES)]})
    return root


def checksums(root: Path) -> dict[str, Any]:
    """The attributes of torchvision's CIFAR100 that make it expect the files in root."""
    md5 = {
        name: hashlib.md5((root / CIFAR100.base_folder / name).read_bytes()).hexdigest()
        for name in ("train", "test", "meta")
    }
    return {
        "train_list": [["train", md5["train"]]],
        "test_list": [["test", md5["test"]]],
        "meta": {"filename": "meta", "key": "fine_label_names", "md5": md5["meta"]},
        "url": "http://localhost:9/cifar-100-python.tar.gz",  # nobody listens there: a test downloads nothing
    }


def register(root: Path) -> None:
    """Make torchvision expect the files in root, in this process."""
    for name, value in checksums(root).items():
        setattr(CIFAR100, name, value)


def _dump(path: Path, content: dict[str, Any]) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


if __name__ == "__main__":
    root, flag, module = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    assert flag == "-m", __doc__
    if not (root / CIFAR100.base_folder).exists():
        write(root)
    register(root)
    sys.argv[:] = sys.argv[3:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
