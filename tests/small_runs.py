"""Small whole runs on digits, and what is compared of them."""

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from lightning.pytorch import Callback

from hybrid_vit.config.compose import as_train, compose_config, resolve
from hybrid_vit.training.callbacks import Stopped, latest
from hybrid_vit.training.run import train

TINY = [
    *("data=digits", "augment=light", "logger=none", "accelerator=cpu", "epochs=3"),
    *("data.fraction=0.2", "batch_size=51"),  # 252 images, the last batch of 48
    *("model.embed_dim=32", "model.depth=1", "model.stem.depth=2", "model.stem.grid=8", "optim.warmup_epochs=1"),
]


# The quickstart for `hybrid_vit.fit`, in half a second.
QUICK = {
    **{"experiment": "quickstart", "logger": "none", "steps": 5, "accelerator": "cpu"},
    **{"model.embed_dim": 32, "model.depth": 1, "model.stem.channels": [8, 16, 32]},
}

TIMES = ("seconds", "images_per_second")


@contextmanager
def no_pictures() -> Iterator[None]:
    """A training draws none of its pictures, which take longer than its steps."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("learning_curve", "confusion_matrix", "examples"):
            patch.setattr(f"hybrid_vit.training.run.{name}", lambda *what, **how: None)
        yield


def run(directory: Path, *overrides: str, resume: bool = False, callbacks: Sequence[Callback] = ()) -> float:
    directory.mkdir(exist_ok=True)
    checkpoint = latest(directory / "checkpoints") if resume else None
    return train(
        as_train(resolve(compose_config([*TINY, *overrides]))), directory, checkpoint=checkpoint, callbacks=callbacks
    )


def rows(directory: Path) -> list[dict[str, str]]:
    """metrics.csv without what the clock decides."""
    with (directory / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]


def summary(directory: Path) -> dict:
    return json.loads((directory / "summary.json").read_text())


def assert_same_run(a: Path, b: Path) -> None:
    assert (a / "model.safetensors").read_bytes() == (b / "model.safetensors").read_bytes()
    assert rows(a) == rows(b)
    assert summary(a)["scores"] == summary(b)["scores"]
    assert (summary(a)["state"], summary(b)["state"]) == ("done", "done")


def stop() -> None:
    raise Stopped("here")
