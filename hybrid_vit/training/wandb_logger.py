"""Weights & Biases as a Lightning logger that may fail: metrics and pictures in, a run to look at out.

wandb is imported when a run starts and may be absent; whatever goes wrong in it is said once and training goes on.
"""

import logging
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers.logger import Logger
from scipy.sparse import csr_array
from torch import Tensor

log = logging.getLogger(__name__)

PROJECT = "hybrid_vit"
PER_STEP = ("train_loss_step", "grad_norm_step", "lr_step")  # their x axis is the step, that of all others the epoch
ENDED = ("state", "reason", "seconds", "images_per_second", "peak_memory_mib")  # of a summary, known at the end
STOPPED = {
    "SIGINT": 130,
    "KeyboardInterrupt": 130,
    "SIGTERM": 143,
    "SIGUSR1": 138,
}  # reason -> exit code, as a shell reports it


class Wandb(Logger):
    """A wandb run in the run directory.

    What is None is left to wandb: its environment variables (WANDB_PROJECT, WANDB_ENTITY, WANDB_RUN_GROUP,
    WANDB_JOB_TYPE, WANDB_TAGS, WANDB_NOTES) and its settings files. WANDB_NAME and WANDB_DIR win over the name and the
    place of the run directory, WANDB_BASE_URL says which server.

    The step of every value is the number of optimizer steps made, as in metrics.csv. A resumed training has the id of
    its first part and goes on at the step of its checkpoint. The server of an online run ignores the steps that it has
    already. An offline run has a part for each resume, and `wandb sync` of all parts joins them; if training was killed
    after its last checkpoint, the steps between are there twice, with the same `step` and the same values.

    Args:
        directory: the run directory; wandb's files go to `wandb/` in it.
        project: wandb's project; "hybrid_vit" where wandb knows none either.
        entity: the user or team that owns it.
        group: of runs that belong together, such as the jobs of a sweep.
        job_type: what kind of run it is, within its group.
        tags: to find it by.
        notes: a description.
        mode: "online", "offline", "disabled", or "auto": WANDB_MODE, else online if logged in and offline if not.
        log_model: whether to keep the scored weights as an artifact, too.
        config: what the run is; does not change while it trains.
        run_id: continues that run.
    """

    def __init__(
        self,
        directory: Path,
        *,
        project: str | None = None,
        entity: str | None = None,
        group: str | None = None,
        job_type: str | None = None,
        tags: Sequence[str] | None = None,
        notes: str | None = None,
        mode: str = "auto",
        log_model: bool = False,
        config: dict[str, Any],
        run_id: str | None = None,
    ) -> None:
        super().__init__()
        self.directory = directory
        self.log_model = log_model
        self.run: Any = None
        settings = {"entity": entity, "group": group, "job_type": job_type, "tags": tags, "notes": notes}
        try:
            self._start(mode, project, config=config, id=run_id, **settings)
        except Exception as error:  # absent, or unable to start
            self._give_up(error)

    def _start(self, mode: str, project: str | None, **settings: Any) -> None:
        import wandb

        quiet = wandb.Settings(silent=True, init_timeout=60, finish_timeout=600, finish_timeout_raises=True)
        known = wandb.setup(wandb.Settings(silent=True)).settings  # of the environment and of wandb's settings files
        if mode == "auto":
            mode = known.mode
            if mode == "online" and not os.environ.get("WANDB_MODE") and not wandb.login(prompt=False, verify=False):
                mode = "offline"
        run = wandb.init(
            project=project or known.project or PROJECT,
            name=known.run_name or self.directory.name,
            dir=None if os.environ.get("WANDB_DIR") else self.directory,
            mode=mode,  # type: ignore[arg-type]
            resume="allow",
            reinit="finish_previous",  # a sweep's jobs share a process
            settings=quiet,
            **settings,
        )
        self.run = run
        for axis in ("step", "epoch"):
            run.define_metric(axis, hidden=True)
        for name in PER_STEP:
            run.define_metric(name, step_metric="step")
        run.define_metric("*", step_metric="epoch")
        run.summary["state"] = "running"
        if not run.offline and run.url:
            log.info("Weights & Biases: %s", run.url)

    @property
    def name(self) -> str:
        return "wandb"

    @property
    def version(self) -> str | None:
        return self.run.id if self.run is not None else None

    @property
    def experiment(self) -> Any:
        return self.run

    def log_hyperparams(self, params: Any) -> None:
        """The configuration is given at the start."""

    def log_metrics(self, metrics: Mapping[str, float | Tensor], step: int | None = None) -> None:
        """Log values of the step that Lightning counts as `step`, from 0: the one after `step` others."""

        def values(run: Any) -> None:
            content = {key: value.item() if isinstance(value, Tensor) else value for key, value in metrics.items()}
            if step is None:  # a callback of the user's may leave it out
                run.log(content, commit=False)  # into the row that is open
            else:
                run.log({**content, "step": step + 1}, step=step + 1)

        self._guarded(values)

    def log_picture(self, name: str, path: Path, step: int = 0) -> None:
        """Show a picture file under `name`, after `step` optimizer steps."""

        def show(run: Any) -> None:
            import wandb

            run.log({name: wandb.Image(str(path))}, step=step)

        self._guarded(show)

    def log_results(
        self, scores: Mapping[str, float], confusion: csr_array, class_names: Sequence[str], *, epoch: int, step: int
    ) -> None:
        """Log what training came to; the run directory holds its pictures and weights.

        Args:
            scores: of the test set.
            confusion: (classes, classes) number of test images by class and prediction.
            class_names: name of each class.
            epoch: the last one.
            step: optimizer steps made.
        """

        def results(run: Any) -> None:
            import wandb

            content: dict[str, Any] = {**scores, "epoch": epoch, "step": step}
            for name in ("learning_curve", "confusion"):
                content[name] = wandb.Image(str(self.directory / f"{name}.png"))
            if len(class_names) ** 2 <= wandb.Table.MAX_ROWS:  # what a table shows: 100 classes
                counts = confusion.tocoo()
                actual, predicted = (np.repeat(places, counts.data).tolist() for places in (counts.row, counts.col))
                content["confusion_matrix"] = wandb.plot.confusion_matrix(
                    y_true=actual, preds=predicted, class_names=list(class_names), title="Test set"
                )
            run.log(content, step=step)
            if self.log_model:
                model = wandb.Artifact(f"model-{run.id}", type="model", metadata=dict(scores))
                for name in ("model.safetensors", "model.json"):
                    model.add_file(str(self.directory / name))
                run.log_artifact(model)

        self._guarded(results)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """End the run as `summary` says, also after an error; offline, say how to send it.

        One that was stopped is not marked as preempted: a sweep of wandb would start it anew, and stops some itself.
        """
        run = self.run
        ended = {key: summary[key] for key in ENDED if key in summary}
        code = STOPPED.get(summary.get("reason", ""), 0) if summary["state"] in ("done", "stopped") else 1

        def end(run: Any) -> None:
            run.summary.update(ended)
            run.finish(exit_code=code)

        self._guarded(end)
        if self.run is not None and run.offline:
            parts = shlex.quote(str(Path(run.dir).parents[1])) + f"/offline-run-*-{run.id}"
            log.info("Weights & Biases was offline; to send the run: wandb sync %s", parts)
        self.run = None

    def _guarded(self, action: Callable[[Any], None]) -> None:
        """Do `action` with the run, if there is one; if it fails, say so and log no more."""
        if self.run is None:
            return
        try:
            action(self.run)
        except Exception as error:  # whatever it is: a log is not worth the training
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        reason = " ".join(str(error).split())
        log.warning("Weights & Biases is left out (%s: %s); metrics.csv has every number", type(error).__name__, reason)
        self.run = None
