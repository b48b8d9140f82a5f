"""Weights & Biases as a Lightning logger that may fail: metrics and pictures in, a run to look at out.

wandb is imported when a run starts and may be absent; whatever goes wrong in it is said once and training goes on.
"""

import logging
import netrc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger, rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only

log = logging.getLogger(__name__)

HOST = "api.wandb.ai"


def logged_in() -> bool:
    """Whether wandb would find a key: in the environment or in the user's netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators(HOST) is not None
    except (OSError, netrc.NetrcParseError):
        return False


class Wandb(Logger):
    """A wandb run in the run directory.

    Args:
        directory: the run directory; wandb's files go to `wandb/` in it.
        project: wandb's project.
        group: of runs that belong together, such as the jobs of a sweep; None for none.
        mode: "online", "offline", or "auto": online if logged in. WANDB_MODE wins over all.
        config: what the run is.
        run_id: continues that run.
    """

    def __init__(
        self,
        directory: Path,
        *,
        project: str,
        group: str | None,
        mode: str,
        config: dict[str, Any],
        run_id: str | None = None,
    ) -> None:
        super().__init__()
        if mode not in ("auto", "online", "offline", "disabled"):
            raise ValueError(f"logger.mode {mode!r} is unknown; use auto, online, offline or disabled")
        self.directory = directory
        self.run: Any = None
        if mode == "auto":
            mode = "online" if logged_in() else "offline"
        mode = os.environ.get("WANDB_MODE", mode)
        self.offline = mode == "offline"
        try:
            self._start(project, group, mode, config, run_id)
        except Exception as error:  # absent, or unable to start
            self._give_up(error)

    @rank_zero_only
    def _start(self, project: str, group: str | None, mode: str, config: dict[str, Any], run_id: str | None) -> None:
        import wandb

        self.run = wandb.init(
            project=project,
            group=group,
            name=self.directory.name,
            dir=self.directory,
            mode=mode,  # type: ignore[arg-type]
            config=config,
            id=run_id,
            resume="allow",
            reinit="finish_previous",  # a sweep's jobs share a process
            settings=wandb.Settings(silent=True, init_timeout=60),
        )

    @property
    def name(self) -> str:
        return "wandb"

    @property
    def version(self) -> str | None:
        return self.run.id if self.run is not None else None

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        return self.run

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """The configuration is given at the start."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._guarded(lambda run: run.log({**metrics, "step": step}))

    @rank_zero_only
    def log_picture(self, name: str, path: Path) -> None:
        """Show a picture file under `name`."""

        def show(run: Any) -> None:
            import wandb

            run.log({name: wandb.Image(str(path))})

        self._guarded(show)

    @rank_zero_only
    def finish(self) -> None:
        """End the run, also after an error; offline, say how to send it."""
        folder = Path(self.run.dir).parent if self.run is not None else None
        self._guarded(lambda run: run.finish())
        if self.run is not None and self.offline:
            log.info("Weights & Biases was offline; to send the run: wandb sync %s", folder)
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
        log.warning("Weights & Biases is left out (%s: %s); metrics.csv has every number", type(error).__name__, error)
        self.run = None
