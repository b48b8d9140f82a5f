"""The command `hybrid-vit-search`: what it trains, leaves behind and says, and how it continues."""

import csv
import json
import shlex
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from hybrid_vit import search as command
from hybrid_vit import train as train_command
from hybrid_vit.config.build import build
from hybrid_vit.config.compose import compose_config, options, resolve
from hybrid_vit.config.saved import load_run_config
from hybrid_vit.config.schema import Train
from hybrid_vit.studies.search import front, trial
from hybrid_vit.studies.search import plan as planning
from hybrid_vit.studies.search.space import overrides
from hybrid_vit.studies.search.study import Study
from hybrid_vit.training.callbacks import Stopped
from hybrid_vit.utils.errors import UserError

TINY = [
    *("data=digits", "augment=none", "accelerator=cpu", "steps=2", "epochs=2", "batch_size=32"),
    *("model.embed_dim=32", "model.stem.grid=8", "model.num_heads=2"),
]


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["search"])
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.chdir(tmp_path)


def main(*arguments: str, command: Callable[[], None] = command.main) -> int:
    """Exit code of the command."""
    sys.argv = ["search", *arguments]
    try:
        command()
    except SystemExit as stop:
        assert isinstance(stop.code, int)
        return stop.code
    return 0


@pytest.fixture
def without_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """The front is not drawn, which takes longer than the rest of a trial that trains nothing."""
    monkeypatch.setattr(front, "draw", lambda *what, **how: None)


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch, without_picture: None) -> list[dict[str, Any]]:
    """What would have been trained; wider is better and costs more, deeper only costs."""
    found: list[dict[str, Any]] = []

    def attempt(config: Train, directory: Path, cost: str) -> dict[str, Any]:
        found.append(asdict(config))
        width, depth = config.model["embed_dim"], config.model["depth"]
        return {"state": "complete", "val_top1": width / 4, cost: width * depth, "macs": width * depth, "seconds": 1.0}

    monkeypatch.setattr(trial, "attempt", attempt)
    monkeypatch.setattr(trial, "ready", lambda spec: None)
    return found


def table(path: str) -> list[dict[str, str]]:
    with Path(path).open() as file:
        return list(csv.DictReader(file))


def test_a_search_and_its_front_that_trains(without_pictures: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(*TINY, "trials=2", "out=s", "name=mine") == 0
    printed = capsys.readouterr().out
    assert "a search of 2 trials in " in printed and ", 0 ended already\n" in printed
    assert "\ntrial 0 begins: stem " in printed
    assert "1 of 2  trial 0  complete" in printed
    assert "2 of 2  trial 1  complete" in printed
    assert "the Pareto front, cheapest first" in printed
    trials, best = table("s/trials.csv"), table("s/pareto.csv")
    assert "epoch 1" in Path("s/trials/0000/train.log").read_text()
    assert "epoch 1" not in printed
    assert [(row["trial"], row["state"]) for row in trials] == [("0", "complete"), ("1", "complete")]
    assert load_run_config(Path("s/trials/0000"))["model"]["stem"]["depth"] == int(trials[0]["model.stem.depth"])
    number = int(best[0]["trial"])
    here = Path(f"s/front/trial_{number:04d}.yaml")
    command = next(line for line in here.read_text().splitlines() if "command" in line).split("command")[1]
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "hybrid_vit.train"]
    for wrong, told in (("model.depht=1", "model.depht is not a key"), ("steps=1 budget=1m", "both set the length")):
        capsys.readouterr()
        assert main(*words[3:], "hydra.run.dir=run", *wrong.split(), command=train_command.main) == 2
        assert told in capsys.readouterr().err and not Path("run").exists()
    assert main(*words[3:], "hydra.run.dir=run", command=train_command.main) == 0
    assert main(*words[3:], "hydra.run.dir=run", command=train_command.main) == 2  # it is not trained over
    scores = json.loads(Path("run/summary.json").read_text())["scores"]
    assert scores["val_top1"] == pytest.approx(float(best[0]["val_top1"]), abs=1e-4)
    assert "test_top1" in scores
    mine, trials_own = load_run_config(Path("run")), load_run_config(Path(f"s/trials/{number:04d}"))
    assert mine == trials_own
    assert mine["name"] == "mine"


