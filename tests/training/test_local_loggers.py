"""Lightning's loggers in the run directory: what a run leaves there."""

import csv
import sys
from pathlib import Path

import pytest
from stopping import OneEpoch

from hybrid_vit.config.compose import as_train, compose_config, resolve
from hybrid_vit.config.validation import check_together
from hybrid_vit.training.callbacks import Stopped, latest
from hybrid_vit.training.run import train
from hybrid_vit.utils.errors import MissingPackage

TINY = [
    *("data=digits", "augment=none", "accelerator=cpu", "epochs=2", "trainer.log_every_n_steps=2"),
    *("data.fraction=0.2", "batch_size=51"),
    *("model.embed_dim=32", "model.depth=1", "model.stem.depth=2", "model.stem.grid=8"),
]


def run(directory: Path, logger: str) -> None:
    """A run of two epochs of five steps that was stopped after the first."""
    config = as_train(resolve(compose_config([*TINY, f"logger={logger}"])))
    with pytest.raises(Stopped):
        train(config, directory, callbacks=[OneEpoch()])
    train(config, directory, checkpoint=latest(directory / "checkpoints"))


def test_csv_has_steps_epochs_and_the_result(tmp_path: Path, without_pictures: None) -> None:
    run(tmp_path, "csv")
    parts = []
    for version in range(2):
        with (tmp_path / "csv" / f"version_{version}" / "metrics.csv").open() as file:
            parts.append(list(csv.DictReader(file)))
    steps = [[int(row["step"]) for row in part if row["train_loss_step"]] for part in parts]
    assert steps == [[1, 3, 5], [6, 8, 10]]
    assert [[row["step"] for row in part if row["val_top1"]] for part in parts] == [["5"], ["10"]]
    assert [row["step"] for row in parts[1] if row["test_top1"]] == ["10"]
    assert "batch_size: 51" in (tmp_path / "csv" / "version_0" / "hparams.yaml").read_text()


def test_tensorboard_has_steps_epochs_pictures_and_the_result(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run(tmp_path, "tensorboard")
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("val_top1")] == [5, 10]
    assert [event.step for event in events.Scalars("train_loss_step")] == [1, 3, 5, 6, 8, 10]
    assert [event.step for event in events.Scalars("test_top1")] == [10]
    assert {*events.Tags()["images"]} == {"augmented", "learning_curve", "confusion"}
    assert "batch_size: 51" in (tmp_path / "tensorboard" / "hparams.yaml").read_text()
    assert any(b"batch_size" in content for content in events.PluginTagToContent("hparams").values())


def test_tensorboard_that_is_absent_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(
        MissingPackage, match=r"logger=tensorboard needs tensorboard: pip install -e '\.\[tensorboard\]'"
    ):
        check_together(resolve(compose_config([*TINY, "logger=tensorboard"])))
