"""A sweep: which jobs it has, that each is done once, what it says of them, and the launchers that do them."""

import itertools
import json
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
from commands import Train, main, write_checkpoint
from omegaconf import OmegaConf

from hybrid_vit.cli import command as command_module
from hybrid_vit.cli import sweep as sweeping
from hybrid_vit.cli.changeable import changeable
from hybrid_vit.cli.command import check
from hybrid_vit.cli.jobs import Planned, file_name, jobs
from hybrid_vit.cli.overview import Overview, Status, look, row
from hybrid_vit.config.build import build
from hybrid_vit.config.compose import compose_config, options, resolve
from hybrid_vit.config.saved import save_run_config
from hybrid_vit.training.callbacks import Stopped
from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.files import Lock
from hybrid_vit.utils.paths import CONF

ROOT = CONF.parent
SMALL = [
    *("data=digits", "model=hybrid_tiny", "model.embed_dim=32", "model.depth=1", "augment=shift"),
    *("batch_size=32", "logger=none"),
]


def settled(train: Train) -> None:
    """From now on a training leaves what a real one leaves."""

    def effect(spec: dict) -> float:
        directory = train.calls[-1][1]
        state = {"state": "done", "steps": 10, "seconds": 2.0, "scores": {"val_top1": 50.0, "test_top1": 49.0}}
        (directory / "summary.json").write_text(json.dumps(state))
        return 50.0

    train.effect = effect


# --- which jobs there are


def test_jobs_have_hydras_order() -> None:
    assert [job for _, job in jobs(["a=1,2", "b=3", "c=x,y"])] == [
        ["a=1", "b=3", "c=x"],
        ["a=1", "b=3", "c=y"],
        ["a=2", "b=3", "c=x"],
        ["a=2", "b=3", "c=y"],
    ]


def test_the_name_of_a_job_says_what_varies() -> None:
    assert [name for name, _ in jobs(["a=1,2", "b=3"], {"seed": "0,1"})] == [
        "seed=0,a=1",
        "seed=0,a=2",
        "seed=1,a=1",
        "seed=1,a=2",
    ]
    assert [name for name, _ in jobs(["seed=7"], {"seed": "0,1"})] == ["seed=7"]
    assert [name for name, _ in jobs(["a=1"])] == ["job"]


def test_arms_are_compared_under_every_seed() -> None:
    arms = {"plain": [], "deep": ["depth=9"]}
    assert list(jobs(["x=1"], {"seed": "0,1"}, arms)) == [
        ("plain,seed=0", ["seed=0", "x=1", "name='plain'"]),
        ("deep,seed=0", ["seed=0", "x=1", "depth=9", "name='deep'"]),
        ("plain,seed=1", ["seed=1", "x=1", "name='plain'"]),
        ("deep,seed=1", ["seed=1", "x=1", "depth=9", "name='deep'"]),
    ]
    assert [name for name, _ in jobs([], {}, arms, ["deep"])] == ["deep"]
    assert list(jobs(["name=mine"], {}, {"a": []})) == [("a", ["name=mine"])]
    with pytest.raises(ValueError, match="dep is not one of plain, deep"):
        list(jobs([], {}, arms, ["dep"]))
    with pytest.raises(ValueError, match="there are no arms"):
        list(jobs([], {}, {}, ["a"]))


def test_names_are_names_of_directories() -> None:
    assert file_name("seed=0,optim.lr=1e-3") == "seed=0,optim.lr=1e-3"
    paths = [file_name(f"init_from=outputs/{run}") for run in ("a/b", "a_b", "x" * 300)]
    assert len(set(paths)) == 3 and not any("/" in path or len(path) > 200 for path in paths)


