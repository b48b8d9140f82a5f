"""What several tests stand on: a small CIFAR-100, a folder of pictures, a stand-in for training.

Fixtures import what is slow to import: the process that starts the workers of pytest-xdist reads this file, too.
"""

from __future__ import annotations

import functools
import gc
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from commands import Train


# A test decides by itself what it finds in the environment; Lightning reads these when it is imported.
RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
for name in [*os.environ]:
    if name.startswith(("WANDB_", "HYDRA_", "SLURM_", "TORCHELASTIC_")) or name in RANKS:
        del os.environ[name]
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1,localhost"  # where tests serve pages


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Trainings come first: what they share is made in one process, and the last tests are short."""
    items.sort(key=lambda item: item.path.parent.name != "training")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """The tensors of tests are small, and equal to the bit needs an equal number of threads."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def yaml_is_read_and_written_in_c() -> Iterator[None]:
    """Hundreds of configurations are composed; YAML in Python takes half of their time."""
    import yaml
    from omegaconf._utils import OmegaConfDumper

    class Dumper(yaml.CDumper):
        pass

    Dumper.add_representer(str, OmegaConfDumper.str_representer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml, "SafeLoader", yaml.CSafeLoader)
        patch.setattr("omegaconf.omegaconf.get_omega_conf_dumper", lambda: Dumper)
        yield


@pytest.fixture(scope="session", autouse=True)
def the_schema_is_not_copied() -> Iterator[None]:
    """Hydra copies all of the schema at each composition, and again what it reads of it."""
    from hydra.core.config_store import ConfigStore

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConfigStore, "__deepcopy__", lambda store, memo: store, raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def imported_modules_are_no_garbage(one_thread: None) -> Iterator[None]:
    """A garbage collection does not look through all that was imported each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def measurements_are_kept_apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Not in the cache of the user."""
    import matplotlib

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLCONFIGDIR", matplotlib.get_cachedir())  # its list of fonts takes seconds to make
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def two_cores() -> Iterator[None]:
    """A machine of one core takes two processes, too, as far as the tests are concerned."""
    cores = max(2, os.cpu_count() or 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "cpu_count", lambda: cores)
        yield


@pytest.fixture(scope="session", autouse=True)
def small_shards() -> Iterator[None]:
    """Networks of tests are small, and so are their shards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hybrid_vit.fast.shards.SMALLEST", 1)
        yield


@pytest.fixture(scope="session", autouse=True)
def absl_closes_nothing() -> None:
    """It comes with TensorBoard and OpenVINO, and would close the stream of its log, which is that of pytest."""
    with suppress(ImportError):
        from absl.logging import get_absl_handler

        get_absl_handler().python_handler.stream = sys.__stderr__


@pytest.fixture(scope="session", autouse=True)
def nothing_waits_for_the_disk() -> Iterator[None]:
    """A file that is replaced is there for every process, whether it is on the disk yet or not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def what_is_the_same_for_all_runs(one_thread: None) -> Iterator[None]:
    """The digits, and where figures come from, are read once."""
    from hybrid_vit.data.sources import SOURCES, digits
    from hybrid_vit.training import run

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SOURCES, "digits", functools.cache(digits))
        patch.setattr(run, "provenance", functools.cache(run.provenance))
        yield


@pytest.fixture(autouse=True)
def options_are_those_of_the_package() -> Iterator[None]:
    """What --config-dir added is not known to the next test."""
    yield
    if compose := sys.modules.get("hybrid_vit.config.compose"):
        compose.look_in(None)


@pytest.fixture(autouse=True)
def log_files_end() -> Iterator[None]:
    """A command of a test leaves the logging of the tests as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:], root.level = handlers, level


@pytest.fixture(scope="session")
def small_cifar_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a small CIFAR-100: 1,000 + 200 images; to be read only."""
    import small_cifar

    return small_cifar.write(tmp_path_factory.mktemp("cifar"))


@pytest.fixture
def small_cifar_root(small_cifar_files: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same root, while torchvision takes those files for CIFAR-100."""
    import small_cifar
    from torchvision.datasets import CIFAR100

    for name, value in small_cifar.checksums(small_cifar_files).items():
        monkeypatch.setattr(CIFAR100, name, value)
    return small_cifar_files


@pytest.fixture(scope="session")
def picture_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of cat/, dog/ and eel/ with 20, 15 and 10 pictures of several kinds and sizes; to be read only."""
    root = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for number, (name, count) in enumerate({"cat": 20, "dog": 15, "eel": 10}.items()):
        (root / name).mkdir()
        for i in range(count):
            picture = random.integers(0, 256, (20 + i, 24 + number, 3), dtype=np.uint8)
            mode, suffix = [("RGB", "png"), ("L", "jpg"), ("RGBA", "png"), ("P", "bmp")][i % 4]
            Image.fromarray(picture).convert(mode).save(root / name / f"{i}.{suffix}")
    return root


@pytest.fixture
def without_pictures() -> Iterator[None]:
    """A training draws none of its pictures."""
    from small_runs import no_pictures

    with no_pictures():
        yield


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Train:
    """The stand-in, where the command finds it, in an empty working directory."""
    from commands import Train

    fake = Train()
    monkeypatch.setitem(sys.modules, "hybrid_vit.training.run", SimpleNamespace(train=fake))
    monkeypatch.setattr(sys, "argv", ["train"])
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.chdir(tmp_path)
    return fake
