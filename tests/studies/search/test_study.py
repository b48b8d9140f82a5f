"""A study: shared by processes, that may be killed; and what it tells the sampler."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

import hybrid_vit
from hybrid_vit.studies.search.space import ended
from hybrid_vit.studies.search.study import Study

ROOT = Path(hybrid_vit.__file__).parent.parent
PLAN: dict[str, Any] = {"space": {"x": {"low": 0.0, "high": 1.0}}, "sampler": "tpe", "cost": "macs", "settings": {}}

WORKER = """
import json, os, sys, time
from pathlib import Path
from hybrid_vit.studies.search.study import Study

directory, total, patience = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
study = Study(directory, json.loads(sys.argv[4]), seed=0)
print("ready", flush=True)
sys.stdin.readline()
while claim := study.claim(total):
    with (directory / "trained.txt").open("a") as file:
        file.write(f"{claim.number} {os.getpid()}\\n")
    time.sleep(patience)
    study.tell(claim, {"state": "complete", "val_top1": claim.params["x"], "macs": 1})
"""


def work(study: Study, total: int, **outcome: Any) -> list[dict[str, Any]]:
    """Train the rest of the trials at once; their settings."""
    params = []
    while claim := study.claim(total):
        params.append(claim.params)
        x = claim.params["x"]
        study.tell(claim, {"state": "complete", "val_top1": -abs(x - 0.3), "macs": x, **outcome})
    return params


def start(directory: Path, total: int, patience: float) -> subprocess.Popen[str]:
    """A process that searches as soon as it is told to."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(directory), str(total), str(patience), json.dumps(PLAN)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()


def trained(directory: Path) -> list[list[int]]:
    """Number and process of every training that began."""
    file = directory / "trained.txt"
    return [[int(word) for word in line.split()] for line in file.read_text().splitlines()] if file.exists() else []


def journal(directory: Path) -> list[optuna.trial.FrozenTrial]:
    """What Optuna itself reads in the study's file."""
    backend = optuna.storages.journal.JournalFileBackend(str(directory / "study.journal"))
    storage = optuna.storages.JournalStorage(backend)
    return optuna.load_study(study_name="search", storage=storage).trials


def test_two_processes_share_the_trials_and_what_a_killed_one_left_is_taken_up(tmp_path: Path) -> None:
    victim, *workers = processes = [start(tmp_path, 9, patience) for patience in (600, 0.2, 0.2)]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    go(victim)
    while not trained(tmp_path):
        assert victim.poll() is None
        time.sleep(0.01)
    study = Study(tmp_path, PLAN, seed=0)
    claim = study.claim(9)
    assert claim is not None
    assert claim.number == 1  # not 0, which lives
    claim.lock.release()
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    for worker in workers:
        go(worker)
    for worker in workers:
        worker.communicate()
        assert worker.returncode == 0
    runs = trained(tmp_path)
    assert sorted(number for number, _ in runs) == [0, *range(9)]
    assert len({process for number, process in runs if number == 0}) == 2
    assert {process for _, process in runs} == {process.pid for process in processes}
    assert [trial.state.name for trial in journal(tmp_path)] == ["COMPLETE"] * 9
    assert [end["number"] for end in ended(study.trials)] == [*range(9)]
    assert study.claim(9) is None
    more = study.claim(10)
    assert more is not None
    assert more.number == 9
    more.lock.release()


def test_what_another_process_makes_before_its_plan_is_of_a_search(tmp_path: Path) -> None:
    Study(tmp_path, PLAN, seed=0)
    (tmp_path / "search.json").unlink()
    Study(tmp_path, PLAN, seed=0)


def test_an_end_that_was_only_not_told_is_told(tmp_path: Path) -> None:
    study = Study(tmp_path, PLAN, seed=0)
    claim = study.claim(1)
    assert claim is not None
    end = {"number": 0, "params": claim.params, "state": "complete", "val_top1": 50.0, "macs": 7}
    (claim.directory / "trial.json").write_text(json.dumps(end))
    claim.lock.release()
    assert Study(tmp_path, PLAN, seed=0).claim(1) is None
    assert journal(tmp_path)[0].values == [50.0, 7.0]


def test_a_trial_that_ended_while_it_was_drawn_is_drawn_again(tmp_path: Path) -> None:
    study = Study(tmp_path, PLAN, seed=0)
    study._study.ask()  # killed before a setting was drawn
    assert len(work(study, 2)) == 2
    assert [trial.state.name for trial in journal(tmp_path)] == ["FAIL", "COMPLETE", "COMPLETE"]


@pytest.mark.parametrize(
    ("state", "told"),
    [("pruned", "PRUNED"), ("infeasible", "PRUNED"), ("failed", "PRUNED"), ("complete", "COMPLETE")],
)
def test_what_the_sampler_learns(tmp_path: Path, state: str, told: str) -> None:
    assert len(work(Study(tmp_path, PLAN, seed=0), 2, state=state)) == 2
    assert [trial.state.name for trial in journal(tmp_path)] == [told] * 2
    assert all((trial.values is not None) == (state == "complete") for trial in journal(tmp_path))


@pytest.mark.parametrize("name", ["tpe", "nsga2"])
def test_what_is_proposed_depends_on_seed_and_results_and_gets_better(tmp_path: Path, name: str) -> None:
    plan = PLAN | {"sampler": name, "space": dict.fromkeys("xyzw", PLAN["space"]["x"])}
    whole = work(Study(tmp_path / "a", plan, seed=0), 40)
    parts = work(Study(tmp_path / "b", plan, seed=0), 13) + work(Study(tmp_path / "b", plan, seed=0), 40)
    assert whole == parts
    assert work(Study(tmp_path / "c", plan, seed=1), 2) != whole[:2]
    assert len({str(params) for params in whole[:10]}) == 10
    # Cheaper and better is 0 <= x <= 0.3: chance has 3 of 10 there.
    assert sum(params["x"] <= 0.3 for params in whole[20:]) > 9


