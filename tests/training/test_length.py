"""How long a run is: epochs, steps, budget, limits, gathered batches, early stopping."""

import math
import re
import signal
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch import Callback
from safetensors.torch import load_file
from small_runs import TINY, assert_same_run, rows, run, stop, summary
from stopping import OneEpoch

from hybrid_vit.config.build import build
from hybrid_vit.config.compose import as_train, compose_config, resolve
from hybrid_vit.config.schema import EarlyStopping
from hybrid_vit.fast.accelerator import choose
from hybrid_vit.training.budget import Clock, Cost, measure
from hybrid_vit.training.callbacks import Stopped
from hybrid_vit.training.console import quieten
from hybrid_vit.training.length import Epoch
from hybrid_vit.training.lightning_callbacks import early_stopping
from hybrid_vit.training.parts import count_sizes, fix_steps, make_data, make_net, make_task, measure_sizes
from hybrid_vit.training.run import Run, train
from hybrid_vit.training.task import Classification

pytestmark = pytest.mark.usefixtures("without_pictures")


def test_a_last_batch_that_is_too_small_for_all_processes_is_no_step() -> None:
    """1,438 images in batches of 718: two are left, and four processes put them into the batch before."""
    alone, together = (
        make_data(
            as_train(
                resolve(compose_config([*TINY, "data.val_size=0", "data.fraction=1", f"trainer.devices={devices}"]))
            )
        )
        for devices in (1, 4)
    )
    assert alone.sizes["train"] == 1438
    alone.batch_size = together.batch_size = 719 - 1
    assert (alone.steps_per_epoch, together.steps_per_epoch) == (3, 2)


def test_steps_repeat_a_budget_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many steps fit depends on the machine, so that is fixed here; what is measured before is measured."""
    monkeypatch.setattr("hybrid_vit.training.parts.affordable", lambda *what: (8, 0.0))
    run(tmp_path / "budget", "budget=12s", "optim.warmup_epochs=null")
    content = summary(tmp_path / "budget")
    assert (content["budget"], content["steps"]) == ("12s", 8)
    run(tmp_path / "steps", "steps=8", "optim.warmup_epochs=null")
    assert_same_run(tmp_path / "budget", tmp_path / "steps")


def test_a_budget_is_turned_into_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "fit", lambda self, callbacks: stop())
    with pytest.raises(Stopped):
        run(tmp_path, "budget=20s")
    assert summary(tmp_path)["steps"] > 0


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_while_a_budget_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, expected: type[BaseException]
) -> None:
    step = Classification.training_step

    def training_step(task: Classification, batch, batch_idx: int):
        if batch_idx == 1:
            signal.raise_signal(number)
        return step(task, batch, batch_idx)

    monkeypatch.setattr(Classification, "training_step", training_step)
    with pytest.raises(expected) as caught:
        run(tmp_path, "budget=60s")
    assert getattr(caught.value, "code", 143) == 143


def test_a_budget_is_measured_in_one_process() -> None:
    config = as_train(resolve(compose_config([*TINY, "budget=1m", "trainer.devices=2"])))
    with pytest.raises(ValueError, match="budget is measured in one process; with several give epochs or steps"):
        fix_steps(config, choose("cpu"), torch.nn.Linear(1, 1), make_data(config), None, 0.0)


def test_after_a_step_was_measured_a_batch_is_augmented_as_before() -> None:
    config = as_train(resolve(compose_config(TINY)))
    quieten()
    data, choice = make_data(config), choose("cpu", precision="32-true")
    task = make_task(config, make_net(config, data, choice, fresh=True), data, 15)
    assert measure(task, data, choice, 0.0).step > 0
    batch = next(iter(data.train_dataloader()))
    assert not data.on_after_batch_transfer(batch, 0)[0].equal(data.normalize(batch.images))


def test_a_warm_up_may_be_longer_than_the_epochs_that_a_budget_replaces() -> None:
    config = as_train(resolve(compose_config([*TINY, "optim.warmup_epochs=20", "accelerator.precision=64-true"])))
    quieten()
    data, choice = make_data(config), choose("cpu", precision="64-true")
    (cost,) = measure_sizes(config, choice, make_net(config, data, choice, fresh=True), data, None, 0.0).values()
    assert cost.step > 0 and cost.image > 0


def test_a_budget_counts_smaller_images_by_their_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "fit", lambda self, callbacks: stop())

    def measured(task: Classification, *rest: object) -> Cost:
        return Cost(0.004 if task.progressive.stages else 0.01, 0.0)

    monkeypatch.setattr("hybrid_vit.training.parts.measure", measured)
    for name, settings in (("whole", []), ("small", ["progressive.sizes=[16]", "progressive.until=[0.5]"])):
        with pytest.raises(Stopped):
            run(tmp_path / name, "budget=2h", *settings)
    whole, small = summary(tmp_path / "whole"), summary(tmp_path / "small")
    assert whole["training_macs"] == whole["macs"] and 0.6 < small["training_macs"] / whole["macs"] < 0.7
    assert small["steps"] * 0.007 == pytest.approx(whole["steps"] * 0.01, rel=0.05)


def test_sizes_that_a_model_does_not_take_are_a_sentence() -> None:
    settings = ["progressive.sizes=[1]", "progressive.until=[0.5]"]
    config = as_train(resolve(compose_config([*TINY, *settings])))
    with pytest.raises(ValueError, match=r"does not take images of progressive\.sizes \[1\].*leave progressive out"):
        count_sizes(config, torch.nn.Conv2d(3, 4, 3), make_data(config))


def test_a_budget_too_short_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"budget is too short.*try budget="):
        run(tmp_path, "budget=0.01s")


@pytest.mark.parametrize("length", ["epochs=2", "steps=10"])
def test_the_warm_up_is_a_tenth_of_a_short_run_however_its_length_is_given(
    length: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two epochs of five steps."""
    seen = []
    monkeypatch.setattr(Run, "fit", lambda self, callbacks: seen.append(self.task) or stop())
    caplog.set_level("INFO")
    with pytest.raises(Stopped):
        run(tmp_path, length, "optim.warmup_epochs=null")
    assert (seen[0].schedule.epochs, seen[0].schedule.warmup_epochs) == pytest.approx((2, 0.2))
    assert "warm-up of 5 epochs shortened to 0.2: 0.1 of 2 epochs" in caplog.text


