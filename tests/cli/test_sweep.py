"""A sweep: which jobs it has, and that each is done once."""

import itertools
import json
import os
import pickle
import shlex
import shutil
from pathlib import Path

import pytest
from commands import Train, main, write_checkpoint
from sweeps import job, settled

from hybrid_vit.cli import command as command_module
from hybrid_vit.cli.command import check
from hybrid_vit.cli.jobs import file_name, jobs
from hybrid_vit.cli.sweep import context
from hybrid_vit.config.build import build
from hybrid_vit.config.changeable import changeable
from hybrid_vit.config.compose import compose_config, look_in, options, resolve
from hybrid_vit.config.saved import save_run_config
from hybrid_vit.training.callbacks import Stopped
from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.files import Lock, write_json
from hybrid_vit.utils.paths import CONF, PUBLISHED

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
    assert [name for name, _ in jobs(["seed=0,0,1"])] == ["seed=0", "seed=1"]


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
    assert len(file_name("日" * 200).encode()) < 255
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
        own.append("seed=0,1" if name == "stem_depth" else "seed=0")  # fewer than it has
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


def test_a_job_that_failed_once_is_done_when_it_is(train: Train) -> None:
    """Other commands than a training write no summary of their own."""
    train.raises(UserError("unlucky"))
    assert main("-m", "seed=0", "hydra.sweep.dir=s") == 1
    train.effect = lambda spec: 50.0
    for _ in range(2):
        assert main("-m", "seed=0", "hydra.sweep.dir=s") == 0
    assert len(train.calls) == 2


def test_every_job_has_what_is_added_to_hydras_own_configuration(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ADDED", raising=False)
    seen = []

    def effect(spec: dict) -> float:
        seen.append((spec["seed"], os.environ.get("ADDED")))
        return 50.0

    train.effect = effect
    added = "+hydra.job.env_set.ADDED=yes"
    assert main("-m", "seed=0,1", added, "hydra.sweep.dir=s") == 0
    assert main("seed=2", added, "hydra.run.dir=r") == 0
    assert seen == [(0, "yes"), (1, "yes"), (2, "yes")]


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
    assert folders("seed=3", "augment.erase=null")[0] == {"seeds_5"}
    shutil.rmtree("outputs/sweeps/seeds")
    assert folders("seed=0,1")[0] == set()  # it is in seeds_2
    (Path("outputs/sweeps/seeds_2") / "sweep.json").write_text("[]")
    assert main("sweep=seeds", "seed=0,1") == 2
    assert "outputs/sweeps/seeds_2/sweep.json cannot be read" in (said := capsys.readouterr().err)
    assert said.count("\n") == 1


def test_a_sweep_of_other_pictures_is_another_one(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    settled(train)
    for root in ("a", "b", "other/a"):
        Path(root).mkdir(parents=True)
        assert main("sweep=seeds", "seed=0", "data=folder", f"data.root={root}") == 0
    Path("moved").mkdir()
    Path("a").rename("moved/a")
    assert main("sweep=seeds", "seed=0", "data=folder", "data.root=moved/a") == 0  # done already
    assert [directory.parent.name for _, directory, _ in train.calls] == ["seeds", "seeds_2", "seeds_3"]
    capsys.readouterr()
    assert main("-m", "seed=0,1", "data=folder", "data.root=b", "hydra.sweep.dir=outputs/sweeps/seeds") == 2
    assert "holds a run with data.root=" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-m", "sweep=stem_depth,width"], "is a sweep itself; run one sweep at a time"),
        (["-m", "experiment=fast_4m,pretrained_vs_scratch"], "is a sweep itself; run one sweep at a time"),
        (["sweep=seeds", "trainer.devices=2"], "a job of a sweep is trained by one process; use trainer.devices=1"),
        (["-m", "model=glob(hybird*)"], "model=glob(hybird*) has no value, so there is nothing to run"),
        (["-m", "seed=range(0)"], "seed=range(0) has no value"),
    ],
)
def test_no_sweep(train: Train, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    assert main(*arguments) == 2
    assert said in (error := capsys.readouterr().err) and error.count("\n") == 1
    assert not train.calls


def test_globs_and_launchers_know_the_folder_of_config_dir(train: Train) -> None:
    settled(train)
    Path("conf/experiment").mkdir(parents=True)
    for name in ("mine_a", "mine_b"):
        Path(f"conf/experiment/{name}.yaml").write_text(f"# @package _global_\nname: {name}\n")
    assert main("--config-dir", "conf", "-m", "experiment=glob(mine_*)", "hydra.sweep.dir=s") == 0
    assert [spec["name"] for spec, _, _ in train.calls] == ["mine_a", "mine_b"]
    composer = pickle.loads(pickle.dumps(context(compose_config(["experiment=mine_a"])).config_loader))
    look_in(None)  # as in a new process
    master = compose_config([])
    assert composer.load_sweep_config(master, ["experiment=mine_b"]).name == "mine_b"
    look_in(None)


def test_the_sweep_seeds_10_is_not_the_tenth_of_seeds(train: Train) -> None:
    settled(train)
    Path("conf/sweep").mkdir(parents=True)
    shutil.copy(CONF / "sweep/seeds.yaml", "conf/sweep/seeds_10.yaml")
    assert main("--config-dir", "conf", "sweep=seeds_10", "seed=0") == 0
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


def test_a_job_that_never_trained_may_have_other_settings(train: Train) -> None:
    train.raises(UserError("out of memory"))
    assert main("-m", "seed=0,1", "batch_size=4096", "hydra.sweep.dir=s") == 1
    settled(train)
    assert main("-m", "seed=0,1", "batch_size=512", "hydra.sweep.dir=s") == 0
    assert [(spec["seed"], spec["batch_size"]) for spec, _, _ in train.calls[2:]] == [(0, 512), (1, 512)]


def test_other_settings_of_another_command_do_not_count_as_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    argv = ["-m", "run=fast_4m,record_4m", "hydra.sweep.dir=s"]
    plan = check(argv, "evaluate")
    assert plan
    Path("s").mkdir()
    write_json(Path("s/sweep.json"), plan.purpose)
    assert check(argv, "evaluate")
    with pytest.raises(ValueError, match="s is of a sweep with tta=False, not True; choose another folder"):
        check([*argv, "tta=true"], "evaluate")


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
    Path("teacher/model.json").write_text((PUBLISHED / "quickstart" / "model.json").read_text())
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


def test_what_a_run_computes_cannot_change_when_it_continues() -> None:
    data = ("data.root", "data.num_workers", "data.check", "data.eval_batch_size")
    for key in ("trainer.max_time", "accelerator.precision", "logger", *data, "checkpoint_minutes", "tags", "verbose"):
        assert changeable(key), key
    limits = [f"trainer.limit_{part}_batches" for part in ("train", "val", "test")]
    for key in ("trainer", "trainer.accumulate_grad_batches", *limits, "data", "data.val_size", "seed", "epochs"):
        assert not changeable(key), key
