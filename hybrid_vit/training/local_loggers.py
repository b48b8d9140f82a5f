"""Lightning's loggers that write into the run directory: TensorBoard, and a CSV with a row for each logged step.

Both count optimizer steps as wandb's does here: a value is of the step after so many.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image
from scipy.sparse import csr_array


class TensorBoard(TensorBoardLogger):
    """Event files in `tensorboard/` of the run directory, with pictures: tensorboard --logdir DIRECTORY."""

    def __init__(self, directory: Path, config: dict[str, Any]) -> None:
        super().__init__(directory, name="tensorboard", version="", default_hp_metric=False)
        self.directory, self.config = directory, config
        self.log_hyperparams(config)

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        super().log_metrics(dict(metrics), None if step is None else step + 1)

    def log_picture(self, name: str, path: Path, step: int = 0) -> None:
        """Show a picture file under `name`, after `step` optimizer steps."""
        with Image.open(path) as picture:
            self.experiment.add_image(name, np.asarray(picture.convert("RGB")), step, dataformats="HWC")

    def log_results(
        self, scores: Mapping[str, float], confusion: csr_array, class_names: Sequence[str], *, epoch: int, step: int
    ) -> None:
        """The configuration with the scores of the test set, the learning curve and the confusion matrix."""
        self.log_hyperparams(self.config, dict(scores), step - 1)  # which log_metrics counts from 1
        for name in ("learning_curve", "confusion"):
            self.log_picture(name, self.directory / f"{name}.png", step)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write what is not written yet."""
        self.finalize(summary["state"])


class Csv(CSVLogger):
    """`csv/version_N/metrics.csv` in the run directory, one for each part of a run that was resumed; no pictures."""

    def __init__(self, directory: Path, config: dict[str, Any]) -> None:
        super().__init__(directory, name="csv", flush_logs_every_n_steps=1)
        self.log_hyperparams(config)

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:  # type: ignore[override]
        super().log_metrics(dict(metrics), None if step is None else step + 1)

    def log_picture(self, name: str, path: Path, step: int = 0) -> None:
        """A table has no pictures."""

    def log_results(
        self, scores: Mapping[str, float], confusion: csr_array, class_names: Sequence[str], *, epoch: int, step: int
    ) -> None:
        """The scores of the test set."""
        super().log_metrics({**scores, "epoch": epoch}, step)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write what is not written yet."""
        self.finalize(summary["state"])
