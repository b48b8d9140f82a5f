"""The command `hybrid-vit-train`: what it starts, what it says and its exit code."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from commands import Train, main

import hybrid_vit
from hybrid_vit.cli.command import claim, clear
from hybrid_vit.config.compose import options
from hybrid_vit.training.callbacks import Stopped
from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.files import Lock

RUN = ["model=hybrid_tiny", "epochs=7", "name=${hydra:runtime.choices.model}"]


ROOT = Path(__file__).resolve().parent.parent


def command(*arguments: str, cwd: Path, code: str = "") -> subprocess.CompletedProcess[str]:
    start = ["-c", code] if code else ["-m", "hybrid_vit.train"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    env.pop("HYDRA_FULL_ERROR", None)
    return subprocess.run([sys.executable, *start, *arguments], cwd=cwd, env=env, capture_output=True, text=True)


# --- starting


def test_a_run_gets_its_configuration_and_its_directory(train: Train, tmp_path: Path) -> None:
    assert main(*RUN) == 0
    [(spec, directory, resume)] = train.calls
    assert (spec["name"], spec["epochs"], resume) == ("hybrid_tiny", 7, False)
    assert directory.parent == tmp_path / "outputs" / "runs"
    assert (directory / ".hydra" / "config.yaml").is_file()
    assert (directory / "train.log").is_file()


def test_a_multirun_trains_every_combination(train: Train, tmp_path: Path) -> None:
    assert main("-m", "model.stem.depth=2,3", "model.depth=4,6", "hydra.sweep.dir=s") == 0
    found = [
        (s["model"]["stem"]["depth"], s["model"]["depth"], str(d.relative_to(tmp_path))) for s, d, _ in train.calls
    ]
    assert found == [(a, b, f"s/model.stem.depth={a},model.depth={b}") for a, b in ((2, 4), (2, 6), (3, 4), (3, 6))]


def test_two_runs_of_the_same_second_have_two_directories(train: Train, tmp_path: Path) -> None:
    """This pattern has no time in it, so that the second command meets the directory of the first for certain."""
    place = "hydra.run.dir=runs/${now:x}"
    assert main(*RUN, "seed=0", place) == main(*RUN, "seed=1", place) == 0
    assert [(spec["seed"], str(there.relative_to(tmp_path))) for spec, there, _ in train.calls] == [
        (0, "runs/x"),
        (1, "runs/x_2"),
    ]
    for seed in (0, 1):
        assert f"seed={seed}\n" in (train.calls[seed][1] / ".hydra" / "overrides.yaml").read_text()


def test_of_many_processes_each_claims_a_directory_of_its_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        claimed = list(pool.map(lambda _: claim(tmp_path / "runs" / "x"), range(64)))
    assert sorted(claimed) == sorted((tmp_path / "runs").iterdir()) and len(claimed) == 64


def test_two_lengths_are_refused(train: Train, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main("budget=30m", "steps=3") == 2
    assert capsys.readouterr().err == "budget=30m and steps=3 both set the length; give one of them\n"
    assert not train.calls and not list(tmp_path.iterdir())


# --- failing


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("embed_dim 200 is not divisible"), "embed_dim 200 is not divisible\n"),
        (FileNotFoundError(2, "No such file or directory", "/x/y"), "/x/y: No such file or directory\n"),
        (NotADirectoryError("data.root /x is a file"), "data.root /x is a file\n"),
        (MemoryError("13 GiB"), "out of memory; try a smaller batch_size or model (13 GiB)\n"),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that ..."),
            "a process that reads images was ended (DataLoader worker (pid 7) is killed by signal: Bus error); use "
            "data.num_workers=0 or a smaller data.eval_batch_size, or give a container more shared memory "
            "(--shm-size)\n",
        ),
    ],
)
def test_what_a_user_can_mend_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    with pytest.raises(SystemExit) as stop, clear():
        raise error
    assert (stop.value.code, capsys.readouterr().err) == (1, said)


def test_the_traceback_is_in_the_log(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    def effect(spec: dict) -> float:
        Path("run/summary.json").write_text("{}")
        raise UserError("embed_dim 200 is not divisible")

    train.effect = effect
    assert main("hydra.run.dir=run") == 1
    output = capsys.readouterr()
    assert output.err == "embed_dim 200 is not divisible\n"
    assert "Traceback" not in output.out
    assert "Traceback" in (logged := Path("run/train.log").read_text()) and "UserError: embed_dim" in logged


@pytest.mark.parametrize("place", ["new/run", "there/run", "there"])
def test_a_run_that_fails_before_it_begins_leaves_nothing(train: Train, place: str) -> None:
    Path("there").mkdir()
    train.raises(UserError("there is no such data"))
    assert main(f"hydra.run.dir={place}") == 1
    assert [path.name for path in Path().iterdir()] == ["there"]
    assert place == "there" or not list(Path("there").iterdir())


def test_of_two_processes_the_second_is_refused(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    def effect(spec: dict) -> float:
        assert main("hydra.run.dir=run", "seed=1") == 2
        return 1.0

    Path("run").mkdir()
    train.effect = effect
    held = Lock(Path("run/.lock"))
    with held:
        assert main("hydra.run.dir=run") == 2
        said = capsys.readouterr().err
        assert said == f"run is in use by {held.holder()}; wait for its end, or choose another directory\n"
        assert not train.calls and [path.name for path in Path("run").iterdir()] == [".lock"]
    assert main("hydra.run.dir=run", "seed=0") == 0
    assert [spec["seed"] for spec, _, _ in train.calls] == [0]


def test_out_of_memory_on_a_cpu_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), clear():
        torch.empty(2**60)
    said = capsys.readouterr().err
    assert said.startswith("out of memory; try a smaller batch_size or model (") and said.count("\n") == 1


@pytest.mark.parametrize("error", [AssertionError, ValueError])
def test_our_own_mistakes_keep_their_traceback(train: Train, error: type[Exception]) -> None:
    train.raises(error("cannot happen"))
    with pytest.raises(error, match="cannot happen"):
        main("hydra.run.dir=run")
    log = Path("run/train.log").read_text()
    assert "Traceback" in log and "cannot happen" in log


def test_a_full_error_on_request(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    train.raises(UserError("embed_dim"))
    with pytest.raises(ValueError, match="embed_dim"):
        main("hydra.run.dir=run")
    with pytest.raises(ValueError, match=r"model\.depth"):
        main("model.dept=3")


def test_a_failing_job_does_not_stop_the_others(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    def effect(spec: dict) -> float:
        if spec["seed"] == 1:
            raise UserError("seed 1 is unlucky")
        return 1.0

    train.effect = effect
    assert main("-m", "seed=0,1,2", "hydra.sweep.dir=s") == 1
    assert [spec["seed"] for spec, _, _ in train.calls] == [0, 1, 2]
    said = capsys.readouterr().err
    assert "\nseed=1  failed     0%                                  seed 1 is unlucky\n" in said
    assert said.endswith("failed: seed=1; the same command tries again\n")
    assert json.loads(Path("s/seed=1/summary.json").read_text()) == {"state": "failed", "reason": "seed 1 is unlucky"}


# --- stopping


@pytest.mark.parametrize(
    ("reason", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGUSR1", 138), ("trainer.max_time of 30 s", 0)]
)
def test_a_stopped_run_says_how_it_continues(
    train: Train, capsys: pytest.CaptureFixture[str], reason: str, code: int
) -> None:
    train.raises(Stopped(reason))
    assert main("hydra.run.dir='a run'") == code
    output = capsys.readouterr()
    assert f"stopped ({reason}); continue with: python -m hybrid_vit.train 'resume=a run'\n" in output.out
    assert output.err == ""


@pytest.mark.parametrize(("reason", "code"), [("SIGINT", 130), ("SIGUSR1", 138)])
def test_a_signal_ends_the_whole_multirun(train: Train, reason: str, code: int) -> None:
    train.raises(Stopped(reason))
    assert main("-m", "seed=0,1", "hydra.sweep.dir=s") == code
    assert len(train.calls) == 1
    train.raises(Stopped("trainer.max_time of 30 s"))
    assert main("-m", "seed=0,1", "hydra.sweep.dir=t") == 0
    assert len(train.calls) == 3


def test_an_interrupt_before_training(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    train.raises(KeyboardInterrupt())
    assert main("hydra.run.dir=run") == 130
    assert capsys.readouterr().err == "interrupted\n"


# --- as a process


def test_help_is_a_page(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("--help") == 0
    page = capsys.readouterr().out
    for group in ("model", "stem", "data", "augment", "optim", "accelerator", "logger", "experiment"):
        assert all(option in page for option in options(group)), group
    assert "experiment=quickstart" in page and "budget=30m" in page and "resume=" in page
    assert "_schema" not in page and "$" not in page
    assert max(map(len, page.splitlines())) <= 100
    assert len(page.splitlines()) <= 70


def test_the_version_is_ours(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("--version") == 0
    assert capsys.readouterr().out == f"hybrid_vit {hybrid_vit.__version__}\n"


def test_a_mistake_of_a_process(tmp_path: Path) -> None:
    result = command("model.dept=3", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "model.dept is not a key; did you mean model.depth?\n"
    assert not list(tmp_path.iterdir())


def test_help_and_configuration_need_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from hybrid_vit.train import main; sys.argv[0] = 'hybrid-vit-train'\n"
        "try: main()\n"
        "finally: print('torch' in sys.modules, 'lightning' in sys.modules)"
    )
    result = command("--cfg", "job", "model=hybrid_tiny", cwd=tmp_path, code=code)
    assert (result.returncode, result.stderr) == (0, "")
    assert "embed_dim: 96" in result.stdout and result.stdout.endswith("False False\n")
    assert not list(tmp_path.iterdir())
