"""One trial: a run without its test, that ends early when it is hopeless, and how it ended."""

import csv
import json
import shutil
import signal
from pathlib import Path

import pytest
import torch

from hybrid_vit.config.compose import as_train, compose_config, resolve
from hybrid_vit.config.schema import Train
from hybrid_vit.data.module import DataModule
from hybrid_vit.studies.search.trial import RIVALS, attempt, hopeless
from hybrid_vit.training.callbacks import Stopped, latest
from hybrid_vit.training.run import train
from hybrid_vit.training.task import Classification

TINY = [
    *("data=digits", "augment=none", "logger=none", "accelerator=cpu", "epochs=3"),
    *("data.fraction=0.2", "batch_size=51"),  # 252 images, 5 steps an epoch
    *("model.embed_dim=32", "model.depth=1", "model.stem.depth=2", "model.stem.grid=8", "optim.warmup_epochs=1"),
]

pytestmark = pytest.mark.usefixtures("without_pictures")


def spec(*overrides: str) -> Train:
    return as_train(resolve(compose_config([*TINY, *overrides])))


def make(trials: Path, number: int) -> Path:
    directory = trials / f"{number:04d}"
    directory.mkdir()
    return directory


def rows(directory: Path) -> list[dict[str, str]]:
    with (directory / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("accuracy", "rivals", "images", "expected"),
    [
        (50.0, [54.0] * 3, 5000, True),  # two errors of the difference are 2 points
        (50.0, [51.9] * 9, 5000, False),
        (50.0, [54.0] * 2 + [51.0] * 9, 5000, False),
        (50.0, [54.0] * 3 + [10.0] * 9, 5000, True),
        (50.0, [54.0] * 3, 500, False),  # 6.3 points
        (50.0, [57.0] * 3, 500, True),
        (0.0, [0.0] * 9, 5000, False),
        (100.0, [100.0] * 9, 5000, False),
        (50.0, [], 5000, False),
    ],
)
def test_hopeless(accuracy: float, rivals: list[float], images: int, expected: bool) -> None:
    assert hopeless(accuracy, rivals, images=images) == expected


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trial that nobody interrupted, with its end in trial.json."""
    directory = make(tmp_path_factory.mktemp("trials"), 0)

    def refuse(data: DataModule) -> None:
        raise AssertionError("the test set was looked at")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DataModule, "test_dataloader", refuse)
        end = attempt(spec(), directory, "macs")
    (directory / "trial.json").write_text(json.dumps(end))
    return directory


def test_a_trial_is_a_run_without_its_test(whole: Path) -> None:
    end, summary = (json.loads((whole / name).read_text()) for name in ("trial.json", "summary.json"))
    assert end == {
        **{"state": "complete", "val_top1": float(rows(whole)[-1]["val_top1"]), "epochs": 3},
        **{key: summary[key] for key in ("macs", "parameters", "seconds")},
        "step_seconds": json.loads((whole / "cost.json").read_text())["step_seconds"],
    }
    assert end["step_seconds"] > 0
    assert "scores" not in summary


def test_the_test_set_is_scored_when_the_run_is_continued(whole: Path, tmp_path: Path) -> None:
    run = shutil.copytree(whole, tmp_path / "run")
    train(spec(), run, checkpoint=latest(run / "checkpoints"))
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["state"], rows(run)) == ("done", rows(whole))
    assert summary["scores"]["test_top1"] > 0


def rival(trials: Path, number: int, macs: int, top1: list[float], state: str = "complete") -> None:
    directory = make(trials, number)
    (directory / "trial.json").write_text(json.dumps({"state": state, "macs": macs}))
    (directory / "metrics.csv").write_text("\n".join(["epoch,val_top1", *(f"{n},{y}" for n, y in enumerate(top1))]))


@pytest.mark.parametrize("better", [RIVALS, RIVALS - 1])
def test_a_hopeless_trial_ends_early(tmp_path: Path, better: int) -> None:
    macs = 10**9
    for number in range(better):
        rival(tmp_path, number, macs // 10**6, [95.0, 99.0, 99.0], "complete" if number else "pruned")
    rival(tmp_path, 5, macs * 10**3, [95.0, 99.0, 99.0])  # costs more
    rival(tmp_path, 6, 1, [10.0, 11.0, 12.0])  # is no better
    rival(tmp_path, 7, 1, [95.0])  # did not come so far
    rival(tmp_path, 8, 1, [95.0, 99.0, 99.0], "failed")
    end = attempt(spec("optim.lr=1e-6", "epochs=4"), make(tmp_path, 9), "macs")
    if better == RIVALS:  # the first epoch is within the first third
        assert (end["state"], end["epochs"]) == ("pruned", 2)
        assert f"after 2 epochs {RIVALS} trials that cost no more are better than" in end["why"]
        assert end["val_top1"] == float(rows(tmp_path / "0009")[-1]["val_top1"])
    else:
        assert (end["state"], end["epochs"]) == ("complete", 4)


def test_what_cannot_be_built_costs_nothing(tmp_path: Path) -> None:
    end = attempt(spec("model.num_heads=5"), tmp_path, "macs")
    assert end["state"] == "infeasible"
    assert "embed_dim 32 is not divisible by num_heads 5" in end["why"]
    assert not list(tmp_path.iterdir())


def test_a_trial_that_stops_early_is_complete_and_leaves_the_test_set_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(DataModule, "test_dataloader")
    stopping = ["early_stopping.patience=1", "early_stopping.monitor=val_top1", "optim.lr=1e-9"]
    end = attempt(spec("epochs=20", "trainer.accumulate_grad_batches=5", *stopping), tmp_path, "macs")
    assert end["state"] == "complete" and end["epochs"] < 20
    assert "scores" not in json.loads((tmp_path / "summary.json").read_text())


def test_what_fails_in_training_is_said(tmp_path: Path) -> None:
    end = attempt(spec("optim.lr=1e30", "optim.clip_norm=null"), tmp_path, "macs")
    assert end["state"] == "failed"
    assert "became nan" in end["why"] or "became inf" in end["why"]
    assert end["macs"] > 0
    assert "Traceback" in (tmp_path / "train.log").read_text()


def test_an_interrupted_trial_continues_and_is_the_one_that_never_was(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, directory, steps = Classification.training_step, make(tmp_path, 0), []

    def training_step(task: Classification, batch, batch_idx: int):
        steps.append(task.global_step)
        if len(steps) == 8:
            signal.raise_signal(signal.SIGINT)
        return step(task, batch, batch_idx)

    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(Classification, "training_step", training_step)
    with pytest.raises(Stopped, match="SIGINT"):
        attempt(spec(), directory, "macs")
    assert signal.getsignal(signal.SIGINT) is handler  # between trials the command handles Ctrl-C
    assert torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 8
    end = attempt(spec(), directory, "macs")
    assert steps == [*range(15)]
    same = json.loads((whole / "trial.json").read_text())
    changing = ("seconds", "step_seconds")
    assert {key: end[key] for key in end if key not in changing} == {
        key: same[key] for key in same if key not in changing
    }


def test_an_interrupt_in_the_last_validation_ends_the_search(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, directory = Classification.validation_step, make(tmp_path, 0)

    def validation_step(task: Classification, *arguments):
        if task.trainer.current_epoch == 2:
            signal.raise_signal(signal.SIGINT)
        return step(task, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Classification, "validation_step", validation_step)
        with pytest.raises(Stopped, match="SIGINT"):
            attempt(spec(), directory, "macs")
    end = attempt(spec(), directory, "macs")  # it is trained already
    assert (end["state"], rows(directory)[-1]["val_top1"]) == ("complete", rows(whole)[-1]["val_top1"])


def test_a_trial_that_needs_too_much_memory_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def training_step(task: Classification, batch, batch_idx: int):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(Classification, "training_step", training_step)
    end = attempt(spec(), tmp_path, "macs")
    assert end["state"] == "failed" and "can't allocate memory" in end["why"]
