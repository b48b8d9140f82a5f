"""Lightning's own callbacks, by their names."""

import pytest

from hybrid_vit.training.lightning_callbacks import available, named


def test_every_callback_that_is_listed_can_be_made() -> None:
    names = sorted(available())
    assert {"LearningRateMonitor", "Timer", "DeviceStatsMonitor"} <= {*names}
    here = [name for name in names if name != "RichModelSummary"]
    assert [type(callback).__name__ for callback in named(here, cuda=True)] == here


@pytest.mark.parametrize(("name", "package"), [("DeviceStatsMonitor", "psutil"), ("RichModelSummary", "rich")])
def test_a_missing_package_is_a_sentence(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybrid_vit.training.lightning_callbacks.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=f"callbacks: {name} needs {package}: pip install {package}"):
        named([name], cuda=False)


@pytest.mark.parametrize(
    "name",
    [
        "os",
        "Callback",
        "ModelCheckpoint",
        "TQDMProgressBar",
        "BatchSizeFinder",
        "SpikeDetection",
        "No",
    ],
)
def test_any_other_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"callbacks: {name} cannot be created .* DeviceStatsMonitor, "):
        named([name], cuda=False)


def test_early_stopping_is_a_setting() -> None:
    with pytest.raises(ValueError, match=r"EarlyStopping is written early_stopping\.patience=10"):
        named(["EarlyStopping"], cuda=False)
