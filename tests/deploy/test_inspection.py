"""What the demo says of an image, without the page: answers, maps, neighbours, refusals."""

import multiprocessing
import struct
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hybrid_vit.augment import Draw
from hybrid_vit.augment.corruptions import blur, fog, noise
from hybrid_vit.data.decode import decode, square
from hybrid_vit.deploy import measuring
from hybrid_vit.deploy.inspection import ORANGE, Inspector, Measuring, judged, marked, measure, spotlight
from hybrid_vit.deploy.measured import NEIGHBOURS, Familiarity, find
from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.paths import PUBLISHED
from hybrid_vit.utils.provenance import reset_peak_memory

STATUS = Path("/proc/self/status")
DIGIT = str(Path(__file__).parents[2] / "docs" / "digit.png")


@pytest.fixture(scope="module")
def inspector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inspector]:
    """The published digits, whose training images have been measured."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        measuring.measure(PUBLISHED / "quickstart", None, lambda said: None)
        inspector = Inspector(PUBLISHED / "quickstart")
        assert inspector.measured and not inspector.measuring.running
        yield inspector


@pytest.mark.slow
def test_a_process_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    inspector = Inspector(PUBLISHED / "quickstart")
    deadline = time.monotonic() + 600
    while inspector.measuring.running and time.monotonic() < deadline:
        time.sleep(0.1)
    assert inspector.measured, inspector.measuring.status
    assert inspector.measuring.status.endswith("1,258 of 1,258.")


def test_the_answer_is_that_of_predict(inspector: Inspector) -> None:
    said = inspector.answer(inspector.see(DIGIT))
    expected = [*inspector.trained.predict(DIGIT).probabilities.items()][:5]
    assert [*said.top] == [name for name, _ in expected]
    assert [*said.top.values()] == pytest.approx([share for _, share in expected])
    assert said.unknown is False


def test_noise_is_probably_none_of_the_classes(inspector: Inspector) -> None:
    random = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    said = [inspector.answer(torch.from_numpy(image).permute(2, 0, 1)) for image in random]
    assert all(answer.unknown for answer in said)
    assert said[0].sentence.startswith("This is probably none of my 10 classes.")


def test_where_lightning_is_missing_training_images_are_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("hybrid_vit.deploy.inspection.find_spec", lambda name: None)
    none = Measuring(PUBLISHED / "quickstart", None)
    assert not none.running and none.status == "The training images are not part of this page."


def test_a_measuring_process_that_is_killed_is_said() -> None:
    messages, writer = multiprocessing.Pipe(duplex=False)
    writer.send("12,000 of 50,000 images")
    writer.close()
    killed = Measuring.__new__(Measuring)
    killed.said, killed.lock, killed.messages = "", threading.Lock(), messages
    killed.process = SimpleNamespace(join=lambda: None, exitcode=-9)  # type: ignore[assignment]
    assert "was killed" in killed.status


def test_the_verdict_follows_the_threshold() -> None:
    known = Familiarity([i / 100 for i in range(101)], 360, "digits", "")
    assert judged(0.0499, known, 10)[0] is True and judged(0.05, known, 10)[0] is False
    usual = "Score 0.050; 95 % of the 360 test images of digits have at least 0.050."
    assert judged(0.05, known, 10)[1] == f"This is like the images of my 10 classes. {usual}"
    unknown, sentence = judged(0.05, None, 10)
    assert unknown is None and "have not been measured" in sentence


def test_the_image_is_corrupted_as_in_a_camera(inspector: Inspector) -> None:
    clean = square(decode(DIGIT), 32)
    assert torch.equal(inspector.see(DIGIT), clean)
    expected = noise(blur(fog(clean[None], 1.0, Draw(0, 1)), 0.8), 0.1, Draw(1, 1))[0]
    assert torch.equal(inspector.see(DIGIT, sd=0.1, sigma=0.8, amount=1.0), expected)
    assert torch.equal(inspector.see(DIGIT), clean)


def test_it_shows_what_the_model_sees_its_attention_and_the_pixels(inspector: Inspector) -> None:
    seen, attention, pixels = inspector.look(inspector.see(DIGIT))
    assert all(figure.picture and min(figure.picture.size) >= 256 for figure in (seen, attention, pixels))
    assert attention.caption == "Attention rollout over 8 x 8 cells"
    assert pixels.caption == "Integrated gradients: orange pixels raise the logit of 3"


def test_a_spotlight_is_as_bright_as_the_weights() -> None:
    white = torch.full((3, 32, 32), 255, dtype=torch.uint8)
    lit = np.asarray(spotlight(white, torch.tensor([[0.0, 1.0], [2.0, 4.0]])))
    levels = [int(lit[y, x, 0]) for y, x in ((64, 64), (64, 192), (192, 64), (192, 192))]
    assert levels == [int(255 * (0.15 + 0.85 * share)) for share in (0, 0.25, 0.5, 1)]
    assert np.asarray(spotlight(white, torch.zeros(3, 3))).max() < 40


def test_a_marked_image_is_as_orange_as_the_weights() -> None:
    black = torch.zeros(3, 32, 32, dtype=torch.uint8)
    found = np.asarray(marked(black, torch.tensor([[0.0, 1.0], [2.0, 4.0]])))
    colours = [found[y, x].tolist() for y, x in ((64, 64), (64, 192), (192, 64), (192, 192))]
    assert colours == [[int(0.85 * share * level) for level in ORANGE] for share in (0, 0.25, 0.5, 1)]
    white = np.asarray(marked(255 - black, torch.zeros(2, 2)))
    assert white.min() == white.max() and 150 < white.max() <= 153  # 60 % of 255


def test_a_training_image_is_its_own_nearest(inspector: Inspector) -> None:
    image = inspector._neighbours.images[7]
    found = inspector.neighbours(image, k=3)
    assert found is not None and len(found) == 3
    assert found[0].caption == "similarity 1.00" and found[0].picture is not None
    assert np.array_equal(np.asarray(found[0].picture), image.permute(1, 2, 0).numpy())
    similarities = [float(figure.caption.split()[1]) for figure in found]
    assert similarities == sorted(similarities, reverse=True)


def test_images_that_are_not_there_are_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    inspector = Inspector(PUBLISHED / "fast_4m")
    assert not inspector.measuring.running and not inspector.measured
    assert (
        inspector.measuring.status
        == "The images of cifar100 are not in data; give their directory with data.root=PATH."
    )
    image = inspector.see(DIGIT)
    assert inspector.neighbours(image) is None
    assert inspector.look(image)[1].caption == "Attention rollout over 3 x 3 cells"
    assert find(inspector.run, NEIGHBOURS) is None


def test_what_cannot_be_measured_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the process of the fixture `inspector` does, in this one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("os.nice", lambda by: 0)
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    (tmp_path / "cifar-100-python").mkdir()
    for name in ("train", "test", "meta"):
        (tmp_path / "cifar-100-python" / name).write_bytes(b"no pickle")
    said: list[str] = []
    measure(PUBLISHED / "fast_4m", str(tmp_path), SimpleNamespace(send=said.append))
    assert "is truncated or altered" in said[-1] and find(PUBLISHED / "fast_4m", NEIGHBOURS) is None


def write_black(path: Path, side: int) -> None:
    """A black PNG, written without a decoded copy in memory."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    lines = zlib.compress(bytes(side * (1 + (side + 7) // 8)), 1)
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", lines) + chunk(b"IEND", b""))


