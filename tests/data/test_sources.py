"""Sources: tensors of the right kind from the files of the data set, and one sentence when they are not right."""

import hashlib
import io
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import small_cifar
import torch
from torchvision.datasets import CIFAR10, CIFAR100

from hybrid_vit.data import sources
from hybrid_vit.data.sources import SOURCES, Source, cifar10, cifar100, digits, load_source

REAL = Path(__file__).parents[2] / "data"


def check(source: Source, train: int, test: int, classes: int) -> None:
    for images, labels, n in (
        (source.train_images, source.train_labels, train),
        (source.test_images, source.test_labels, test),
    ):
        assert images.shape == (n, 3, 32, 32) and images.dtype == torch.uint8 and images.is_contiguous()
        assert labels.shape == (n,) and labels.dtype == torch.int64
        assert labels.unique().tolist() == list(range(classes))
    assert len(source.class_names) == classes


@pytest.fixture
def own_root(small_cifar_root: Path, tmp_path: Path) -> Path:
    """A copy of the small CIFAR-100 that a test may spoil."""
    return Path(shutil.copytree(small_cifar_root, tmp_path / "own"))


@pytest.fixture
def unpickles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a file was unpickled")

    monkeypatch.setattr(pickle, "load", refuse)


def test_cifar100_gives_the_pixels_and_names_of_the_files(small_cifar_root: Path) -> None:
    source = cifar100(small_cifar_root)
    check(source, 1000, 200, 100)
    with open(small_cifar_root / "cifar-100-python" / "train", "rb") as file:
        raw = pickle.load(file)
    assert np.array_equal(source.train_images.numpy().reshape(1000, 3072), raw["data"])
    assert source.train_labels.tolist() == raw["fine_labels"]
    assert source.class_names[42] == "class_42"


@pytest.fixture
def small_cifar10_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Root of a small CIFAR-10, which torchvision takes for the real one: 50 + 10 images."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    contents = {name: {"labels": list(range(10)), "data": np.full((10, 3072), i, np.uint8)} for i, name in enumerate(
        ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]
    )}  # fmt: skip
    meta = {"label_names": [f"n{i}" for i in range(10)]}
    md5 = {}
    for name, content in [*contents.items(), ("batches.meta", meta)]:
        (folder / name).write_bytes(pickle.dumps(content))
        md5[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    monkeypatch.setattr(CIFAR10, "train_list", [[f"data_batch_{i}", md5[f"data_batch_{i}"]] for i in range(1, 6)])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5["batches.meta"]})
    monkeypatch.setattr(CIFAR10, "url", "http://localhost:9/cifar-10-python.tar.gz")
    return tmp_path


def test_cifar10_reads_five_training_files(small_cifar10_root: Path) -> None:
    source = cifar10(small_cifar10_root)
    check(source, 50, 10, 10)
    assert source.train_images[:, 0, 0, 0].tolist() == [i for i in range(5) for _ in range(10)]


def test_cifar110_is_both_one_after_the_other(small_cifar10_root: Path, small_cifar_root: Path) -> None:
    shutil.copytree(small_cifar_root, small_cifar10_root, dirs_exist_ok=True)
    old, new, both = (load(small_cifar10_root) for load in (cifar100, cifar10, SOURCES["cifar110"]))
    check(both, 1050, 210, 110)
    assert both.class_names == [*old.class_names, *new.class_names]
    assert both.parts == {"cifar100": range(100), "cifar10": range(100, 110)}
    for split in ("train", "test"):
        images, labels = (getattr(both, f"{split}_{what}") for what in ("images", "labels"))
        n = len(getattr(old, f"{split}_labels"))
        assert images[:n].equal(getattr(old, f"{split}_images")) and labels[:n].equal(getattr(old, f"{split}_labels"))
        assert images[n:].equal(getattr(new, f"{split}_images"))
        assert (labels[n:] - 100).equal(getattr(new, f"{split}_labels"))


