"""What a search found: the front against brute force, its table, files and picture."""

import csv
import random
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hybrid_vit.studies.search import front
from hybrid_vit.utils.plots import BLUE, ORANGE


def trial(number: int, top1: float, macs: float, state: str = "complete") -> dict[str, Any]:
    params = {"stem@model.stem": "conv", "model.stem.depth": 3, "optim.lr": 0.00123456}
    values = {"val_top1": top1, "macs": macs, "step_seconds": macs / 1e8, "parameters": 1000, "seconds": 60.0}
    return {"number": number, "state": state, "params": params, "epochs": 3, **values}


def plainly(trial: dict[str, Any], name: str) -> str:
    return f"{name} {trial['macs']}"


@pytest.mark.parametrize("seed", range(20))
def test_the_front_is_that_of_brute_force(seed: int) -> None:
    draw = random.Random(seed)
    states = ["complete", "complete", "pruned"]
    trials = [trial(n, draw.randrange(12), draw.randrange(12), draw.choice(states)) for n in range(30)]
    complete = [a for a in trials if a["state"] == "complete"]

    def beats(a: dict[str, Any], b: dict[str, Any]) -> bool:
        """a dominates b, or equals it and came first."""
        no_worse = a["val_top1"] >= b["val_top1"] and a["macs"] <= b["macs"]
        equal = a["val_top1"] == b["val_top1"] and a["macs"] == b["macs"]
        return no_worse and (not equal or a["number"] < b["number"])

    best = [b for b in complete if not any(beats(a, b) for a in complete)]
    assert front.front(trials, "macs") == sorted(best, key=lambda a: a["macs"])


def test_files_of_a_search(tmp_path: Path) -> None:
    trials = [
        *(trial(0, 40.0, 1e7), trial(1, 50.0, 2e7), trial(2, 45.0, 3e7), trial(3, 20.0, 4e7, "pruned")),
        {"number": 4, "state": "infeasible", "params": trial(4, 0, 0)["params"], "why": "does not fit"},
    ]
    front.write(tmp_path, trials[2:], "macs", plainly)
    (tmp_path / "front" / "mine.yaml").write_text("mine")
    front.write(tmp_path, trials, "macs", plainly)
    (tmp_path / "front" / "mine.yaml").unlink()  # it was left alone
    assert {path.name for path in tmp_path.iterdir()} == {"trials.csv", "pareto.csv", "pareto.png", "front"}
    assert {path.name: path.read_text() for path in (tmp_path / "front").iterdir()} == {
        **{"trial_0000.yaml": "trial_0000 10000000.0", "trial_0001.yaml": "trial_0001 20000000.0"}
    }
    with (tmp_path / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["trial"], row["state"], row["val_top1"]) for row in rows] == [
        *(("0", "complete", "40.0"), ("1", "complete", "50.0"), ("2", "complete", "45.0"), ("3", "pruned", "20.0")),
        ("4", "infeasible", ""),
    ]
    assert (rows[4]["why"], rows[4]["model.stem.depth"], rows[0]["seconds"]) == ("does not fit", "3", "60.0")
    with (tmp_path / "pareto.csv").open() as file:
        assert [row["trial"] for row in csv.DictReader(file)] == ["0", "1"]
    with Image.open(tmp_path / "pareto.png") as picture:
        assert picture.size == (1000, 640)
        colors = {color for _, color in picture.convert("RGB").getcolors(1 << 20)}
    assert {tuple(bytes.fromhex(color[1:])) for color in (ORANGE, BLUE)} <= colors  # the front, and what it dominates


def test_what_was_drawn_does_not_hide_what_was_reached() -> None:
    row = front.row({"number": 0, "state": "pruned", "epochs": 4, "params": {"epochs": 20, "seed": 1}})
    assert (row["epochs"], row["epochs (drawn)"], row["seed"]) == (4, 20, 1)


@pytest.mark.parametrize("cost", ["macs", "step_seconds"])
def test_a_search_without_a_complete_trial(tmp_path: Path, cost: str) -> None:
    front.write(tmp_path, [{"number": 0, "state": "failed", "params": {"a": 1}, "why": "nan"}], cost, plainly)
    assert (tmp_path / "pareto.png").exists()
    assert front.table([], cost) == "no trial is complete"


def test_text() -> None:
    head, first, second = front.table([trial(3, 40.0, 1e7), trial(7, 50.5, 2e7)], "macs").splitlines()[1:]
    assert [word.strip() for word in head.split("  ") if word] == [
        *("trial", "val top-1, %", "million MACs", "stem", "stem.depth", "lr")
    ]
    assert (first.split(), second.split()) == (
        ["3", "40.00", "10.0", "conv", "3", "0.00123"],
        ["7", "50.50", "20.0", "conv", "3", "0.00123"],
    )
    assert front.line(trial(3, 40.0, 1e7, "pruned"), "macs") == "trial 3  pruned  40.00 %  10.0 million MACs  60 s"
    assert front.line(trial(3, 40.0, 1e7), "step_seconds") == "trial 3  complete  40.00 %  100 ms a step  60 s"
    failed = {"number": 1, "state": "infeasible", "why": "does not fit"}
    assert front.line(failed, "macs") == "trial 1  infeasible  does not fit"