@pytest.mark.parametrize("name", options("sweep"))
@pytest.mark.parametrize(
    "model", ["hybrid_tiny", *(pytest.param(name, marks=pytest.mark.slow) for name in ("hybrid_192", "hybrid_384"))]
)
def test_every_sweep_can_be_built(name: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = [] if name == "zoo" else [f"model={model}"]
    if model == "hybrid_tiny" and not name.startswith("seeds"):
        own.append("seed=0,1")  # fewer than it has
    seen = []
    plan = check([f"sweep={name}", *own], also=lambda spec, directory, multirun: seen.append(spec))
    assert plan
    planned = plan.jobs
    assert len({job.directory for job in planned}) == len(planned) > 1
    assert {job.directory.parent for job in planned} == {Path("outputs/sweeps") / name}
    compared = [{key: value for key, value in spec.items() if key not in ("name", "seed")} for spec in seen]
    arms = {json.dumps(spec, sort_keys=True) for spec in compared}
    seeds = {spec["seed"] for spec in seen}
    assert len(arms) * len(seeds) == len(seen)  # every arm is another, and has every seed
    if name in ("stem_depth", "stem_type", "grid", "heads", "width", "parts") and model == "hybrid_tiny":
        for spec in {json.dumps(spec["model"]): spec["model"] for spec in seen}.values():
            build(spec)


def test_the_jobs_of_a_sweep_are_a_group() -> None:
    alone, together = (
        resolve(compose_config([*mode, "hydra.sweep.dir=a/b"])) for mode in ([], ["hydra.mode=MULTIRUN"])
    )
    assert (alone["logger"]["group"], together["logger"]["group"]) == (None, "b")


# --- each is done once


def test_what_is_done_is_not_done_again(train: Train) -> None:
    settled(train)
    assert main("-m", "seed=0,1", "hydra.sweep.dir=s") == 0
    assert main("-m", "seed=0,1,2", "hydra.sweep.dir=s") == 0
    assert [spec["seed"] for spec, _, _ in train.calls] == [0, 1, 2]
    assert main("-m", "seed=0,1,2", "hydra.sweep.dir=s") == 0
    assert len(train.calls) == 3


def test_a_sweep_has_a_folder_of_its_own(train: Train) -> None:
    settled(train)
    assert main("sweep=seeds", "seed=0,1") == 0
    assert [directory.relative_to(Path.cwd()) for _, directory, _ in train.calls] == [
        Path("outputs/sweeps/seeds/seed=0"),
        Path("outputs/sweeps/seeds/seed=1"),
    ]


def test_another_configuration_is_not_taken_for_the_same(
    train: Train,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settled(train)
    assert main("-m", "seed=0,1", "hydra.sweep.dir=s") == 0
    capsys.readouterr()
    assert main("-m", "seed=0,1", "epochs=3", "hydra.sweep.dir=s") == 2
    said = "s/seed=0 holds a run with epochs=200, not 3; choose another folder with hydra.sweep.dir=PATH\n"
    assert capsys.readouterr().err == said
    assert main("-m", "seed=0,1", "accelerator=cpu", "trainer.max_time=1h", "hydra.sweep.dir=s") == 0
    assert len(train.calls) == 2


def test_what_was_stopped_goes_on_and_what_failed_is_tried_again(
    train: Train,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def effect(spec: dict) -> float:
        if spec["seed"] == 0:
            raise UserError("unlucky")
        write_checkpoint(train.calls[-1][1] / "checkpoints" / "last.ckpt")
        (train.calls[-1][1] / "summary.json").write_text('{"state": "stopped", "steps": 4}')
        raise Stopped("SIGTERM")

    train.effect = effect
    assert main("-m", "seed=0,1,2", "hydra.sweep.dir=s") == 143
    assert "s: 0 of 3 jobs done, 1 waiting, 1 stopped, 1 failed\n" in capsys.readouterr().err
    settled(train)
    assert main("-m", "seed=0,1,2", "hydra.sweep.dir=s") == 0
    assert [(spec["seed"], resume) for spec, _, resume in train.calls] == [
        *((0, False), (1, False)),
        *((0, False), (1, True), (2, False)),
    ]


def test_our_own_mistakes_do_not_stop_the_others_either(train: Train) -> None:
    train.raises(AssertionError("cannot happen"))
    assert main("-m", "seed=0,1", "hydra.sweep.dir=s") == 1
    assert len(train.calls) == 2
    assert json.loads(Path("s/seed=1/summary.json").read_text())["reason"] == "cannot happen"
    assert "Traceback" in Path("s/seed=1/train.log").read_text()


def test_a_multirun_without_a_name_has_one_folder(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    """`now` in the name of the folder is a time, which goes on while the jobs are planned."""
    settled(train)
    assert main("-m", "seed=0,1,2", "hydra.sweep.dir=sweeps/${now:%f}") == 0  # microseconds
    assert "3 of 3 jobs done\n" in capsys.readouterr().err
    [folder] = Path("sweeps").iterdir()
    assert {directory.parent for _, directory, _ in train.calls} == {folder.absolute()}
    assert "waiting" not in (folder / "overview.txt").read_text()


def test_the_line_that_tries_again_is_true(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    def effect(spec: dict) -> float:
        raise UserError("unlucky")

    train.effect = effect
    assert main("-m", "seed=0,1", "epochs=3", "hydra.sweep.dir=sweeps/${now:x}") == 1
    said = capsys.readouterr().err
    assert "waiting" not in said.splitlines()[-2] and "x: 0 of 2 jobs done, 2 failed" in said
    line = said.splitlines()[-1].removeprefix("failed: seed=0, seed=1; ").removesuffix(" tries again")
    words = shlex.split(line)
    assert words[:3] == ["python", "-m", "hybrid_vit.train"]
    settled(train)
    assert main(*words[3:]) == 0
    assert [path.name for path in Path("sweeps").iterdir()] == ["x"]
    assert main("sweep=seeds", "seed=0") == 0
    train.effect = effect
    assert main("sweep=seeds", "seed=0,2") == 1
    assert capsys.readouterr().err.splitlines()[-1] == "failed: seed=2; the same command tries again"
    settled(train)
    assert main("sweep=seeds", "seed=0,2") == 0
    assert [path.name for path in Path("outputs/sweeps").iterdir()] == ["seeds"]


def test_a_sweep_with_other_settings_has_a_folder_of_its_own_and_finds_it_again(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    def folders(*settings: str) -> tuple[set[str], str]:
        train.calls.clear()
        assert main("sweep=seeds", *settings) == 0
        return {directory.parent.name for _, directory, _ in train.calls}, capsys.readouterr().err

    settled(train)
    assert folders("seed=0", "epochs=1")[0] == {"seeds"}
    again, said = folders("seed=0,1")
    assert again == {"seeds_2"}
    assert "seeds_2: 2 jobs, 0 done already, in outputs/sweeps/seeds_2 (outputs/sweeps/seeds is of " in said
    assert "with epochs=1, not 200)" in said
    assert folders("seed=2")[0] == {"seeds_2"}  # no run of it is anywhere, and it belongs to these
    assert folders("seed=0,2", "accelerator=cpu")[0] == set()
    assert folders("seed=0,1", "epochs=1")[0] == {"seeds"}
    assert folders("seed=0", "model=hybrid_384")[0] == {"seeds_3"}
    assert folders("seed=0", "model=hybrid_192,hybrid_384")[0] == {"seeds_4"}
    shutil.rmtree("outputs/sweeps/seeds")
    assert folders("seed=0,1")[0] == set()  # it is in seeds_2
    (Path("outputs/sweeps/seeds_2") / "sweep.json").write_text("[]")
    assert main("sweep=seeds", "seed=0,1") == 2
    assert "outputs/sweeps/seeds_2/sweep.json cannot be read" in (said := capsys.readouterr().err)
    assert said.count("\n") == 1


def test_the_sweep_seeds_10_is_not_the_tenth_of_seeds(train: Train) -> None:
    settled(train)
    assert main("sweep=seeds_10", "seed=0") == 0
    assert main("sweep=seeds", "seed=0") == 0
    assert [directory.parent.name for _, directory, _ in train.calls] == ["seeds_10", "seeds"]


def test_of_two_processes_the_second_is_refused(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    Path("s").mkdir()
    with (lock := Lock(Path("s/.lock"))):
        assert main("-m", "seed=0,1", "hydra.sweep.dir=s") == 2
        assert capsys.readouterr().err == (
            f"s is in use by {lock.holder()}; wait for its end, or choose another directory\n"
        )
        assert not train.calls and [path.name for path in Path("s").iterdir()] == [".lock"]
    settled(train)
    assert main("-m", "seed=0,1", "hydra.sweep.dir=s") == 0


def test_a_job_that_another_process_trains_is_left_alone(
    train: Train, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settled(train)
    monkeypatch.setattr(command_module, "PATIENCE", 0)
    running = job(Path("s"), "seed=0", {"state": "running", "steps": 10})
    with Lock(running.directory / ".lock"):
        assert main("-m", "seed=0,1", "hydra.sweep.dir=s") == 1
    assert "s/seed=0 is in use by process" in (said := capsys.readouterr().err)
    assert "1 of 2 jobs done, 1 running" in said
    assert json.loads((running.directory / "summary.json").read_text())["state"] == "running"


def test_a_half_made_job_starts_anew_and_stops_no_other(train: Train) -> None:
    settled(train)
    for seed, left in enumerate([".hydra/", ".hydra/config.yaml", "summary.json", "train.log", ""]):
        place = Path(f"s/seed={seed}", left)
        if left[-1:] in ("", "/"):
            place.mkdir(parents=True)
        else:
            place.parent.mkdir(parents=True)
            place.write_text("")
    assert main("-m", "seed=range(6)", "hydra.sweep.dir=s") == 0
    assert [(spec["seed"], resume) for spec, _, resume in train.calls] == [(seed, False) for seed in range(6)]


def test_a_damaged_job_is_one_sentence_and_stops_no_other(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    damages = [
        (f"s/seed={seed}", name, content)
        for seed, (name, content) in enumerate(
            itertools.product(["summary.json", ".hydra/config.yaml"], ["", "[]", '{"state": 3}', "a: [", "\0"])
        )
    ]
    settled(train)
    for directory, name, content in damages:
        write_checkpoint(Path(directory, "checkpoints/last.ckpt"))
        Path(directory, "summary.json").write_text('{"state": "stopped", "steps": 10}')
        save_run_config(resolve(compose_config([f"seed={directory[-1]}"])), Path(directory))
        Path(directory, name).write_text(content)
    assert main("-m", "seed=range(11)", "hydra.sweep.dir=s") == 1
    said = capsys.readouterr().err
    for directory, name, content in damages:
        [line] = [line for line in said.splitlines() if line.startswith(f"{Path(directory).name} ")]
        assert "failed" in line and f"{directory}/{name}" in line
        assert f"delete {directory} to train this job from its beginning" in line
        assert Path(directory, name).read_text() == content
    assert "s: 1 of 11 jobs done, 10 failed" in said
    assert [spec["seed"] for spec, _, _ in train.calls] == [10]
    shutil.rmtree("s/seed=0")
    assert main("-m", "seed=0,10", "hydra.sweep.dir=s") == 0


def test_a_job_whose_settings_name_a_run_by_a_relative_path_is_the_same_again(train: Train) -> None:
    settled(train)
    Path("teacher").mkdir()
    Path("teacher/model.json").write_text("{}")
    for _ in range(2):
        assert main("-m", "seed=0,1", "init_from=teacher", "hydra.sweep.dir=s") == 0
    assert len(train.calls) == 2


@pytest.mark.parametrize("choice", ["optuna", "basic"])
def test_another_sweeper_is_refused(train: Train, capsys: pytest.CaptureFixture[str], choice: str) -> None:
    assert main("-m", f"hydra/sweeper={choice}", "seed=0,1") == 2
    said = capsys.readouterr().err
    assert f"hydra/sweeper={choice}" in said and "leave it out" in said and "python -m hybrid_vit.search" in said
    assert said.count("\n") == 1
    assert not list(Path().iterdir())


# --- what it says


def job(folder: Path, name: str, summary: dict | None = None, steps: int | None = None) -> Planned:
    directory = folder / name
    directory.mkdir(parents=True)
    if summary is not None:
        (directory / "summary.json").write_text(json.dumps(summary))
    if steps is not None:
        (directory / "metrics.csv").write_text(f"epoch,step,val_top1\n0,{steps},3.0\n")
    return Planned(name, [], directory)


def test_a_directory_tells_how_far_it_is(tmp_path: Path) -> None:
    assert look(tmp_path / "none").state == "waiting"
    running = job(tmp_path, "a", {"state": "running", "steps": 200}, 50)
    assert look(running.directory).state == "waiting"  # a process that is dead left it
    with Lock(running.directory / ".lock"):
        assert (look(running.directory).state, look(running.directory).share) == ("running", 0.25)


@pytest.mark.parametrize(
    "content", ["", '{"state": "runn', "[]", "3", '{"state": 3}', '{"state": []}', '{"scores": 3}']
)
def test_the_overview_bears_damaged_files(tmp_path: Path, content: str) -> None:
    bad = job(tmp_path, "a")
    (bad.directory / "summary.json").write_text(content)
    for table in ("", "\n", "epoch,step\n0,nan\n", "epoch,step\n0,-3\n", "\0"):
        (bad.directory / "metrics.csv").write_text(table)
        overview = Overview(tmp_path, [bad])
        assert "a    waiting     0%" in overview.write(overview.status())
    (bad.directory / "summary.json").write_text('{"state": "done", "scores": {"val_top1": null}, "seconds": "?"}')
    assert "a    done" in overview.table(overview.status())


def test_the_overview_estimates_the_time_that_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    planned = [job(tmp_path, "a", {"state": "done", "steps": 10}, 10), job(tmp_path, "b"), job(tmp_path, "c")]
    overview = Overview(tmp_path, planned)
    overview.began -= 60
    (planned[1].directory / "summary.json").write_text('{"state": "running", "steps": 10}')
    (planned[1].directory / "metrics.csv").write_text("epoch,step\n0,5\n")
    held = Lock(planned[1].directory / ".lock")
    held.acquire()
    request.addfinalizer(held.release)
    monkeypatch.setattr(time, "time", lambda: 0.0)  # the clock of the machine is set back
    line = overview.line(overview.status())  # half a job a minute, and one and a half are left
    assert line == f"{tmp_path.name}: 1 of 3 jobs done, 1 running, 1 waiting, about 3 min left"
    table = overview.write(overview.status())
    assert table == (tmp_path / "overview.txt").read_text()
    assert [line.split()[:3] for line in table.splitlines()[1:4]] == [
        ["a", "done", "100%"],
        ["b", "running", "50%"],
        ["c", "waiting", "0%"],
    ]


# --- with real trainings


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


def test_a_score_of_some_batches_is_not_shown_as_one() -> None:
    summary = {"scores": {"val_top1": 12.0, "test_top1": 34.0}, "limited": {"train_batches": 2}}
    line = "  ".join(row("a", Status("done", 1.0, summary)))
    assert "12.00" not in line and "34.00" not in line
    assert line.endswith("limited to train_batches=2: no score")


def test_what_a_run_computes_cannot_change_when_it_continues() -> None:
    assert changeable("trainer.max_time") and changeable("logger") and not changeable("trainer")
    assert not changeable("trainer.accumulate_grad_batches") and not changeable("trainer.limit_train_batches")
