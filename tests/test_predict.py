"""Classifying images from the command line: places, formats, broken files."""

import csv
import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import hybrid_vit
from hybrid_vit import predict
from hybrid_vit.cli import command
from hybrid_vit.deploy.prediction import find_images, json_lines
from hybrid_vit.deploy.trained import Trained
from hybrid_vit.utils.errors import UserError

DIGIT = Path(__file__).parents[1] / "docs" / "digit.png"


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three images of several kinds, a text, and a broken file."""
    folder = tmp_path / "photos"
    (folder / "inner").mkdir(parents=True)
    shutil.copy(DIGIT, folder / "a.png")
    noise = np.random.default_rng(0).integers(0, 256, (40, 30, 4), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "inner" / "b, c=d.png")
    Image.fromarray(noise[..., 0]).save(folder / "inner" / "grey.JPG")
    (folder / "notes.txt").write_text("no image")
    (folder / "z.png").write_bytes(DIGIT.read_bytes()[:100])
    shutil.copy(DIGIT, folder / "._a.png")  # as an archive of macOS holds
    monkeypatch.chdir(tmp_path)
    return folder


def call(monkeypatch: pytest.MonkeyPatch, *argv: str) -> int:
    monkeypatch.setattr(sys, "argv", ["predict", "model=quickstart", *argv])
    try:
        predict.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_places_are_files_folders_patterns_and_names_on_stdin(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [images / "a.png", images / "inner" / "b, c=d.png", images / "inner" / "grey.JPG", images / "z.png"]
    assert find_images([str(images)]) == whole
    assert find_images(["photos/**"]) == [path.relative_to(images.parent) for path in whole]  # each once
    assert find_images(["photos/*.png", "photos/inner/grey.JPG"]) == [
        *(Path("photos") / name for name in ("a.png", "z.png")),
        Path("photos/inner/grey.JPG"),
    ]
    monkeypatch.setattr(sys, "stdin", io.StringIO("photos/a.png\n\nphotos/inner/b, c=d.png\r\n"))
    assert find_images(["-"]) == [Path("photos/a.png"), Path("photos/inner/b, c=d.png")]
    Path("empty").mkdir()
    for places, named in ((["empty"], "empty;"), (["photos/none.png", "empty"], "photos/none.png and 1 more;")):
        with pytest.raises(ValueError, match=f"no image was found at {named}"):
            find_images(places)


def test_a_name_on_stdin_that_is_no_image_is_named_and_the_others_go_on(
    images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    names = b"photos/none.png\n\xff.png\nempty\nphotos/a.png\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(names), encoding="utf-8"))
    assert call(monkeypatch, "-", "format=csv") == 1
    said = capsys.readouterr()
    rows = [*csv.DictReader(io.StringIO(said.out))]
    assert [bool(row["error"]) for row in rows] == [True, True, True, False]
    assert "photos/none.png cannot be read" in rows[0]["error"] and "3 of 4 images could not be read" in said.err
    assert find_images(["*"]) == find_images(["photos"])  # a folder without images is nothing to complain of there


def test_a_place_without_an_image_is_named_and_the_others_go_on(
    images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    (images / "broken.png").symlink_to("nowhere")
    places = ["photos/none.png", "empty", "photos/b*.png", "no/*.png", f"{300 * 'x'}.png", "photos/a.png"]
    assert call(monkeypatch, *places, "format=csv") == 1
    said = capsys.readouterr()
    rows = [*csv.DictReader(io.StringIO(said.out))]
    assert [row["path"] for row in rows] == [*places[:2], "photos/broken.png", *places[3:]]
    assert [bool(row["error"]) for row in rows] == [True] * 5 + [False]
    assert "File name too long" in rows[4]["error"] and "5 of 6 images could not be read" in said.err


def test_a_picture_that_needs_too_much_memory_is_named(
    images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read = Trained.preprocess

    def preprocess(trained: Trained, source: object) -> torch.Tensor:
        if Path(str(source)).name == "a.png":
            raise MemoryError
        return read(trained, source)

    shutil.copy(DIGIT, images / "whole.png")
    monkeypatch.setattr(Trained, "preprocess", preprocess)
    assert call(monkeypatch, "photos/a.png", "photos/whole.png", "format=csv") == 1
    rows = [*csv.DictReader(io.StringIO(capsys.readouterr().out))]
    assert [row["error"].rpartition("; ")[2] for row in rows] == ["make it smaller", ""]


def test_a_file_on_stdin_is_no_list_of_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(DIGIT.read_bytes()), encoding="utf-8"))
    with pytest.raises(ValueError, match="the standard input is not a list of names"):
        find_images(["-"])


def test_what_folders_and_patterns_leave_out_is_told_once(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (images / "phone.heic").write_bytes(b"?")
    whole = find_images(["photos"])
    assert capsys.readouterr().err == "left out: 1 x .heic file, 1 x .txt file, 1 x hidden\n"
    assert find_images(["photos/*"]) == whole
    assert capsys.readouterr().err == "left out: 1 x .heic file, 1 x .txt file\n"
    assert find_images(["photos/*.heic", "photos/phone.heic"])[1:] == [Path("photos/phone.heic")]  # named as a file
    with pytest.raises(ValueError, match="no image was found at photos"):
        find_images(["photos/*.heic"])


def test_the_home_directory_may_be_in_patterns_and_names_on_stdin(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(images.parent))
    monkeypatch.setattr(sys, "stdin", io.StringIO("~/photos/a.png\n"))
    assert find_images(["~/photos/*.png", "-"]) == [images / "a.png", images / "z.png", images / "a.png"]


def test_a_path_with_an_equals_sign_is_no_setting(
    images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "lr=0.1").mkdir()
    shutil.copy(DIGIT, images / "lr=0.1" / "a.png")
    assert call(monkeypatch, "photos/lr=0.1/*.png", "photos/lr=0.1/none.png", "format=csv") == 1
    rows = [*csv.DictReader(io.StringIO(capsys.readouterr().out))]
    expected = [("photos/lr=0.1/a.png", False), ("photos/lr=0.1/none.png", True)]
    assert [(row["path"], bool(row["error"])) for row in rows] == expected
    monkeypatch.chdir(images)
    assert call(monkeypatch, "lr=*/a.png", "format=csv") == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("lr=0.1/a.png,,")
    assert call(monkeypatch, "a.png", "formt=json") == 2
    assert "formt is not a key; did you mean format?" in capsys.readouterr().err


def test_json_lines_are_the_predictions_of_python_and_a_broken_file_is_named(
    images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(images.parent.rglob("*"))
    assert call(monkeypatch, "photos", "format=json", "top=3", "batch_size=2") == 1
    said = capsys.readouterr()
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert [row["path"] for row in rows] == [str(path) for path in find_images(["photos"])]
    assert "photos/z.png cannot be read" in rows[-1]["error"] and "1 of 4 images could not be read" in said.err
    for row in rows[:-1]:
        expected = [*hybrid_vit.load("quickstart").predict(row["path"]).probabilities.items()][:3]
        assert [each["label"] for each in row["predictions"]] == [label for label, _ in expected]
        assert [each["probability"] for each in row["predictions"]] == pytest.approx(
            [share for _, share in expected], rel=1e-4
        )
    assert sorted(images.parent.rglob("*")) == before  # nothing is written


def test_json_is_valid_whatever_the_encoding(images: Path) -> None:
    for encoding in ("utf-8", "ascii", "latin-1"):
        out = io.TextIOWrapper(io.BytesIO(), encoding, errors="backslashreplace")
        json_lines(out, [DIGIT], [], 1)((Path("é😀.png"), UserError("ü")))
        out.seek(0)
        assert json.loads(out.read()) == {"path": "é😀.png", "error": "ü"}


@pytest.mark.parametrize("fast", ["false", "true"])
def test_the_digit_is_read_in_every_format(
    images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fast: str
) -> None:
    label = hybrid_vit.load("quickstart").predict(DIGIT).label
    assert call(monkeypatch, "photos/a.png", "top=2", f"fast={fast}") == 0
    path, first, share, percent, *_ = capsys.readouterr().out.split()
    assert (path, first, percent) == ("photos/a.png", label, "%") and float(share) > 50
    assert call(monkeypatch, "photos/inner/b, c=d.png", "photos/a.png", "format=csv", "top=2", f"fast={fast}") == 0
    rows = [*csv.DictReader(io.StringIO(capsys.readouterr().out))]
    assert [row["path"] for row in rows] == ["photos/inner/b, c=d.png", "photos/a.png"]
    assert rows[1]["label_1"] == label and float(rows[1]["probability_1"]) > float(rows[1]["probability_2"])


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ([], "no image was given"),
        (["-"], "the standard input names no image"),
        (["photos", "model=nothing"], "and run=nothing would be 2 runs"),
        (["photos", "format=xml"], "format is one of table, json, csv"),
        (["nowhere.png"], "no image was found at nowhere.png"),
    ],
)
def test_mistakes_are_a_sentence(
    images: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    sentence: str,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert call(monkeypatch, *argv) in (1, 2)
    said = capsys.readouterr()
    assert sentence in said.err and said.err.count("\n") == 1 and not said.out


def test_options_end_at_two_dashes(
    images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "--", "photos/a.png") == 0
    assert "photos/a.png" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["predict", "model=nothing", "photos"])
    with pytest.raises(SystemExit):
        predict.main()
    assert "nothing is not a run directory" in capsys.readouterr().err


def test_nothing_is_written_where_the_command_is_called(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*what: object, **how: object) -> None:
        raise PermissionError

    monkeypatch.setattr(command.tempfile, "TemporaryDirectory", refuse)
    before = {*images.parent.rglob("*")}
    assert call(monkeypatch, "photos/a.png") == 0
    assert {*images.parent.rglob("*")} == before