def test_what_cannot_be_built_is_avoided(tmp_path: Path) -> None:
    """The cheapest and the best values do not go together: a sampler that learns nothing from it proposes just them."""
    plan = PLAN | {"space": {"depth": {"low": 2, "high": 4}, "grid": [8, 4, 16], "x": {"low": 0.0, "high": 1.0}}}
    study, infeasible = Study(tmp_path, plan, seed=0), []
    while claim := study.claim(40):
        depth, grid, x = claim.params.values()
        infeasible.append((depth, grid) == (2, 4))
        top1 = {"state": "infeasible"} if infeasible[-1] else {"state": "complete", "val_top1": -depth - abs(x - 0.5)}
        study.tell(claim, {**top1, "macs": grid})
    assert sum(infeasible) > 0
    assert sum(infeasible[20:]) <= 5


def test_another_search_is_one_sentence(tmp_path: Path) -> None:
    Study(tmp_path, PLAN | {"settings": {"epochs": "3"}}, seed=0)
    with pytest.raises(
        ValueError, match=r"holds another search, with epochs=3, not epochs=4; repeat its settings .* out=PATH"
    ):
        Study(tmp_path, PLAN | {"settings": {"epochs": "4"}}, seed=0)
    assert json.loads((tmp_path / "search.json").read_text())["settings"] == {"epochs": "3"}


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"space": 3}', '{"sett', "\0"])
def test_a_damaged_plan_is_one_sentence(tmp_path: Path, content: str) -> None:
    work(Study(tmp_path, PLAN, seed=0), 1)
    (tmp_path / "search.json").write_text(content)
    with pytest.raises(ValueError, match=r"search.json cannot be read \(.*\); restore it from a copy, or .*out=PATH"):
        Study(tmp_path, PLAN, seed=0)
    (tmp_path / "search.json").unlink()
    with pytest.raises(ValueError, match=r"search.json is missing, .*; restore it"):
        Study(tmp_path, PLAN, seed=0)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"number": 0, "params": {}, "state": 3}', '{"state": "complete"}']
)
def test_a_damaged_trial_is_one_sentence(tmp_path: Path, content: str) -> None:
    work(Study(tmp_path, PLAN, seed=0), 1)
    (tmp_path / "trials" / "0000" / "trial.json").write_text(content)
    with pytest.raises(ValueError, match=r"0000/trial.json cannot be read \(.*\); restore it"):
        Study(tmp_path, PLAN, seed=0)


@pytest.mark.parametrize(
    ("damaged", "said"),
    [
        (lambda text: "", "lacks trial 1 of"),
        (lambda text: text.splitlines(keepends=True)[0], "lacks trial 1 of"),
        (lambda text: text[:-9], "cannot be read .UserError: its last line is truncated"),
        (lambda text: "\n" + text, "cannot be read"),
        (lambda text: "3\n" + text, "cannot be read"),
        (lambda text: "{}\n" + text, "cannot be read"),
    ],
)
def test_a_damaged_journal_is_one_sentence(tmp_path: Path, damaged: Callable[[str], str], said: str) -> None:
    work(Study(tmp_path, PLAN, seed=0), 2)
    journal = tmp_path / "study.journal"
    journal.write_text(damaged(journal.read_text()))
    with pytest.raises(ValueError, match=f"study.journal {said}.*; restore it from a copy, or"):
        Study(tmp_path, PLAN, seed=0)


def test_a_search_that_was_killed_while_it_began_begins_again(tmp_path: Path) -> None:
    (tmp_path / "trials").mkdir()
    assert len(work(Study(tmp_path, PLAN, seed=0), 2)) == 2


def test_a_trial_in_which_processes_are_killed_is_given_up_unless_it_comes_further(tmp_path: Path) -> None:
    study = Study(tmp_path, PLAN, seed=0)

    def killed(number: int) -> None:
        """Take that trial, and leave its lock as a process does that is killed."""
        claim = study.claim(5)
        assert claim is not None and claim.number == number
        lock = claim.directory / ".lock"
        claim.lock.release()
        lock.write_text("process 1 on a\n")

    killed(0)
    killed(0)  # once more
    (tmp_path / "trials/0000/metrics.csv").write_text("epoch\n0\n")
    killed(0)  # it has an epoch more than before
    killed(1)
    end = ended(study.trials)
    assert [(each["number"], each["state"]) for each in end] == [(0, "failed")]
    assert end[0]["why"] == "2 processes were killed in it, perhaps because memory ran out"
    assert [trial.state.name for trial in journal(tmp_path)] == ["PRUNED", "RUNNING"]


def test_a_trial_that_was_killed_while_it_was_drawn_is_not_trained(tmp_path: Path) -> None:
    plan = PLAN | {"space": {"x": {"low": 0.0, "high": 1.0}, "y": {"low": 0.0, "high": 1.0}}}
    study = Study(tmp_path, plan, seed=0)
    with study.lock:
        study._study.ask().suggest_float("x", 0.0, 1.0)  # and the process ends
    claim = study.claim(5)
    assert claim is not None and claim.number == 1 and claim.params.keys() == {"x", "y"}
    claim.lock.release()
