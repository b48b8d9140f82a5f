"""Weights & Biases may be there, offline, absent or broken: the training does not depend on it.

What a run holds is read back from the files that wandb writes offline.
"""

import csv
import json
import logging
import os
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb
from PIL import Image
from scipy.sparse import csr_array
from stopping import OneEpoch
from wandb.proto import wandb_internal_pb2

from hybrid_vit.config.compose import as_train, compose_config, resolve
from hybrid_vit.training import wandb_logger
from hybrid_vit.training.callbacks import Stopped, latest
from hybrid_vit.training.run import train

KEY = "0123456789" * 4
BLOCK, HEADER = 32768, 7  # of the log of LevelDB, in which wandb writes
TINY = [
    *("data=digits", "augment=none", "accelerator=cpu", "steps=8", "trainer.log_every_n_steps=2"),
    *("data.fraction=0.2", "batch_size=51"),
    *("model.embed_dim=32", "model.depth=1", "model.stem.depth=2", "model.stem.grid=8", "optim.warmup_epochs=0"),
    *("logger.mode=offline", "logger.tags=[a,b]", "logger.log_model=true"),
]


def make(directory: Path, **settings: Any) -> wandb_logger.Wandb:
    return wandb_logger.Wandb(directory, config={"seed": 1}, **settings)


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """wandb as on a machine where nobody has logged in, and without what it has read before."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NETRC", str(home / ".netrc"))
    for name in ("CONFIG", "DATA", "CACHE"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(home))
    wandb.teardown()
    yield
    wandb.teardown()


class Offline:
    """What the file of an offline run holds."""

    def __init__(self, path: Path) -> None:
        self.run: Any = None
        self.history: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.axes: dict[str, str] = {}
        self.artifacts: list[str] = []
        self.preempting = False
        self.exit_code: int | None = None
        for record in records(path):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                self.run = record.run
                self.config = {item.key: json.loads(item.value_json) for item in record.run.config.update}
            elif kind == "history":
                self.history.append({item.nested_key[0]: json.loads(item.value_json) for item in record.history.item})
            elif kind == "summary":
                new = {(item.key or item.nested_key[0]): item.value_json for item in record.summary.update}
                self.summary |= {key: json.loads(value) for key, value in new.items()}
            elif kind == "metric":
                self.axes[record.metric.name or record.metric.glob_name] = record.metric.step_metric
            elif kind == "artifact":
                self.artifacts.append(record.artifact.type)
            elif kind == "exit":
                self.exit_code = record.exit.exit_code
            self.preempting |= kind == "preempting"

    def steps(self, name: str) -> list[int]:
        """The steps at which `name` has a value."""
        return [row["_step"] for row in self.history if name in row]

    def values(self, name: str) -> list[float]:
        return [row[name] for row in self.history if name in row]


def records(path: Path) -> Iterator[Any]:
    """The records of a log of LevelDB; a record may be in several blocks."""
    data, at, record = path.read_bytes(), HEADER, b""
    while at < len(data):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        record += data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield wandb_internal_pb2.Record.FromString(record)
            record = b""


def offline(directory: Path) -> list[Offline]:
    """The offline runs in a run directory, in their order."""
    wandb.teardown()  # the process of wandb that writes them ends
    paths = directory.glob("wandb/offline-run-*/*.wandb")
    return [Offline(path) for path in sorted(paths, key=lambda path: path.stat().st_mtime)]


def test_a_stopped_and_resumed_training_is_one_run_with_the_steps_of_metrics_csv(tmp_path: Path, fresh: None) -> None:
    config = as_train(resolve(compose_config(TINY)))
    with pytest.raises(Stopped):
        train(config, tmp_path, callbacks=[OneEpoch()])
    named = next(tmp_path.glob("wandb/offline-run-*")).name.split("-")[2]
    while time.strftime("%Y%m%d_%H%M%S") <= named:  # wandb names the folder of a run by the second
        time.sleep(0.01)
    train(as_train(resolve(compose_config(TINY))), tmp_path, checkpoint=latest(tmp_path / "checkpoints"))
    first, second = offline(tmp_path)
    with (tmp_path / "metrics.csv").open(encoding="utf-8") as file:
        table = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))

    assert [row["step"] for row in table] == [5, 8]  # 252 images in batches of 51: 5 steps an epoch
    assert first.run.run_id == second.run.run_id == summary["wandb"]
    assert second.run.resume  # `wandb sync` appends it to the first
    assert (first.steps("train_loss_step"), second.steps("train_loss_step")) == ([1, 3, 5], [6, 8])
    for name in ("grad_norm_step", "lr_step"):
        assert first.steps(name) + second.steps(name) == [1, 3, 5, 6, 8]
    for part, row in zip((first, second), table, strict=True):
        assert part.steps("val_top1") == part.steps("images_per_second") == [row["step"]]
        logged = part.history[-1]
        assert {key: logged[key] for key in row} == pytest.approx(row, abs=1e-4)
        assert all(entry["step"] == entry["_step"] for entry in part.history if "step" in entry)
        assert (part.axes["train_loss_step"], part.axes["*"]) == ("step", "epoch")

    assert second.steps("test_top1") == second.steps("learning_curve") == second.steps("confusion") == [8]
    assert first.steps("augmented") == [0]
    assert second.steps("augmented") == []
    assert second.steps("confusion_matrix_table") == [8]
    for name in ("test_top1", "val_top1"):
        assert second.summary[name] == pytest.approx(summary["scores"][name], abs=1e-4)
    assert second.summary["best_val_top1"] == pytest.approx(max(row["val_top1"] for row in table), abs=1e-4)
    assert second.summary["best_val_loss"] == pytest.approx(min(row["val_loss"] for row in table), abs=1e-4)
    assert (first.artifacts, second.artifacts) == ([], ["run_table", "model"])

    assert (first.summary["state"], first.exit_code, first.preempting) == ("stopped", 0, False)
    assert (second.summary["state"], second.exit_code, second.preempting) == ("done", 0, False)
    assert second.config["steps"] == 8
    assert second.config["epochs"] == 8 / 5
    assert second.config["parameters"] == summary["parameters"]
    assert {"state", "summary"}.isdisjoint(second.config)
    assert list(second.run.tags) == ["a", "b"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ("p", "n", "e", ["a", "b"], "text")),
        ({"project": "q", "entity": "f", "tags": ["c"], "notes": "other"}, ("q", "n", "f", ["c"], "other")),
    ],
)
def test_variables_of_wandb_win_over_defaults_and_settings_over_them(
    tmp_path: Path, fresh: None, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], expected: tuple
) -> None:
    for name, value in {"PROJECT": "p", "NAME": "n", "ENTITY": "e", "TAGS": "a,b", "NOTES": "text"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    monkeypatch.setenv("WANDB_MODE", "offline")
    make(tmp_path, **given).finish({"state": "done"})
    run = offline(tmp_path)[0].run
    assert (run.project, run.display_name, run.entity, list(run.tags), run.notes) == expected


def test_defaults(tmp_path: Path, fresh: None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    logger = make(tmp_path, group="sweep")  # not logged in: offline
    run_id = logger.version
    logger.finish({"state": "failed", "reason": "no memory"})
    (part,) = offline(tmp_path)
    assert (part.run.project, part.run.display_name, part.run.run_group) == ("hybrid_vit", tmp_path.name, "sweep")
    assert (part.summary["state"], part.summary["reason"], part.exit_code) == ("failed", "no memory", 1)
    assert caplog.text.count(f"wandb sync {tmp_path}/wandb/offline-run-*-{run_id}") == 1


def test_a_variable_names_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_RUN_GROUP", "mine")
    assert resolve(compose_config(["hydra.mode=MULTIRUN", "hydra.sweep.dir=a/b"]))["logger"]["group"] == "mine"
    assert resolve(compose_config(["logger.group=other"]))["logger"]["group"] == "other"


@pytest.mark.parametrize(
    ("reason", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGUSR1", 138), ("trainer.max_time of 60 s", 0)]
)
def test_a_stop_is_no_preemption(tmp_path: Path, fresh: None, reason: str, code: int) -> None:
    make(tmp_path, mode="offline").finish({"state": "stopped", "reason": reason})
    (part,) = offline(tmp_path)
    assert (part.exit_code, part.preempting) == (code, False)


def test_many_classes_have_no_interactive_confusion_matrix(tmp_path: Path, fresh: None) -> None:
    for classes in (100, 101):
        directory = tmp_path / str(classes)
        directory.mkdir()
        for name in ("learning_curve", "confusion"):
            Image.new("RGB", (2, 2)).save(directory / f"{name}.png")
        logger = make(directory, mode="offline")
        names = [str(i) for i in range(classes)]
        logger.log_results({}, csr_array(np.eye(classes, dtype=np.int64)), names, epoch=0, step=1)
        logger.finish({"state": "done"})
        assert ("confusion_matrix_table" in offline(directory)[0].history[-1]) == (classes == 100)


class Fake:
    """The part of wandb that starts a run and logs, recording what it starts with; `fails_in` fails."""

    def __init__(self, fails_in: str = "") -> None:
        self.started: dict[str, Any] = {}
        self.fails_in = fails_in
        self.Settings, self.login = wandb.Settings, wandb.login
        self.id, self.url, self.offline, self.summary = "abc", "https://example.org/abc", False, {}

    def setup(self, settings: wandb.Settings) -> Any:
        return wandb.setup(settings)

    def _call(self, name: str) -> None:
        if name == self.fails_in:
            raise RuntimeError("broken\npipe")

    def init(self, **settings: Any) -> "Fake":
        self._call("init")
        self.started = settings
        return self

    def define_metric(self, *what: Any, **how: Any) -> None: ...

    def log(self, content: dict[str, Any], step: int) -> None:
        self._call("log")

    def finish(self, exit_code: int) -> None:
        self._call("finish")


@pytest.mark.parametrize(
    ("variables", "netrc", "given", "mode"),
    [
        ({}, "", "auto", "offline"),
        ({"API_KEY": KEY}, "", "auto", "online"),
        ({"API_KEY": KEY}, "", "offline", "offline"),
        ({"API_KEY": KEY, "MODE": "offline"}, "", "auto", "offline"),
        ({"MODE": "online"}, "", "auto", "online"),
        ({"API_KEY": KEY, "MODE": "offline"}, "", "online", "online"),
        ({}, "wandb.example.org", "auto", "offline"),
        ({"BASE_URL": "https://wandb.example.org"}, "wandb.example.org", "auto", "online"),
        ({}, "api.wandb.ai", "auto", "online"),
    ],
)
def test_online_if_logged_in_to_the_server_that_is_meant(
    tmp_path: Path,
    fresh: None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
    caplog: pytest.LogCaptureFixture,
    variables: dict[str, str],
    netrc: str,
    given: str,
    mode: str,
) -> None:
    if netrc:
        Path(os.environ["NETRC"]).write_text(f"machine {netrc}\n  login user\n  password {KEY}\n", encoding="utf-8")
    for name, value in variables.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    fake = Fake()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    caplog.set_level(logging.INFO)
    make(tmp_path, mode=given)
    assert fake.started["mode"] == mode
    assert capfd.readouterr() == ("", "")
    assert caplog.messages == ["Weights & Biases: https://example.org/abc"]


@pytest.mark.parametrize("fails_in", ["init", "log", "finish"])
def test_its_failure_is_said_once_in_one_line_and_stops_nothing(
    tmp_path: Path, fresh: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fails_in: str
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", Fake(fails_in))
    logger = make(tmp_path, mode="online")
    for step in range(3):
        logger.log_metrics({"loss": 1.0}, step)
    logger.finish({"state": "done"})
    assert caplog.text.count("left out (RuntimeError: broken pipe)") == 1


def test_its_absence_is_said_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    logger = make(tmp_path)
    logger.log_metrics({"loss": 1.0}, 0)
    logger.finish({"state": "done"})
    assert "left out (ModuleNotFoundError" in caplog.text
