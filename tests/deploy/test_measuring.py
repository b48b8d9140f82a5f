"""What is measured of a run's own images: scores, examples, features; and where it is kept."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import hybrid_vit
from hybrid_vit.data.sources import digits
from hybrid_vit.deploy import measured, measuring
from hybrid_vit.deploy.trained import Trained, load
from hybrid_vit.utils.paths import PUBLISHED


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hybrid_vit"


@pytest.fixture(scope="module")
def trained() -> Trained:
    return load("quickstart")


def test_test_images_give_percentiles_and_an_example_of_each_class(trained: Trained, tmp_path: Path) -> None:
    data = digits()
    images, labels = data.test_images, data.test_labels
    with torch.no_grad():
        logits = trained(trained.normalize(images))
    measuring.write_familiarity(logits, "digits", "a checksum", tmp_path / measured.FAMILIARITY)
    found = measured.read_familiarity(tmp_path / measured.FAMILIARITY)
    scores = (logits.exp().amax(dim=1) / logits.exp().sum(dim=1)).numpy()
    assert found[1:] == (len(images), "digits", "a checksum")
    np.testing.assert_allclose(found.percentiles, np.percentile(scores, range(101)), rtol=1e-5)
    firsts = measuring.first_of_each_class(zip(images.split(100), labels.split(100), strict=True), 10)
    measuring.write_examples(firsts, 10, tmp_path / measured.EXAMPLES)
    examples = measured.read_examples(tmp_path / measured.EXAMPLES, 10)
    for label, example in enumerate(examples):
        first = images[(labels == label).nonzero()[0, 0]]
        assert np.array_equal(np.asarray(example), first.permute(1, 2, 0).numpy())


@pytest.mark.parametrize(
    "run", sorted(path.parent for path in PUBLISHED.glob("*/model.json")), ids=lambda run: run.name
)
def test_the_published_runs_have_theirs(run: Path, cache: Path) -> None:
    trained = hybrid_vit.load(run)
    names = trained.class_names
    path = measured.find(run, measured.EXAMPLES)
    assert path == run / measured.EXAMPLES
    examples = measured.read_examples(path, len(names))
    assert len(examples) == len(names)
    right = [said.label == name for said, name in zip(trained.predict(examples), names, strict=True)]
    assert sum(right) > 0.55 * len(names)
    known = measured.read_familiarity(run / measured.FAMILIARITY)
    assert known.percentiles == sorted(known.percentiles) and len(known.percentiles) == 101
    assert known.weights == measured.checksum(run)


def test_the_threshold_of_the_published_digits_is_what_their_test_images_have(trained: Trained) -> None:
    data = digits()
    with torch.no_grad():
        scores = measuring.familiarity(trained(trained.normalize(data.test_images)))
    threshold = measured.read_familiarity(PUBLISHED / "quickstart" / measured.FAMILIARITY).percentiles[5]
    assert float((scores < threshold).float().mean()) == pytest.approx(0.05, abs=0.005)


def test_examples_of_many_or_large_or_missing_classes(tmp_path: Path) -> None:
    images = {index: torch.full((3, 200, 200), index, dtype=torch.uint8) for index in range(13) if index != 4}
    measuring.write_examples(images, 13, tmp_path / "examples.png")
    found = measured.read_examples(tmp_path / "examples.png", 13)
    assert {image.size for image in found} == {(128, 128)}
    assert [image.getpixel((5, 5))[0] for image in found] == [255 if index == 4 else index for index in range(13)]


def test_a_run_is_measured_once_and_kept_by_its_weights(cache: Path, tmp_path: Path) -> None:
    run = tmp_path / "moved"
    run.mkdir()
    for name in ("model.json", "model.safetensors", "summary.json"):
        (run / name).write_bytes((PUBLISHED / "quickstart" / name).read_bytes())
    assert measured.find(run, measured.NEIGHBOURS) is None
    said: list[str] = []
    measuring.measure(run, None, said.append)
    folder = measured.cached(run)
    assert folder.parent == cache
    assert {path.name for path in folder.iterdir()} == {measured.FAMILIARITY, measured.EXAMPLES, measured.NEIGHBOURS}
    assert said[-1] == "The training images are being compared for the first time: 1,258 of 1,258."
    ours, published = (
        measured.read_familiarity(place / measured.FAMILIARITY) for place in (folder, PUBLISHED / "quickstart")
    )
    np.testing.assert_allclose(ours.percentiles, published.percentiles, rtol=1e-3)
    known = measuring.read_neighbours(folder / measured.NEIGHBOURS)
    assert known.images.shape == (1258, 3, 32, 32) and known.labels.shape == (1258,)
    torch.testing.assert_close(known.features.float().norm(dim=1), torch.ones(1258), rtol=1e-2, atol=0)
    written = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    measuring.measure(run, None, said.append)
    assert written == {path: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_other_images_than_those_of_the_training_are_refused(cache: Path, tmp_path: Path) -> None:
    picture = Image.new("RGB", (32, 32))
    description = measured.read_json(PUBLISHED / "quickstart" / "model.json")
    for name in description["class_names"]:
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(4):
            picture.save(tmp_path / "pictures" / name / f"{number}.png")
    run = tmp_path / "run"
    run.mkdir()
    for name in ("model.safetensors", "summary.json"):
        (run / name).write_bytes((PUBLISHED / "quickstart" / name).read_bytes())
    data = description["data"] | {"source": "folder", "val_size": None}
    before = {"class_names": description["class_names"], "test": {"images": 360, "sha256": ""}}
    measuring.write_json(run / "model.json", description | {"data": data, "fingerprint": before})
    with pytest.raises(ValueError, match=r"the test set is not that of .*: .* fewer test images"):
        measuring.measure(run, str(tmp_path / "pictures"), print)
    assert not cache.exists()


def test_neighbours_are_at_most_so_many_and_so_large(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "MOST_NEIGHBOURS", 5)
    monkeypatch.setattr(measuring, "LARGEST_NEIGHBOUR", 16)
    batches = [(torch.zeros(3, 3, 32, 32, dtype=torch.uint8), torch.arange(3))] * 4
    done: list[int] = []
    measuring.measure_training_images(trained, batches, tmp_path, done.append)
    known = measuring.read_neighbours(tmp_path / measured.NEIGHBOURS)
    assert known.labels.tolist() == [0, 1, 2, 0, 1] and known.images.shape == (5, 3, 16, 16) and done == [3, 5]