@pytest.mark.parametrize(("missing", "named"), [("cifar-10-batches-py", "data_batch_1"), ("cifar-100-python", "train")])
def test_of_cifar110_the_missing_half_is_named(
    small_cifar10_root: Path, small_cifar_root: Path, missing: str, named: str
) -> None:
    shutil.copytree(small_cifar_root, small_cifar10_root, dirs_exist_ok=True)
    shutil.rmtree(small_cifar10_root / missing)
    with pytest.raises(FileNotFoundError, match=rf"{missing}/{named} is not there and .* cannot be downloaded"):
        load_source("cifar110", small_cifar10_root)


HERE = all((REAL / name).exists() for name in ("cifar-100-python", "cifar-10-batches-py"))


@pytest.mark.slow
@pytest.mark.skipif(not HERE, reason="CIFAR-100 and CIFAR-10 are not on this machine")
def test_real_cifar110() -> None:
    source = SOURCES["cifar110"](REAL)
    check(source, 100_000, 20_000, 110)
    assert len({*source.class_names}) == 110
    assert torch.bincount(source.test_labels).tolist() == [100] * 100 + [1000] * 10
    assert torch.bincount(source.train_labels).tolist() == [500] * 100 + [5000] * 10
    mean = source.train_images[:50_000].sum((0, 2, 3)) / (50_000 * 1024 * 255)
    assert mean.tolist() == pytest.approx([0.5071, 0.4865, 0.4409], abs=1e-4)
    assert source.class_names[:2] == ["apple", "aquarium_fish"]


