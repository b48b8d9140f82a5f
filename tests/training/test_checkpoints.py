"""Checkpoints that are damaged, foreign or cut off by a full disk; no weights that are not finite are kept."""

import errno
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from small_runs import assert_same_run, run, summary

from hybrid_vit.training.callbacks import LAST, PREVIOUS, CheckpointFiles, Stopped, latest
from hybrid_vit.training.run import Run
from hybrid_vit.training.task import Classification

pytestmark = pytest.mark.usefixtures("without_pictures")


def test_a_damaged_checkpoint_is_noticed_and_the_one_before_is_taken(
    whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Path(shutil.copytree(whole / "checkpoints", tmp_path / "checkpoints"))
    last, previous = checkpoints / LAST, checkpoints / PREVIOUS
    assert latest(checkpoints) == last
    content = last.read_bytes()
    before = torch.load(last, weights_only=True)["state_dict"]
    noticed = 0
    for part in range(20):
        position = len(content) * part // 20 + part
        last.write_bytes(content[:position] + bytes([content[position] ^ 1 << part % 8]) + content[position + 1 :])
        found = latest(checkpoints)
        if found == previous:
            noticed += 1
        else:  # a bit of the archive's padding
            after = torch.load(last, weights_only=True)["state_dict"]
            assert all(torch.equal(before[key], after[key]) for key in before)
    assert noticed > 10
    assert f"{last} cannot be used (it is damaged, its checksum differs), so the run continues from" in caplog.text


class Attack:
    def __reduce__(self):
        return os.system, ("touch attacked",)


@pytest.mark.parametrize("kind", ["empty", "half", "text", "foreign", "list", "attack", "old attack"])
def test_what_is_no_checkpoint_is_one_sentence_and_not_executed(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "checkpoints" / LAST
    path.parent.mkdir()
    match kind:
        case "empty":
            path.touch()
        case "half":
            content = (whole / "checkpoints" / LAST).read_bytes()
            path.write_bytes(content[: len(content) // 2])
        case "text":
            path.write_text("state")
        case "foreign":
            torch.save({"model": {}}, path)
        case "list":
            torch.save([1], path)
        case "attack":
            torch.save({"state_dict": Attack()}, path)
        case "old attack":
            path.write_bytes(pickle.dumps(Attack()))
    with pytest.raises(ValueError, match=r"last\.ckpt cannot be used \(it is .*\); copy a whole one there, or delete"):
        latest(path.parent)
    assert not (tmp_path / "attacked").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full disk")
def test_a_full_disk_keeps_the_last_checkpoint_and_says_so(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch's writer reports a full disk as a RuntimeError; so does this file, which every Linux has."""
    with pytest.raises(Stopped):
        run(tmp_path, "trainer.max_time=0.001s")
    before = (tmp_path / "checkpoints" / LAST).read_bytes()
    monkeypatch.setattr(torch, "save", lambda state, path, save=torch.save: save(state, "/dev/full"))
    with pytest.raises(OSError, match="No space left"):
        run(tmp_path, resume=True)
    monkeypatch.undo()
    assert summary(tmp_path)["state"] == "failed" and "the disk is full" in summary(tmp_path)["reason"]
    assert (tmp_path / "checkpoints" / LAST).read_bytes() == before
    assert not list(tmp_path.rglob("*.partial"))
    run(tmp_path, resume=True)
    assert_same_run(whole, tmp_path)


def test_on_a_full_disk_the_summary_says_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fit(self: Run, callbacks: object) -> None:
        monkeypatch.setattr("os.fsync", full)  # from now on no new file can be written
        full()

    monkeypatch.setattr(Run, "fit", fit)
    with pytest.raises(OSError, match="No space left"):
        run(tmp_path)
    assert summary(tmp_path)["state"] == "failed" and "the disk is full" in summary(tmp_path)["reason"]
    assert not list(tmp_path.rglob("*.partial"))


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Classification.training_step

    def training_step(task: Classification, batch, batch_idx: int):
        return step(task, batch, batch_idx) * (float("nan") if task.global_step >= 8 else 1)

    monkeypatch.setattr(Classification, "training_step", training_step)
    with pytest.raises(
        ValueError, match=r"the train_loss became nan.*last good checkpoint is .*last\.ckpt; try a smaller"
    ):
        run(tmp_path, "trainer.log_every_n_steps=4")  # those of the last two are not looked at
    assert summary(tmp_path)["state"] == "failed"
    weights = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_weights_that_are_not_finite_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of the step that spoils the weights is still finite."""
    step = Classification.training_step

    def training_step(task: Classification, batch, batch_idx: int):
        loss = step(task, batch, batch_idx)
        if task.global_step == 9:  # the last of the second epoch
            loss = loss + (sum(p.sum() for p in task.net.parameters()) * 0).sqrt()  # 0, with a gradient of nan
        return loss

    monkeypatch.setattr(Classification, "training_step", training_step)
    with pytest.raises(ValueError, match=r"the (val_loss|weights) became nan.*last good checkpoint is .*last\.ckpt"):
        run(tmp_path)
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] == 5
    assert all(torch.isfinite(value).all() for value in state["state_dict"].values())


def test_a_checkpoint_of_lightnings_own_may_lie_deep(tmp_path: Path) -> None:
    CheckpointFiles().save_checkpoint({"a": 1}, tmp_path / "wandb" / "id" / "checkpoints" / "best.ckpt")
    assert (tmp_path / "wandb" / "id" / "checkpoints" / "best.ckpt").is_file()
