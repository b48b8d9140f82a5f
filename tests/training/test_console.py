"""What a run says: its first lines, its progress bar, what to do next."""

from pathlib import Path
from typing import Any

import pytest
from small_runs import run, summary

from hybrid_vit.config.schema import Data
from hybrid_vit.training.callbacks import Stopped
from hybrid_vit.training.console import show

pytestmark = pytest.mark.usefixtures("without_pictures")


def test_the_bar_shows_epoch_and_loss_from_the_first_step_and_scoring_has_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Screen:
        disable = False

        def __init__(self, *, total: int, desc: str = "training", initial: int = 0, **options: Any) -> None:
            self.desc, self.total, self.n, self.shown = desc, total, initial, []
            bars.append(self)

        def update(self, n: int = 1) -> None:
            self.n += n

        def set_postfix(self, refresh: bool, **values: str) -> None:
            self.shown.append((self.n, values))

        def close(self) -> None:
            self.closed = True

    bars: list[Screen] = []
    monkeypatch.setattr("hybrid_vit.training.progress.tqdm", Screen)
    with pytest.raises(Stopped):
        run(tmp_path / "stopped", "trainer.max_time=0.001s")
    assert [bar.closed for bar in bars] == [True]
    bars.clear()
    run(tmp_path, "epochs=2", "data.eval_batch_size=60", "trainer.log_every_n_steps=2")
    whole, *scorings = bars
    assert (whole.desc, whole.n, whole.total, whole.closed) == ("training", 10, 10, True)
    assert [(n, values["epoch"], "val_top1" in values) for n, values in whole.shown] == [
        *((0, "1 of 2", False), (2, "1 of 2", False), (4, "1 of 2", False)),
        *((5, "2 of 2", True), (7, "2 of 2", True), (9, "2 of 2", True)),
    ]
    assert all(float(values["loss"]) > 0 for _, values in whole.shown)
    assert [(bar.desc, bar.n, bar.total, bar.closed) for bar in scorings] == 2 * [("validation", 3, 3, True)]


def test_what_to_do_next(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    scores = {"test_top1": 50.0}
    summary = {"scores": scores, "parameters": 1, "steps": 2, "epochs": 1.0, "seconds": 1, "images_per_second": 1}
    for source, same in [
        ({"source": "digits", "root": None}, "train experiment=fast_4m"),
        ({"source": "cifar10", "root": "data"}, "predict 'model=a run' IMAGES"),
        ({"source": "digits", "root": None}, "evaluate 'run=a run'"),
    ]:
        show(summary | {"device": "cpu"}, Path("a run"), Data(**source))
        assert same in caplog.records[-1].getMessage()


def test_tags_and_what_is_said_at_the_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    run(tmp_path / "brief", "steps=6", "tags=[short,'a b']")
    assert summary(tmp_path / "brief")["tags"] == ["short", "a b"]
    parameters = summary(tmp_path / "brief")["parameters"]
    assert f"hybrid_192: {parameters:,} parameters, " in caplog.text
    assert "images: 252 train, 359 test, 180 val; 6 steps" in caplog.text
    assert "adamw, lr 0.0004, cosine, warm-up of 1 epochs" in caplog.text and "blocks " in caplog.text
    assert "label_smoothing: 0.05" not in caplog.text
    run(tmp_path / "verbose", "steps=6", "verbose=true")
    assert "label_smoothing: 0.05" in caplog.text
    assert "net.blocks" in caplog.text and "Trainable params" in caplog.text