def test_steps_end_in_mid_epoch(tmp_path: Path) -> None:
    run(tmp_path, "steps=8")
    assert summary(tmp_path)["scores"].keys() >= {"val_top1", "test_top1"}
    assert [(row["step"], row["images"]) for row in rows(tmp_path)] == [("5", "252"), ("8", "153")]


def test_a_clock_ends_the_run_and_moves_its_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step takes a second of a clock of 40: 40 steps, whatever was estimated. Stopped in between, it goes on."""
    now = [0.0]
    monkeypatch.setattr("hybrid_vit.training.budget.Clock.elapsed", property(lambda clock: now[0] - clock._began))
    monkeypatch.setattr("hybrid_vit.training.run.fix_steps", lambda *arguments: (7, made(Clock(40), now)))
    rates = []

    class Tick(Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *arguments) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])
            now[0] += 1

    settings = ["budget=1m", "budget_by=clock", "optim.warmup_epochs=0", "optim.lr=1"]
    settings += ["progressive.sizes=[16]", "progressive.until=[0.5]"]
    with pytest.raises(Stopped, match="one epoch"):
        run(tmp_path, *settings, callbacks=[Tick(), OneEpoch()])
    assert len(rates) == 5
    monkeypatch.setattr(Clock, "load_state_dict", lambda clock, state: made(clock, now, state))
    run(tmp_path, *settings, resume=True, callbacks=[Tick()])
    content = summary(tmp_path)
    assert (content["state"], content["steps"], content["epochs"], content["budget_by"]) == ("done", 40, 8, "clock")
    config = as_train(resolve(compose_config([*TINY, *settings])))
    macs = count_sizes(config, build(config.model | {"num_classes": 10}), make_data(config))
    small, all_images = 3 * 252 + 4 * 51, 8 * 252  # the clock ticks before a step, so 19 of 40 steps are small
    assert content["training_macs"] == (small * macs[16] + (all_images - small) * macs[32]) / all_images
    assert rates == pytest.approx([(1 + math.cos(math.pi * n / 40)) / 2 for n in range(40)])
    assert content["scores"]["val_top1"] == pytest.approx(float(rows(tmp_path)[-1]["val_top1"]), abs=1e-4)
    run(tmp_path, *settings, resume=True, callbacks=[Tick()])  # over: it is only scored again
    assert len(rates) == 40


def test_a_budget_by_the_clock_leaves_time_to_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned: list[Run] = []
    monkeypatch.setattr(Run, "fit", lambda self, callbacks: planned.append(self) or stop())
    monkeypatch.setattr("hybrid_vit.training.parts.measure", lambda *given: Cost(0.01, 0.001))
    with pytest.raises(Stopped):
        run(tmp_path, "budget=2h", "budget_by=clock")
    (planned_run,) = planned
    assert planned_run.clock and planned_run.clock.seconds == pytest.approx(0.99 * 7200, rel=0.01)
    assert planned_run.steps == pytest.approx(0.99 * 7200 / (0.01 + 0.18 / 5), rel=0.01)  # 5 steps, 180 images to score


def test_a_clock_that_runs_out_in_a_validation_lets_no_step_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over: list[bool] = []
    monkeypatch.setattr(Run, "ended", lambda self: "the budget is over" if over else None)

    class RunsOut(Callback):
        def on_validation_end(self, trainer: pl.Trainer, *arguments) -> None:
            over.append(True)

    run(tmp_path, callbacks=[RunsOut()])
    assert (summary(tmp_path)["steps"], len(rows(tmp_path)), len(over)) == (5, 1, 1)


def test_the_clock_of_a_run_goes_on_in_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybrid_vit.training.run.fix_steps", lambda *arguments: (15, Clock(600)))
    settings = ["budget=1m", "budget_by=clock"]
    with pytest.raises(Stopped):
        run(tmp_path, *settings, callbacks=[OneEpoch()])
    monkeypatch.setattr("hybrid_vit.training.run.processes", lambda config: 2)
    with pytest.raises(ValueError, match=r"continues in one process; use trainer\.devices=1"):
        run(tmp_path, *settings, resume=True)


def test_the_computing_of_a_run_that_stops_early_is_that_of_its_images(tmp_path: Path) -> None:
    settings = ["epochs=20", "early_stopping.patience=1", "early_stopping.monitor=val_top1", "optim.lr=1e-9"]
    settings += ["progressive.sizes=[16]", "progressive.until=[0.5]"]
    run(tmp_path, *settings)
    content = summary(tmp_path)
    config = as_train(resolve(compose_config([*TINY, *settings])))
    macs = count_sizes(config, build(config.model | {"num_classes": 10}), make_data(config))
    assert content["epochs"] < 10 and content["training_macs"] == macs[16] < content["macs"]


def made(clock: Clock, now: list[float], state: dict[str, Any] | None = None) -> Clock:
    """The clock, as the time of the test goes, which does not pause."""
    clock._began, clock.seconds = 0.0 if state else now[0], 40
    return clock


# No BatchNorm, no dropout, no augmentation, fp32: what a step computes does not depend on how its images are batched.
EXACT = [
    "accelerator.precision=32-true",
    *("stem@model.stem=patch", "model.proj_drop_rate=0", "model.pos_drop_rate=0", "model.drop_path_rate=0"),
    *("augment=none", "optim=sgd", "optim.lr=0.1", "optim.warmup_epochs=0", "epochs=2", "data.fraction=1"),
]


def test_batches_gathered_into_a_step_are_one_batch(tmp_path: Path) -> None:
    """1258 images: five steps an epoch, the last one of another size, and of fewer batches."""
    plain_stem = [text for text in TINY if "stem.depth" not in text]
    ends = {}
    for name, settings in {
        "one": ["batch_size=300"],
        "gathered": ["batch_size=100", "trainer.accumulate_grad_batches=3", "checkpoint_minutes=1e-9"],
    }.items():
        directory = tmp_path / name
        directory.mkdir()
        train(as_train(resolve(compose_config([*plain_stem, *EXACT, *settings]))), directory)
        ends[name] = load_file(directory / "model.safetensors")
    for key, value in ends["one"].items():
        torch.testing.assert_close(ends["gathered"][key], value, rtol=0, atol=1e-5)
    one, gathered = rows(tmp_path / "one"), rows(tmp_path / "gathered")
    assert summary(tmp_path / "gathered")["steps"] == summary(tmp_path / "one")["steps"] == 2 * 5
    for a, b in zip(one, gathered, strict=True):
        assert {key: float(b[key]) for key in b} == pytest.approx({key: float(a[key]) for key in a}, rel=1e-5, abs=1e-6)


def test_limits_take_batches_and_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    limits = ["trainer.limit_train_batches=0.4", "trainer.limit_val_batches=1", "trainer.limit_test_batches=2"]
    run(tmp_path, "data.eval_batch_size=50", *limits, "epochs=2")
    content = summary(tmp_path)
    assert [(row["step"], row["images"]) for row in rows(tmp_path)] == [("2", "102"), ("4", "102")]
    assert (content["steps"], content["epochs"], content["images"]["test"]) == (4, 2, 100)
    assert content["limited"] == {"train_batches": 0.4, "val_batches": 1, "test_batches": 2}
    assert content["protocol"].startswith("limited to train_batches=0.4, val_batches=1, test_batches=2, so no score")
    assert re.search(r"limited to +train_batches=0\.4", caplog.text)


def test_limits_that_take_nothing_are_none(tmp_path: Path) -> None:
    config = as_train(
        resolve(compose_config([*TINY, "trainer.limit_train_batches=1.0", "trainer.limit_val_batches=99"]))
    )
    epoch = Epoch(config.trainer, make_data(config))
    assert (epoch.limited, epoch.batches, epoch.steps, epoch.val_images, epoch.test_images) == ({}, 5, 5, 180, 359)
    config.trainer.limit_val_batches = config.trainer.limit_test_batches = 0.1  # one of one batch, not none
    epoch = Epoch(config.trainer, make_data(config))
    assert (epoch.limited, epoch.val_batches, epoch.val_images, epoch.test_batches) == ({}, 1, 180, 1)
    data = make_data(as_train(resolve(compose_config([*TINY, "data.monitor_test=true", "data.eval_batch_size=10"]))))
    config.trainer.limit_val_batches = 0.04  # of 18 and 36 batches: Lightning would take none of the first
    assert Epoch(config.trainer, data).val_images == 20
    config.trainer.limit_val_batches = 0.0
    epoch = Epoch(config.trainer, make_data(config))
    assert (epoch.limited, epoch.val_batches, epoch.val_images) == ({"val_batches": 0.0}, 0, 0)


def test_a_training_that_gets_no_better_ends_and_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    settings = ["early_stopping.patience=2", "early_stopping.min_delta=9", "epochs=30"]  # no loss falls by so much
    monkeypatch.setattr("hybrid_vit.training.run.score_test_set", lambda *arguments, **options: stop())
    with pytest.raises(Stopped):
        run(tmp_path, *settings)
    monkeypatch.undo()
    run(tmp_path, *settings, resume=True)  # is only scored
    content = summary(tmp_path)
    assert (content["state"], content["steps"], content["epochs"], len(rows(tmp_path))) == ("done", 15, 3, 3)
    assert content["stopped_early"].startswith("val_loss was not better than")
    assert content["stopped_early"].endswith("for 2 epochs (early_stopping)")
    assert "training ended after 15 of 150 steps: val_loss" in caplog.text
    assert "test_top1" in content["scores"]


def test_top_5_of_few_classes_does_not_stop_a_training() -> None:
    with pytest.raises(ValueError, match=r"early_stopping\.monitor=val_top5 is no score for 5 classes; use val_top1"):
        early_stopping(EarlyStopping(patience=1, monitor="val_top5"), True, 5)


def test_early_stopping_needs_validation_images(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"early_stopping\.patience needs validation images"):
        run(tmp_path, "early_stopping.patience=2", "data.val_size=0")
