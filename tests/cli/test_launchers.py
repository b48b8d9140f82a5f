"""The launchers that do the jobs of a sweep, with real trainings, and processes that die."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from sweeps import job

from hybrid_vit.cli import sweep as sweeping
from hybrid_vit.cli.command import check
from hybrid_vit.cli.jobs import Planned
from hybrid_vit.cli.overview import look
from hybrid_vit.utils.paths import CONF

ROOT = CONF.parent


SMALL = [
    *("data=digits", "model=hybrid_tiny", "model.embed_dim=32", "model.depth=1", "augment=shift"),
    *("batch_size=32", "logger=none"),
]


def command(*settings: str, cwd: Path) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "hybrid_vit.train", *SMALL, *settings]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(line, cwd=cwd, env=env, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_killed_sweep_continues(tmp_path: Path) -> None:
    line = ["sweep=seeds", "seed=0,1", "steps=300", "checkpoint_minutes=0.01", "hydra.sweep.dir=s"]
    killed = command(*line, cwd=tmp_path)
    while not (tmp_path / "s" / "seed=0" / "checkpoints" / "last.ckpt").exists():
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    again = command(*line, cwd=tmp_path)
    _, said = again.communicate()
    assert again.returncode == 0 and "s: 2 of 2 jobs done" in said
    rows = (tmp_path / "s" / "seed=0" / "metrics.csv").read_text().splitlines()
    assert len(rows) == 1 + math.ceil(300 / 40)


JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


def worker(directory: Path, process: subprocess.Popen[str]) -> int:
    """The process that trains in a directory, once it has a checkpoint there."""
    while not (directory / "checkpoints" / "last.ckpt").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    return int((directory / ".lock").read_text().split()[1])


@pytest.mark.slow
def test_a_sweep_outlives_a_killed_worker(tmp_path: Path) -> None:
    line = ["sweep=seeds", "seed=0,1,2", "steps=400", "checkpoint_minutes=0.01", "hydra.sweep.dir=s", *JOBLIB]
    process = command(*line, cwd=tmp_path)
    os.kill(worker(tmp_path / "s" / "seed=0", process), signal.SIGKILL)
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert "a worker died during seed=0" in said and "s: 3 of 3 jobs done" in said and "Traceback" not in said
    for path in tmp_path.glob("s/*/metrics.csv"):
        assert len(path.read_text().splitlines()) == 1 + math.ceil(400 / 40)


@pytest.mark.slow
def test_workers_end_with_their_sweep_and_the_same_command_goes_on(tmp_path: Path) -> None:
    line = ["sweep=seeds", "seed=0,1", "steps=400", "checkpoint_minutes=0.01", "hydra.sweep.dir=s", *JOBLIB]
    process = command(*line, cwd=tmp_path)
    jobs = [tmp_path / "s" / f"seed={seed}" for seed in (0, 1)]
    for directory in jobs:
        worker(directory, process)
    process.send_signal(signal.SIGKILL)
    again = command(*line, cwd=tmp_path)  # at once: the workers may still be saving their checkpoints
    before = time.monotonic()
    while {json.loads((directory / "summary.json").read_text())["state"] for directory in jobs} != {"stopped"}:
        assert time.monotonic() - before < 60
        time.sleep(0.05)
    process.communicate()
    _, said = again.communicate()
    assert again.returncode == 0 and "s: 2 of 2 jobs done" in said, said


def test_a_job_whose_process_dies_each_time_has_failed_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As loky does: one process dies, all are ended, and nobody knows which it was."""
    planned = [job(tmp_path, name) for name in "abcd"]
    launched = []

    def launch(cfg: object, task: object, batch: list[Planned]) -> None:
        launched.append("".join(job.name for job in batch))
        for first in range(0, len(batch), 2):  # two at a time
            pair = batch[first : first + 2]
            if "b" in [job.name for job in pair]:
                for job in pair:
                    (job.directory / ".lock").write_text("process 1 on nowhere\n")
                raise BrokenProcessPool
            for job in pair:
                (job.directory / "summary.json").write_text('{"state": "done"}')

    monkeypatch.setattr(sweeping, "launch", launch)
    sweeping.relaunch(OmegaConf.create(), lambda cfg: None, planned)
    assert launched == ["abcd", "abcd", "cd", "a", "b"]
    assert [look(job.directory).state for job in planned] == ["done", "failed", "done", "done"]
    assert "its process died each time" in look(planned[1].directory).summary["reason"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [
        ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
        ["hydra/launcher=submitit_local"],
        ["hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2", "+hydra.launcher.ray.remote.num_cpus=1"],
    ],
    ids=["joblib", "submitit", "ray"],
)
def test_other_launchers_do_the_same_jobs(launcher: list[str], tmp_path: Path) -> None:
    line = ["sweep=stem_depth", "seed=0", "steps=10", "hydra.sweep.dir=s", *launcher]
    process = command(*line, "optim.lr=1e-3", cwd=tmp_path)
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert "s: 4 of 4 jobs done" in said
    summaries = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("s/*/summary.json"))]
    names = ["2_convolutions", "3_convolutions", "4_convolutions", "patch"]
    assert [(summary["name"], summary["state"]) for summary in summaries] == [(name, "done") for name in names]
    if "joblib" in launcher[0]:
        assert {summary["threads"] for summary in summaries} == {
            max((os.cpu_count() or 1) // 2, 1)
        }  # to each its cores


def test_the_command_of_an_agent_of_weights_and_biases() -> None:
    """Built by wandb's own functions, as its agent does, from the values that the service would send."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    sweep = OmegaConf.to_container(OmegaConf.load(ROOT / "docs" / "wandb_sweep.yaml"), resolve=False)
    assert isinstance(sweep, dict)
    values = {
        key: {"value": how["values"][-1] if "values" in how else how["max"]} for key, how in sweep["parameters"].items()
    }
    said = create_sweep_command_args({"args": values}) | {"interpreter": ["python"], "program": [sweep["program"]]}
    line = [text for part in create_sweep_command(sweep["command"]) for text in said.get(part[2:-1], [part])]
    assert line[:3] == ["python", "-m", "hybrid_vit.train"] and "optim.lr=0.003" in line
    check(line[3:])
    assert sweep["metric"]["name"] == "val_top1"  # a column of every run with a validation split
