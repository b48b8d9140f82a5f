"""Weights & Biases may be there, offline, absent or broken: the training does not depend on it."""

import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from hybrid_vit import loggers


def make(directory: Path, mode: str = "auto", **other: str | None) -> loggers.Wandb:
    return loggers.Wandb(directory, project="test", group=other.get("group"), mode=mode, config={"seed": 1})


class Fake:
    """The part of wandb that is used, recording calls."""

    def __init__(self, directory: Path, fails_in: str = "") -> None:
        self.calls: list[tuple] = []
        self.fails_in = fails_in
        self.Settings = SimpleNamespace
        self.Image = str
        self.id, self.dir = "abc", str(directory / "wandb" / "offline-run-1" / "files")

    def _call(self, name: str, *what) -> None:
        if name == self.fails_in:
            raise RuntimeError("broken pipe")
        self.calls.append((name, *what))

    def init(self, **settings):
        self._call("init", settings)
        return self

    def log(self, content) -> None:
        self._call("log", content)

    def finish(self) -> None:
        self._call("finish")


def test_logs_and_says_how_to_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake = Fake(tmp_path)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setattr(loggers, "logged_in", lambda: False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    caplog.set_level(logging.INFO)
    logger = make(tmp_path, group="sweep")
    logger.log_metrics({"loss": 1.0}, step=3)
    logger.log_picture("batch", tmp_path / "x.png")
    logger.finish()
    settings = fake.calls[0][1]
    assert (settings["mode"], settings["group"], settings["config"]) == ("offline", "sweep", {"seed": 1})
    assert fake.calls[1:] == [
        ("log", {"loss": 1.0, "step": 3}),
        ("log", {"batch": str(tmp_path / "x.png")}),
        ("finish",),
    ]
    assert caplog.text.count(f"wandb sync {tmp_path / 'wandb' / 'offline-run-1'}") == 1


@pytest.mark.parametrize(("key", "mode"), [("secret", "online"), ("", "offline")])
def test_online_only_when_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, mode: str) -> None:
    fake = Fake(tmp_path)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_API_KEY", key)
    make(tmp_path).finish()
    assert fake.calls[0][1]["mode"] == mode


@pytest.mark.parametrize("fails_in", ["init", "log", "finish"])
def test_its_failure_is_said_once_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fails_in: str
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", Fake(tmp_path, fails_in))
    logger = make(tmp_path, mode="offline")
    for step in range(3):
        logger.log_metrics({"loss": 1.0}, step)
    logger.finish()
    assert caplog.text.count("left out (RuntimeError: broken pipe)") == 1


def test_its_absence_is_said_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    logger = make(tmp_path)
    logger.log_metrics({"loss": 1.0}, 0)
    logger.finish()
    assert "left out (ModuleNotFoundError" in caplog.text


def test_unknown_mode(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"logger\.mode 'sometimes' is unknown; use auto"):
        make(tmp_path, mode="sometimes")
