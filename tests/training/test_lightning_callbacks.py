"""Lightning's own callbacks, by their names."""

import pytest
from lightning.pytorch import callbacks

from hybrid_vit.training.lightning_callbacks import available, named


def test_every_callback_that_is_listed_can_be_made() -> None:
    names = sorted(available())
    assert {"LearningRateMonitor", "Timer", "DeviceStatsMonitor"} <= {*names}
    assert [type(callback).__name__ for callback in named([n for n in names if n != "DeviceStatsMonitor"])] == [
        n for n in names if n != "DeviceStatsMonitor"
    ]
    assert isinstance(named(["DeviceStatsMonitor"])[0], callbacks.DeviceStatsMonitor)


@pytest.mark.parametrize(
    "name",
    [
        "os",
        "Callback",
        "ModelCheckpoint",
        "EarlyStopping",
        "TQDMProgressBar",
        "BatchSizeFinder",
        "SpikeDetection",
        "No",
    ],
)
def test_any_other_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"callbacks: {name} cannot be created .* DeviceStatsMonitor, "):
        named([name])
