"""Which run a command line means: a new one, or one that continues."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from commands import Train, main, write_checkpoint
from omegaconf import OmegaConf

from hybrid_vit.cli.command import places
from hybrid_vit.config.compose import compose_config, parse_override, resolve
from hybrid_vit.config.saved import load_recorded_config, load_run_config, make_paths_absolute, save_run_config
from hybrid_vit.utils.paths import PUBLISHED

RUN = ["model=hybrid_tiny", "epochs=7", "name=${hydra:runtime.choices.model}"]


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command leaves of a run that was started and then stopped; to be copied."""
    here = tmp_path_factory.mktemp("runs") / "a"
    (here / ".hydra").mkdir(parents=True)
    cfg = compose_config(RUN)
    OmegaConf.save(OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"]), here / ".hydra" / "config.yaml")
    OmegaConf.save(OmegaConf.masked_copy(cfg, "hydra"), here / ".hydra" / "hydra.yaml")
    (here / ".hydra" / "overrides.yaml").write_text("as they were")
    (here / "train.log").write_text("first lines\n")
    write_checkpoint(here / "checkpoints" / "last.ckpt")
    (here / "summary.json").write_text('{"state": "stopped"}')
    return here


@pytest.fixture
def stopped(started: Path, train: Train) -> Path:
    """runs/a, seen from the working directory."""
    return shutil.copytree(started, Path("runs") / "a")


def test_a_directory_with_a_run_is_not_used_again(
    train: Train, stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("hydra.run.dir=runs/a") == 2
    assert "runs/a holds a run already" in (said := capsys.readouterr().err)
    assert "resume=runs/a" in said and "hydra.run.dir=" in said
    assert not train.calls


@pytest.mark.parametrize("name", ["runs/a", "a b, c=d"])
def test_a_run_continues_as_what_it_was(train: Train, stopped: Path, tmp_path: Path, name: str) -> None:
    here = stopped.rename(name)
    before = {file.name: file.read_text() for file in (here / ".hydra").iterdir()}
    assert main(f"resume={name}", "trainer.max_time=1h", "accelerator=cpu", "data.root=/else") == 0
    own = resolve(compose_config([*RUN, "trainer.max_time=1h", "accelerator=cpu", "data.root=/else"]))
    assert train.calls == [(own, tmp_path / name, True)]
    assert own["name"] == "hybrid_tiny"
    assert {file.name: file.read_text() for file in (here / ".hydra").iterdir()} == before
    assert (here / "train.log").read_text().startswith("first lines\n")


def test_a_dictionary_changes_its_own_keys_alone(train: Train, stopped: Path) -> None:
    own = load_run_config(stopped)
    own["trainer"] |= {"accumulate_grad_batches": 4, "devices": 1}
    save_run_config(own, stopped)
    assert main("resume=runs/a", "trainer={max_time: 1h}", "logger={mode: offline, project: x}") == 0
    [(spec, _, _)] = train.calls
    assert spec["trainer"] == own["trainer"] | {"max_time": "1h"}
    assert spec["logger"] == own["logger"] | {"mode": "offline", "project": "x"}


def test_a_run_continues_from_another_directory(
    train: Train, stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main("resume=../runs/a") == 0
    assert train.calls[-1][1].resolve() == tmp_path / stopped
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["model.depth=3"], "model.depth cannot change when a run continues"),
        (["optim=sgd"], "optim cannot change when a run continues"),
        (["hydra.run.dir=other"], "hydra.run.dir cannot change when a run continues"),
        (
            ["trainer={accumulate_grad_batches: 4}"],
            "trainer.accumulate_grad_batches cannot change when a run continues",
        ),
        (["trainer={max_time: 1h, limit_train_batches: 2}"], "trainer.limit_train_batches cannot change when a run"),
        (["data={num_workers: 0, val_size: 9}"], "data.val_size cannot change when a run continues"),
        (["trainer=null"], "trainer"),
        (["trainer.max_tim=1h"], "did you mean trainer.max_time?"),
        (["checkpoint_minutes=soon"], "'soon' is not a number"),
        (["checkpoint_minutes=0"], "checkpoint_minutes=0.0 must be positive"),
        (["-m"], "leave out -m"),
        (["--cfg", "job"], "continues with the configuration in .hydra/config.yaml there; leave out --cfg"),
    ],
)
def test_what_cannot_change(
    train: Train, stopped: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main("resume=runs/a", *arguments) == 2
    assert said in (error := capsys.readouterr().err) and error.count("\n") == 1
    assert not train.calls


def test_the_images_of_a_run_may_have_moved(train: Train, stopped: Path) -> None:
    own = load_run_config(stopped)
    own["data"] |= {"source": "folder", "root": "nowhere"}
    save_run_config(own, stopped)
    Path("list.csv").touch()
    assert main("resume=runs/a", "data.root=list.csv") == 0
    [(spec, _, _)] = train.calls
    assert (spec["data"]["source"], Path(spec["data"]["root"])) == ("folder", Path("list.csv").absolute())


def test_a_run_that_cannot_be_written_is_a_sentence(
    train: Train, stopped: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)  # the tests may be those of root
    assert main("resume=runs/a") == 2
    assert "runs/a cannot be written; resume a copy of it" in capsys.readouterr().err


def test_what_cannot_continue(train: Train, stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*arguments: str) -> str:
        assert main(*arguments) == 2
        return capsys.readouterr().err

    (stopped / "summary.json").write_text(json.dumps({"state": "done"}))
    assert "runs/a is done: its scores are in" in said("resume=runs/a")
    again = said("hydra.run.dir=runs/a")
    assert "runs/a holds a run already" in again and "resume" not in again
    (stopped / "checkpoints" / "last.ckpt").unlink()
    assert "runs/a cannot be lengthened: there is no checkpoint" in said("resume=runs/a", "epochs=999")
    assert "runs is not the directory of a run" in said("resume=runs")
    assert "no, where does not exist" in said("resume=no, where")
    assert not train.calls


def test_a_run_that_is_done_is_lengthened(train: Train, stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = load_run_config(stopped)
    own["early_stopping"]["patience"] = 3
    save_run_config(own | {"budget": "1m", "budget_by": "clock"}, stopped)
    before = (stopped / ".hydra" / "config.yaml").read_bytes()
    (stopped / "summary.json").write_text(json.dumps({"state": "done", "steps": 100, "epochs": 2.5}))
    for few in ("epochs=2", "steps=100"):
        assert main("resume=runs/a", few) == 2
        assert f"{few} is not longer than" in capsys.readouterr().err
    assert (stopped / ".hydra" / "config.yaml").read_bytes() == before and not train.calls
    assert main("resume=runs/a", "epochs=3") == 0
    now = load_run_config(stopped)
    assert (now["epochs"], now["steps"], now["budget"], now["budget_by"]) == (3, None, None, "steps")
    assert now["early_stopping"]["patience"] is None
    assert [resume for *_, resume in train.calls] == [True]


def test_a_run_that_ended_before_its_first_checkpoint_starts_again(train: Train, stopped: Path) -> None:
    (stopped / "checkpoints" / "last.ckpt").unlink()
    (stopped / "summary.json").unlink()
    assert main("resume=runs/a") == 0
    assert [(str(directory), resume) for _, directory, resume in train.calls] == [(str(stopped.absolute()), False)]


@pytest.mark.parametrize("left", [[], [".hydra"], [".hydra/config.yaml"]])
def test_what_a_killed_command_left_before_its_first_file_is_no_run(train: Train, left: list[str]) -> None:
    for name in left:
        Path("run", name).parent.mkdir(parents=True, exist_ok=True)
        Path("run", name).write_text("") if "." in name[1:] else Path("run", name).mkdir()
    assert main(*RUN, "hydra.run.dir=run") == 0
    assert len(train.calls) == 1


@pytest.mark.parametrize("content", ["", "[]", "a: [", "3", "epochs: many\n", "name: x\n", "\0"])
def test_a_damaged_configuration_is_one_sentence(
    train: Train, stopped: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    (stopped / ".hydra" / "config.yaml").write_text(content)
    assert main("resume=runs/a") == 2
    said = capsys.readouterr().err
    assert "runs/a/.hydra/config.yaml" in said and said.count("\n") == 1
    assert not train.calls


@pytest.mark.parametrize(
    "text", ["${oc.env:SECRET}", "${ oc.env:SECRET}", "${oc.${half}:SECRET}", "\\x24{oc.env:SECRET}", "${hydra:job.x}"]
)
def test_a_strangers_configuration_does_not_see_the_environment(
    train: Train, stopped: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("SECRET", "swordfish")
    folder = stopped / ".hydra"
    lines = (folder / "config.yaml").read_text().splitlines()
    content = [f'name: "{text}"' if line.startswith("name:") else line for line in lines]
    (folder / "config.yaml").write_text("\n".join([*content, "half: env"]))
    hydra = (folder / "hydra.yaml").read_text()
    (folder / "hydra.yaml").write_text(hydra.replace("  job:\n", "  job:\n    x: ${oc.env:SECRET}\n"))
    assert main("resume=runs/a") == 2
    said = capsys.readouterr().err
    assert "refers to what is outside of it" in said and "swordfish" not in said and said.count("\n") == 1
    with pytest.raises(ValueError, match="refers to what is outside of it"):
        load_recorded_config(stopped)


def test_paths_of_a_run_do_not_depend_on_the_folder(
    train: Train, stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = stopped.rename(Path("runs") / "a=1,b=2")
    (here / "model.json").write_text((PUBLISHED / "quickstart" / "model.json").read_text())
    settings = ["data.root=pictures", f"init_from={here}", "distill.teacher=quickstart"]
    assert main(*RUN, *settings, "hydra.run.dir=b") == 0
    first = train.calls[-1][0]
    assert first["data"]["root"] == str(tmp_path / "pictures")
    assert (first["init_from"], first["distill"]["teacher"]) == (str(tmp_path / here), "quickstart")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main("resume=../b") == 0
    assert train.calls[-1][0] == first


def test_a_process_that_helps_with_a_run_takes_its_directory(
    train: Train, stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning starts it with the arguments of the first and these."""
    assert main("resume=runs/a", "trainer.devices=2") == 0
    there = [f'hydra.run.dir="{tmp_path / stopped}"', "hydra.job.name=helper", "hydra.output_subdir=null"]
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert main(*sys.argv[1:], *there) == 0
    first, second = train.calls
    assert first == second
    (stopped / "checkpoints" / "last.ckpt").unlink()
    assert main(*RUN, *there) == 0
    assert train.calls[-1][1:] == (tmp_path / stopped, False)


def test_a_folder_named_like_a_published_run_is_not_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec = {"data": {"root": None}, "init_from": "fast_4m", "distill": {"teacher": None}}
    Path("fast_4m").mkdir()
    assert make_paths_absolute(spec)["init_from"] == "fast_4m"
    Path("fast_4m/model.json").touch()
    assert make_paths_absolute(spec)["init_from"] == str(tmp_path / "fast_4m")


def test_a_long_setting_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "depth=4").mkdir()
    assert places([str(tmp_path / "depth=4"), f"title={300 * 'x'}", "run"]) == [str(tmp_path / "depth=4"), "run"]


def test_jobs_of_a_sweep_are_named_by_their_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    jobs = [Path(f"s/seed={seed}") for seed in range(2)]
    for job in jobs:
        job.mkdir(parents=True)
    cfg = compose_config([f"runs=[{jobs[0]},{jobs[1]}]", "name=pair"], "ensemble")
    assert [*cfg.runs] == [str(job) for job in jobs]
    assert parse_override(f"run={jobs[0]},{jobs[1]}").is_sweep_override()
    named = Path("s/patch,seed=7")
    named.mkdir()
    assert [*compose_config([f"runs=[{named}, {jobs[0]}]", "name=pair"], "ensemble").runs] == [str(named), str(jobs[0])]
    many = [f"s/{'x' * 100}={number}" for number in range(100)]  # longer than a path can be
    assert len(compose_config([f"runs=[{','.join(map(repr, many))}]", "name=a"], "ensemble").runs) == 100


def test_a_file_of_a_run_is_not_the_run(train: Train, stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("resume=runs/a/checkpoints/last.ckpt") == 2
    assert "last.ckpt is a file; give the directory of its run" in capsys.readouterr().err
