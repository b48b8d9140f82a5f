"""Command: train a model, or continue a run. `python -m hybrid_vit.train model=hybrid_192`; `--help` says more."""

import math
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

from hybrid_vit.cli.command import arguments, clear, run_command
from hybrid_vit.cli.runs import continued, lengthening, resumed, startable
from hybrid_vit.config.compose import Spec, as_train
from hybrid_vit.config.saved import make_paths_absolute, save_run_config
from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.paths import shown
from hybrid_vit.utils.processes import is_helper


def main() -> None:
    argv = sys.argv[1:]
    resume = resumed(argv)
    if resume is None:
        run_command("train", begin, argv, also=startable, exclusive=not is_helper())
        return
    with clear(code=2):
        merged, argv = continued(resume, argv)
        if arguments(argv)[0].cfg:
            raise UserError(f"{resume} continues with the configuration in .hydra/config.yaml there; leave out --cfg")

    def job(spec: Spec, directory: Path) -> Any:
        return start(merged(spec), directory)

    def check(spec: Spec, directory: Path, multirun: bool) -> None:
        merged(spec)

    run_command("train", job, argv, also=check, exclusive=not is_helper())


def begin(spec: Spec, directory: Path) -> Any:
    """Train a run whose directory then holds its whole configuration."""
    spec = make_paths_absolute(spec)
    if not is_helper():
        save_run_config(spec, directory)
    return start(spec, directory)


def start(spec: Spec, directory: Path) -> Any:
    """Train, or go on with what has a checkpoint; a run that was stopped says how it goes on."""
    from hybrid_vit.training.callbacks import Stopped, latest  # with torch, for which --help need not wait
    from hybrid_vit.training.run import train

    try:
        checkpoint = latest(directory / "checkpoints")
        return train(as_train(spec), directory, checkpoint=checkpoint, **lengthening(spec, directory))
    except Stopped as stopped:
        if is_helper():  # an exit code would make Lightning kill the process that leads
            return math.nan
        resume = shlex.quote(f"resume={shown(directory)}")
        print(f"stopped ({stopped}); continue with: python -m hybrid_vit.train {resume}")
        if number := signal.Signals.__members__.get(str(stopped)):
            raise SystemExit(128 + number) from None
        return math.nan


if __name__ == "__main__":
    main()