def test_a_search_without_optuna_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(*TINY, "trials=1", "out=s") == 2
    assert capsys.readouterr().err == "a search needs optuna: pip install -e '.[search]'\n"
    assert not Path("s").exists()


def test_the_front_is_kept_and_a_search_goes_on(attempts: list[dict[str, Any]]) -> None:
    assert main("trials=3", "out=s", "epochs=3") == 0
    assert len(attempts) == 3
    assert main("trials=6", "epochs=3", "out=s") == 0
    assert main("trials=6", "epochs=3", "out=s") == 0
    assert len(attempts) == 6
    assert {spec["epochs"] for spec in attempts} == {3}
    assert {spec["seed"] for spec in attempts} == {0}
    assert len(table("s/trials.csv")) == 6
    best = [int(row["trial"]) for row in table("s/pareto.csv")]
    assert 1 <= len(best) < 6
    assert {path.name for path in Path("s/front").iterdir()} == {f"trial_{number:04d}.yaml" for number in best}
    assert not list(Path("s").rglob("*.partial"))


def test_the_front_file_is_an_experiment_to_copy(
    attempts: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("trials=1", "out=s", "experiment=document_192", "augment.erase=null") == 0
    shutil.copytree("s/front", "conf/experiment")
    capsys.readouterr()
    assert main("--config-dir", "conf", "experiment=trial_0000", "--cfg", "job", command=train_command.main) == 0
    copied = OmegaConf.create(capsys.readouterr().out)
    assert OmegaConf.to_container(copied, resolve=True)["model"] == attempts[0]["model"]
    assert (copied.name, copied.epochs, copied.augment.erase) == ("document_192", 10, None)


def test_a_combination_that_cannot_be_built_is_recorded(
    monkeypatch: pytest.MonkeyPatch, without_picture: None, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(spec: dict[str, Any], directory: Path, **how: Any) -> float:
        raise UserError("not today")

    monkeypatch.setattr(trial, "train", train)
    settings = [text for text in TINY if not text.startswith("model.")]
    assert main(*settings, "model.embed_dim=36", "model.stem.grid=8", "model.stem.depth=2", "trials=6", "out=s") == 0
    rows = table("s/trials.csv")
    assert {row["state"] for row in rows} == {"infeasible", "failed"}
    for row in rows:
        infeasible = row["model.num_heads"] == "8"
        assert (row["state"] == "infeasible") == infeasible
        assert row["why"].startswith("embed_dim 36 is not divisible by num_heads 8" if infeasible else "not today")
    assert "no trial is complete" in capsys.readouterr().out


def test_ctrl_c_stops_and_the_same_command_continues(
    attempts: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    attempt, directories = trial.attempt, []

    def interrupted(config: Train, directory: Path, cost: str) -> dict[str, Any]:
        directories.append(directory.name)
        if directories == ["0000", "0001"]:
            raise Stopped("SIGINT")
        return attempt(config, directory, cost)

    monkeypatch.setattr(trial, "attempt", interrupted)
    assert main("trials=3", "out=s") == 128 + signal.SIGINT
    assert "stopped (SIGINT) in trial 1; the same command continues" in capsys.readouterr().out
    assert main("trials=3", "out=s") == 0
    assert directories == ["0000", "0001", "0001", "0002"]
    assert [row["trial"] for row in table("s/trials.csv")] == ["0", "1", "2"]


def test_an_error_of_ours_is_raised_and_not_met_again(
    attempts: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = trial.attempt

    def broken(config: Train, directory: Path, cost: str) -> dict[str, Any]:
        if directory.name == "0000":
            raise KeyError("ours")
        return attempt(config, directory, cost)

    monkeypatch.setattr(trial, "attempt", broken)
    with pytest.raises(KeyError, match="ours"):
        main("trials=2", "out=s")
    assert main("trials=2", "out=s") == 0
    assert [row["state"] for row in table("s/trials.csv")] == ["failed", "complete"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("model.dept=3", "model.dept is not a key; did you mean model.depth?"),
        ("epochs=0", "epochs=0 must be positive"),
        ("trials=0", "trials=0 must be positive"),
        ("sampler=random", "sampler=random is unknown; sampler is one of tpe, nsga2"),
        ("cost=euros", "cost=euros is unknown; cost is one of macs, step_seconds"),
        ("search=hybrid_smal", "search=hybrid_smal does not exist; did you mean hybrid_small?"),
        ("model.depth=3,4", "model.depth=3,4 has several values; all trials share one"),
        ("-m", "leave out -m"),
        ("sweep=seeds", "sweep=seeds is of hybrid_vit.train; the same command continues a search"),
        ("data.val_size=0", "data.val_size=0 leaves no images to compare trials by"),
        ("experiment=run_192", "data.val_size=0 leaves no images"),
        ("data.monitor_test=true", "looks at the test set"),
        ("trainer.limit_val_batches=0", "trainer.limit_val_batches leaves fewer images to compare trials by"),
        ("budget=1m budget_by=clock", "budget_by=clock gives trials another number of steps each"),
        ("transfer=linear", "transfer=linear"),
        ("optim.momentum=0.9", "optim.momentum is not an argument of adamw"),
        ("progressive.sizes=[20] progressive.until=[0.5]", "progressive.sizes changes what a step costs"),
        ("trainer.devices=2", "start the same command several times"),
        ("model=resnet18", "the first combination of the space does not fit these settings: stem@model.stem=conv"),
    ],
)
def test_a_mistake_is_one_sentence_before_anything_is_written(
    arguments: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(*arguments.split()) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_another_search_in_the_same_place(attempts: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    assert main("trials=1", "out=s", "epochs=3") == 0

    def content() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in Path("s").rglob("*") if path.suffix in (".json", ".csv")}

    before = content()
    for settings, said in ((["epochs=4"], "epochs=4"), ([], "epochs=10"), (["epochs=3", "cost=step_seconds"], "cost=")):
        capsys.readouterr()
        assert main("trials=1", "out=s", *settings) == 2
        error = capsys.readouterr().err
        assert "s holds another search, with " in error and f", not {said}" in error and error.count("\n") == 1
    assert content() == before
    Path("s/search.json").write_text("")
    assert main("trials=1", "out=s", "epochs=3") == 2
    assert "s/search.json cannot be read" in capsys.readouterr().err
    assert content() == before | {Path("s/search.json"): b""}


def test_a_folder_of_something_else_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("s").mkdir()
    Path("s/report.md").write_text("of somebody")
    assert main("trials=1", "out=s") == 2
    assert (
        "s holds report.md, which is not part of a search; choose another place with out=PATH"
        in capsys.readouterr().err
    )
    assert [*Path().rglob("*")] == [Path("s"), Path("s/report.md")]


@pytest.mark.parametrize("settings", [["data=folder", "data.root=nowhere"], ["data=digits", "data.val_size=5000"]])
def test_what_no_trial_can_use_leaves_nothing(settings: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("there").mkdir()
    assert main(*settings, "out=there") == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert [*Path().rglob("*")] == [Path("there")]


@pytest.mark.parametrize("name", options("search"))
def test_most_of_a_space_can_be_built(name: str, tmp_path: Path) -> None:
    plan = planning.planned(resolve(compose_config([f"search={name}"], "search")), {})
    study, built, sentences = Study(tmp_path, plan, seed=0), 0, []
    for _ in range(10):  # those are random
        claim = study.claim(100)
        assert claim is not None
        try:
            build(planning.specified(overrides(plan, claim.params))["model"])
            built += 1
        except ValueError as error:
            sentences.append(str(error))
        study.tell(claim, {"state": "failed"})
    assert built >= 7
    assert all("stem.depth" in sentence for sentence in sentences)