def hostile(folder: Path) -> dict[str, Path]:
    """Files that are no images, or too large; each is named after what is wrong with it."""
    (folder / "noise.png").write_bytes(np.random.default_rng(0).bytes(10_000_000))
    with zipfile.ZipFile(folder / "archive.jpg", "w") as archive:
        archive.write(DIGIT)
    write_black(folder / "bomb.png", 20_000)
    write_black(folder / "large.png", 8_000)
    (folder / "cut.png").write_bytes(Path(DIGIT).read_bytes()[:100])
    (folder / "drawing.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>')
    (folder / "empty.png").touch()
    return {path.name: path for path in sorted(folder.iterdir())}


def test_hostile_files_are_refused_in_a_sentence_and_named(inspector: Inspector, tmp_path: Path) -> None:
    for name, path in hostile(tmp_path).items():
        with pytest.raises(UserError, match=f"^{name} cannot be read as an image") as refused:
            inspector.see(str(path))
        assert str(tmp_path) not in str(refused.value) and "\n" not in str(refused.value)
    with pytest.raises(UserError, match="8000 x 8000 pixels, more than 50 million"):
        inspector.see(str(tmp_path / "large.png"))


@pytest.mark.skipif(
    not STATUS.exists() or "VmHWM" not in STATUS.read_text(), reason="the peak of memory is read from /proc"
)
def test_refusing_takes_no_memory(inspector: Inspector, tmp_path: Path) -> None:
    """The largest picture that Pillow opens without a limit of ours is 500 MB and more when it is decoded."""

    def peak() -> int:
        """In KiB."""
        return next(int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))

    write_black(tmp_path / "bomb.png", 13_000)
    reset_peak_memory()
    before = peak()
    with pytest.raises(UserError):
        inspector.see(str(tmp_path / "bomb.png"))
    assert peak() - before < 50_000