@pytest.mark.parametrize("name", ["train", "test", "meta"])
@pytest.mark.parametrize("damage", ["truncated", "altered"])
@pytest.mark.usefixtures("unpickles_nothing")
def test_damaged_file_is_named_and_not_unpickled(own_root: Path, name: str, damage: str) -> None:
    path = own_root / "cifar-100-python" / name
    content = path.read_bytes()
    path.write_bytes(content[:-1] if damage == "truncated" else content[:-1] + b"!")
    with pytest.raises(ValueError) as caught:
        cifar100(own_root)
    assert str(caught.value) == f"{path} is truncated or altered (its md5 differs); delete it to download it again"
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("name", ["train", "test", "meta"])
@pytest.mark.usefixtures("unpickles_nothing")
def test_missing_file_without_network(own_root: Path, name: str) -> None:
    (own_root / "cifar-100-python" / name).unlink()
    with pytest.raises(FileNotFoundError) as caught:
        cifar100(own_root)
    sentence = str(caught.value)
    folder = own_root / "cifar-100-python"
    assert sentence.startswith(f"{folder / name} is not there and {CIFAR100.url} cannot be downloaded (")
    assert sentence.endswith(
        f"put the files at {folder}/{{train,test,meta}}; experiment=quickstart trains without a download"
    )
    assert "\n" not in sentence and caught.value.__suppress_context__


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The path of the archive that torchvision downloads; a test puts it there."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    folder = tmp_path / "server"
    folder.mkdir()
    monkeypatch.setenv("no_proxy", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        monkeypatch.setattr(CIFAR100, "url", f"http://127.0.0.1:{server.server_port}/{CIFAR100.filename}")
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield folder / CIFAR100.filename
        server.shutdown()
        thread.join()


def test_missing_data_is_downloaded_and_a_half_archive_is_not_taken_for_it(
    small_cifar_root: Path, served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tarfile.open(served, "w:gz") as archive:
        archive.add(small_cifar_root / "cifar-100-python", "cifar-100-python")
    whole = served.read_bytes()
    monkeypatch.setattr(CIFAR100, "tgz_md5", hashlib.md5(whole).hexdigest())

    root = tmp_path / "new" / "root"
    root.mkdir(parents=True)
    half = root / "cifar-100-python.tar.gz"
    half.write_bytes(whole[: len(whole) // 2])
    check(cifar100(root), 1000, 200, 100)
    assert half.read_bytes() == whole
    (root / "cifar-100-python" / "test").unlink()
    served.unlink()  # from the archive on disk
    check(cifar100(root), 1000, 200, 100)

    served.write_bytes(whole[: len(whole) // 2])
    broken = tmp_path / "broken"
    with pytest.raises(FileNotFoundError, match="cannot be downloaded"):
        cifar100(broken)
    assert not broken.exists()  # a mistyped root leaves no folder


def test_several_processes_download_once(
    small_cifar_root: Path, served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tarfile.open(served, "w:gz") as archive:
        archive.add(small_cifar_root / "cifar-100-python", "cifar-100-python")
    monkeypatch.setattr(CIFAR100, "tgz_md5", hashlib.md5(served.read_bytes()).hexdigest())
    fetch, fetched = sources.download_and_extract_archive, []

    def slow(*args: Any, **how: Any) -> None:
        fetched.append(args)
        time.sleep(0.2)  # in which the other one would begin, too
        fetch(*args, **how)

    monkeypatch.setattr(sources, "download_and_extract_archive", slow)
    with ThreadPoolExecutor(2) as both:
        for source in both.map(cifar100, [tmp_path / "root"] * 2):
            check(source, 1000, 200, 100)
    assert len(fetched) == 1


@pytest.mark.usefixtures("unpickles_nothing")
def test_archive_with_other_files_is_refused(
    small_cifar_root: Path, served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The archive's md5 is right and a file's is not: the file is checked for itself."""
    with tarfile.open(served, "w:gz") as archive:
        for name in ("train", "test", "meta"):
            info = tarfile.TarInfo(f"cifar-100-python/{name}")
            info.size = 3
            archive.addfile(info, io.BytesIO(b"abc"))
    monkeypatch.setattr(CIFAR100, "tgz_md5", hashlib.md5(served.read_bytes()).hexdigest())
    with pytest.raises(ValueError, match=r"cifar-100-python/train is truncated or altered"):
        cifar100(tmp_path / "root")


def test_root_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(NotADirectoryError) as caught:
        cifar100(path)
    assert str(caught.value) == f"data.root={path} is a file; give the folder that holds cifar-100-python/"


def test_root_is_needed() -> None:
    with pytest.raises(ValueError) as caught:
        cifar10(None)
    assert str(caught.value) == "CIFAR10 needs a directory; set data.root"


def test_digits() -> None:
    from sklearn.datasets import load_digits

    source = digits()
    check(source, 1438, 359, 10)
    assert source.class_names == [str(i) for i in range(10)]
    images = torch.cat([source.train_images, source.test_images])
    assert images.min() == 0 and images.max() == 255
    assert images[:, 0].equal(images[:, 1]) and images[:, 0].equal(images[:, 2])
    # Bilinear by four keeps the mean but at the borders, where it repeats: the interior is the digit itself.
    assert images.double().mean() / 255 == pytest.approx(load_digits().images.mean() / 16, abs=0.01)
    proportions = torch.bincount(source.test_labels) / torch.bincount(source.train_labels)
    assert (proportions - 0.25).abs().max() < 0.01
    torch.manual_seed(12345)
    assert source.test_images.equal(digits().test_images)


def test_unknown_name() -> None:
    assert set(SOURCES) == {"cifar100", "cifar10", "cifar110", "digits", "medmnist"}
    for name, nearest in ("cifar-100", "cifar100"), ("digit", "digits"), ("folders", "folder"):
        with pytest.raises(ValueError) as caught:
            load_source(name, None)
        assert str(caught.value) == (
            f"there is no data set {name!r}; did you mean {nearest!r}? "
            "(cifar100, cifar10, cifar110, digits, medmnist, folder)"
        )


@pytest.mark.slow
def test_small_cifar_in_another_process(tmp_path: Path) -> None:
    (tmp_path / "probe.py").write_text(
        "import sys\nfrom hybrid_vit.data.sources import cifar100\n"
        "print(__name__, len(cifar100(sys.argv[1]).train_labels), sys.argv[2:])\n"
    )
    root = tmp_path / "data"
    command = [sys.executable, small_cifar.__file__, str(root), "-m", "probe", str(root), "a=1"]
    repository = str(Path(__file__).parents[2])
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{repository}"},
    )
    assert done.stdout == "__main__ 1000 ['a=1']\n"
