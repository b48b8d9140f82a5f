"""`hybrid_vit.evaluate` reports what training reported, and says in a sentence what it cannot find."""

import csv
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import no_pictures
from torch import nn

from hybrid_vit import evaluate
from hybrid_vit.config.compose import as_train, compose_config, resolve
from hybrid_vit.data.sources import SOURCES, Source, digits
from hybrid_vit.deploy import scoring
from hybrid_vit.deploy.scoring import load_data
from hybrid_vit.deploy.trained import load
from hybrid_vit.training.run import train

TINY = [
    *("data=digits", "data.fraction=0.2", "logger=none", "accelerator=cpu"),
    *("epochs=2", "batch_size=64", "optim.warmup_epochs=1"),
]
SMALL = ["model.embed_dim=32", "model.depth=1", "model.stem.grid=8"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run")
    with no_pictures():
        train(as_train(resolve(compose_config([*TINY, *SMALL]))), directory)
    return directory


def test_a_test_set_that_has_changed_is_said(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def other(root: str | None) -> Source:
        source = digits(root)
        return source._replace(test_images=source.test_images[:-7], test_labels=source.test_labels[:-7])

    monkeypatch.setitem(SOURCES, "digits", other)
    call(monkeypatch, f"run={run}", f"hydra.run.dir={tmp_path}")
    assert "not comparable: since training there are 7 fewer test images" in capsys.readouterr().out
    assert json.loads((tmp_path / "evaluation.json").read_text())["differences"] == ["7 fewer test images"]


def test_a_run_on_some_batches_is_said(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = shutil.copytree(run, tmp_path / "<i>trial")
    marked = json.loads((trial / "summary.json").read_text()) | {"limited": {"train_batches": 2}}
    (trial / "summary.json").write_text(json.dumps(marked | {"protocol": "limited to train_batches=2"}))
    call(monkeypatch, f"run={trial}", f"hydra.run.dir={tmp_path / 'out'}")
    assert "trained on some batches only; limited to train_batches=2" in capsys.readouterr().out
    assert (tmp_path / "out" / "evaluation.md").read_text().startswith("# &lt;i&gt;trial: 359 test images")
    (trial / "summary.json").write_text(json.dumps(marked | {"limited": {"val_batches": 2}}))  # it learned from all
    call(monkeypatch, f"run={trial}", f"hydra.run.dir={tmp_path / 'out'}")
    assert "not comparable" not in capsys.readouterr().out


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str, drawn: bool = False) -> None:
    if not drawn:
        monkeypatch.setattr("hybrid_vit.evaluation.plots.confusion_matrix", lambda *what, **how: None)
    monkeypatch.setattr(sys, "argv", ["hybrid-vit-evaluate", "accelerator=cpu", *arguments])
    evaluate.main()


def test_equals_what_training_reported(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    call(monkeypatch, f"run={run}", f"hydra.run.dir={out}", drawn=True)
    scores = json.loads((out / "evaluation.json").read_text())["test"]
    reported = json.loads((run / "summary.json").read_text())["scores"]
    assert {f"test_{key}": value for key, value in scores.items()} == {
        key: value for key, value in reported.items() if key.startswith("test_")
    }
    with (out / "per_class.csv").open() as file:
        classes = list(csv.DictReader(file))
    images = [int(row["images"]) for row in classes]
    assert sum(images) == 359
    hits = sum(n * float(row["top1"]) / 100 for n, row in zip(images, classes, strict=True))
    assert 100 * hits / 359 == pytest.approx(scores["top1"], abs=1e-3)
    assert (out / "confusion.png").read_bytes().startswith(b"\x89PNG")
    assert f"{scores['top1']:.3f}" in capsys.readouterr().out
    page = (out / "evaluation.md").read_text()
    assert f"Top-1: {scores['top1']:.2f} % (" in page and "| ece |" in page and f"| {classes[0]['class']} |" in page


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("", "run is missing"),
        ("run=nowhere", "not a run directory"),
        ("fast_4m record_4m", "one run at a time; for several give -m run=A,B"),
        ("fast_4m run=record_4m", "one run at a time; for several give -m run=A,B"),
        ("run=fast_4m run=record_4m", "run=fast_4m and run=record_4m would be 2 runs"),
        ("outputs/sweeps/seedz/seed=0", "outputs/sweeps/seedz/seed=0 is not a run directory"),
    ],
)
def test_a_run_that_is_not_there(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    argument: str,
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        call(monkeypatch, *argument.split())
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_mirror_images_are_scored_beside(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, f"run={run}", f"hydra.run.dir={tmp_path}", "tta=true", "accelerator.precision=32-true")
    trained, content = load(run), json.loads((tmp_path / "evaluation.json").read_text())
    data = load_data(trained, {})
    right = 0
    with torch.inference_mode():
        for images, labels, _ in data.test_dataloader():
            images = data.normalize(images)
            mean = (trained(images).softmax(1) + trained(images.flip(3)).softmax(1)) / 2
            right += int((mean.argmax(1) == labels).sum())
    assert content["tta"]["top1"] == pytest.approx(100 * right / content["images"])
    assert content["tta"].keys() == content["test"].keys()
    assert "with mirror images" in capsys.readouterr().out


@pytest.mark.parametrize(("precision", "dtype"), [("64-true", torch.float64), ("32-true", torch.float32)])
def test_it_computes_in_the_precision_that_was_asked_for(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, dtype: torch.dtype
) -> None:
    seen = []

    def score(net: nn.Module, *args: Any, **how: Any) -> Any:
        seen.append(next(net.parameters()).dtype)
        return scored(net, *args, **how)

    scored = scoring.score
    monkeypatch.setattr(scoring, "score", score)
    call(monkeypatch, f"run={run}", f"hydra.run.dir={tmp_path}", f"accelerator.precision={precision}")
    assert seen == [dtype]
