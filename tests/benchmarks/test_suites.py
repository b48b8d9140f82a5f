"""The suites: peers that compute the same, tables and pictures of known numbers, and small ones run through."""

import json
import math
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from hybrid_vit import build_model
from hybrid_vit.bench import bench, models, recipe
from hybrid_vit.benchmarks import growth, infer, input, loop, startup, timing, zoo
from hybrid_vit.benchmarks.peers import SIZES, peer, pil_transforms
from hybrid_vit.benchmarks.plots import draw
from hybrid_vit.benchmarks.step import difference
from hybrid_vit.benchmarks.table import Table, shown
from hybrid_vit.benchmarks.timing import Span
from hybrid_vit.utils.paths import PUBLISHED


@pytest.mark.parametrize("model", SIZES)
@pytest.mark.parametrize("name", ["document", "fused", "timm", "vit_pytorch"])
def test_peers_are_of_the_same_size(model: str, name: str) -> None:
    ours = sum(p.numel() for p in build_model(model).blocks.parameters())
    net = peer(name, model)
    blocks = net.transformer.layers if name == "vit_pytorch" else net.blocks
    # vit-pytorch has no qkv bias
    assert sum(p.numel() for p in blocks.parameters()) == pytest.approx(ours, rel=0.01)
    assert net.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 100)


@pytest.mark.parametrize("model", ["hybrid_192", pytest.param("hybrid_384", marks=pytest.mark.slow)])
def test_our_gradient_is_the_plain_one(model: str) -> None:
    accelerator = {"kind": "cpu", "precision": "32-true", "compile": False, "attention": "fused", "shards": 2}
    logits, gradient = difference(model, accelerator, batch_size=4)
    assert 0 < logits < 1e-5
    assert 0 < gradient < 1e-10


@pytest.mark.parametrize("name", ["document", "run_192"])
def test_the_recipe_on_pil_images_is_the_one_of_the_file(name: str) -> None:
    ours = recipe(name)
    theirs = {type(transform).__name__: transform for transform in pil_transforms(name).transforms}
    assert ("RandomResizedCrop" in theirs) == ("scale" in ours["crop"])
    assert ("ColorJitter" in theirs) == (ours["jitter"] is not None)
    assert theirs["RandomErasing"].p == ours["erase"]["p"]
    if name == "document":
        assert list(theirs["RandomResizedCrop"].scale) == ours["crop"]["scale"]
        assert theirs["ColorJitter"].hue == (-0.1, 0.1)
    else:
        assert theirs["RandomCrop"].padding == ours["crop"]["padding"]
        assert (theirs["RandAugment"].num_ops, theirs["RandAugment"].magnitude) == (2, ours["policy"]["magnitude"])
    assert pil_transforms(name)(Image.new("RGB", (32, 32))).shape == (3, 32, 32)


@pytest.mark.parametrize("parts", [(5.0, 0.3, 0.0), (0.0, 2.0, 0.01), (1.0, 0.0, 0.5), (3.0, 0.1, 0.001)])
def test_a_law_is_found_again(parts: tuple[float, float, float]) -> None:
    x = [1, 4, 16, 64, 256, 1024]
    times = [parts[0] + parts[1] * size + parts[2] * size**2 for size in x]
    assert growth.fit(x, times) == pytest.approx(parts, rel=1e-3, abs=1e-6)


def test_a_law_is_said_with_its_exponent_and_crossovers() -> None:
    x = [1, 10, 100, 1000]
    text = growth.law(x, [5 + 0.5 * size + 0.01 * size**2 for size in x])
    assert "work overtakes the fixed cost at 10;" in text
    assert "quadratic growth overtakes linear growth at 50" in text
    assert "exponent 1.95 at 1000" in text
    assert "no crossover" in growth.law(x, [2.0 * size for size in x])


def test_cells_have_three_figures() -> None:
    assert [shown(value) for value in (1234.5, 12.345, 1.2345, 0.12345, 1234567, None, "word")] == [
        *("1,234", "12.3", "1.23", "0.123", "1,234,567", "-", "word")
    ]
    assert shown(Span(1.5, 1.0, 20.0)) == "1.50 (1.00-20.0)"


def test_tables_align_and_are_drawn(tmp_path: Path) -> None:
    rows = [
        {"model": "a", "ms": Span(1.0, 0.9, 1.1), "faster": None},
        {"model": "longer", "ms": Span(10.0, 9.0, 11.0), "faster": Span(10.0, 9.0, 12.0)},
    ]
    table = Table("step", "a title", rows, ["a note"], ratio="faster")
    title, head, first, second, note = table.text().splitlines()
    assert (title, note) == ("a title", "  a note")
    assert head.index("faster") + len("faster") == len(head)
    assert first.endswith(" -")
    assert len(second) == len(head) or second.endswith("(9.00-12.0)")
    draw(table, tmp_path / "step.png")
    points = [
        {"axis": axis, "x": x, "ms a step": Span(x, x / 2, 2 * x)} for axis in ("tokens", "batch") for x in (1, 8)
    ]
    draw(Table("growth", "g", points), tmp_path / "growth.png")
    draw(Table("startup", "s", rows), tmp_path / "startup.png")
    for name in ("step", "growth"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.width > 1000
    assert not (tmp_path / "startup.png").exists()
    assert table.flat()[1] == {
        **{"model": "longer", "ms": 10.0, "ms, low": 9.0, "ms, high": 11.0},
        **{"faster": 10.0, "faster, low": 9.0, "faster, high": 12.0},
    }


@pytest.mark.parametrize("score", [None, Span(71.0, 70.0, 72.0)])
def test_the_zoo_is_drawn_with_and_without_scores(score: Span | None, tmp_path: Path) -> None:
    rows = [
        {"model": name, "million MACs": macs, "images/s": Span(1e4 / macs, 9e3 / macs, 2e4 / macs), "test top-1": top1}
        for name, macs, top1 in (("hybrid_192", 800.0, score), ("resnet18", 555.5, None))
    ]
    draw(Table("zoo", "models", rows), tmp_path / "zoo.png")
    with Image.open(tmp_path / "zoo.png") as picture:
        assert picture.width == (1800 if score else 900)


def test_the_zoo_knows_sizes_and_published_scores(tmp_path: Path) -> None:
    specs = models({"models": ["hybrid_192", "wrn_16_8", "resnet18"]})
    found = zoo.size(build_model("hybrid_192"))
    assert (found["parameters"], found["tokens"]) == (3_035_812, 257)
    assert zoo.size(build_model("wrn_16_8"))["tokens"] is None
    for name, source, fraction, top1, more in (
        ("a", "cifar100", 1.0, 70.0, {}),
        ("b", "cifar100", 1.0, 72.0, {}),
        ("c", "digits", 1.0, 99.0, {}),
        ("d", "cifar100", 1.0, 90.0, {"pretrained": True}),
        ("e", "cifar100", 0.1, 30.0, {}),
        ("f", "cifar100", 1.0, None, {}),
    ):
        run = tmp_path / "study" / "runs" / name
        run.mkdir(parents=True)
        spec = {"model": specs["wrn_16_8"], "data": {"source": source, "fraction": fraction}}
        (run / "config.yaml").write_text(json.dumps(spec))
        scores = {"test_top1": top1} if top1 else {"val_top1": 5}
        (run / "summary.json").write_text(json.dumps({"scores": scores, **more}))
    assert [top1 for _, top1 in zoo.known(tmp_path)] == [70.0, 72.0]
    assert all(model == specs["wrn_16_8"] for model, _ in zoo.known(tmp_path))
    published = [top1 for model, top1 in zoo.known(PUBLISHED) if model == specs["resnet18"]]
    assert published == pytest.approx([38.26, 37.21, 35.47])
    assert list(models({"models": "resnet18"})) == ["resnet18"]
    with pytest.raises(ValueError, match="did you mean resnet18"):
        models({"models": ["resnet81"]})


@pytest.mark.slow
def test_the_zoo_runs_through(tmp_path: Path) -> None:
    spec = {"suite": "zoo", "rounds": 1, "batch_size": 2, "accelerator": {"kind": "cpu"}}
    bench(spec | {"models": ["resnet18", "hybrid_tiny"]}, tmp_path)
    (table,) = json.loads((tmp_path / "bench.json").read_text())["tables"]
    assert [row["model"] for row in table["rows"]] == ["hybrid_tiny", "resnet18"]  # by multiply-accumulates
    assert all(row["memory, MiB"] > 0 and row["images/s"]["median"] > 0 for row in table["rows"])
    assert len((tmp_path / "zoo.csv").read_text().splitlines()) == 3


class LastTurn(Exception):
    """Ends a case in this process, which runs for ever."""


def in_this_process(cases: Sequence[timing.Case], *, rounds: int) -> dict[str, list[float]]:
    """`compare`, one case after the other, for starting a process for each takes seconds."""
    seconds = {}
    for case in cases:
        starts: list[float] = []

        def turn(repeats: int, starts: list[float] = starts) -> None:
            starts.append(time.perf_counter())
            if len(starts) > rounds + 1:
                raise LastTurn

        with pytest.raises(LastTurn):
            case.run(turn, **case.arguments)
        warmup, *seconds[case.name] = [b - a for a, b in pairwise(starts)]
        for number, took in enumerate([warmup, *seconds[case.name]], -1):
            timing.tell(case, number, rounds, took)
    return seconds


@pytest.mark.parametrize("processes", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_suite_runs_through(
    processes: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not processes:
        monkeypatch.setattr(input, "compare", in_this_process)
        monkeypatch.setattr("hybrid_vit.benchmarks.work.SHORTEST", 0.01)
    spec = {"suite": "input", "rounds": 1, "batch_size": 8, "accelerator": {"kind": "cpu"}}
    bench(spec, tmp_path)
    printed, told = capsys.readouterr()
    assert "torchvision on PIL images" in printed
    assert "  input: ours, warm-up: " in told and "  input: torchvision, round 1 of 1: " in told
    assert "numbers: " in printed
    found = json.loads((tmp_path / "bench.json").read_text())
    assert found["environment"]["device"]
    (table,) = found["tables"]
    assert [row["recipe"] for row in table["rows"]] == ["document", "document", "run_192", "run_192"]
    for row in table["rows"]:
        assert 0 < row["images/s"]["low"] <= row["images/s"]["median"] <= row["images/s"]["high"]
    assert (tmp_path / "input.png").exists()


def test_what_was_measured_is_kept_when_it_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(suite: str, spec: dict[str, Any]) -> Table:
        timing.tell(timing.Case("ours", print, {"batch_size": 8, "name": "a", "spec": {}}), 0, 2, 0.25)
        raise KeyboardInterrupt

    monkeypatch.setattr("hybrid_vit.bench.measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bench({"suite": "step", "rounds": 2, "accelerator": {"kind": "cpu"}}, tmp_path)
    turn = {"suite": "step", "case": "ours", "arguments": "batch_size=8 name=a", "round": 1, "seconds": 0.25}
    assert json.loads((tmp_path / "bench.json").read_text())["turns"] == [turn]
    assert (tmp_path / "turns.csv").read_text().splitlines() == [
        "suite,case,arguments,round,seconds",
        "step,ours,batch_size=8 name=a,1,0.25",
    ]


@pytest.mark.slow
def test_the_other_suites_run_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybrid_vit.bench.SUITES", ("startup", "loop", "step"))
    bench({"suite": "all", "rounds": 1, "batch_size": 16, "accelerator": {"kind": "cpu"}}, tmp_path)
    tables = {table["suite"]: table for table in json.loads((tmp_path / "bench.json").read_text())["tables"]}
    assert list(tables) == ["startup", "loop", "step"]
    assert [row["imports torch"] for row in tables["startup"]["rows"]] == ["no"] * 4
    limits = [row["of the limit, %"] for row in tables["step"]["rows"]]  # none in another precision than ours
    assert any(limits) and all(0 < limit < 110 for limit in limits if limit is not None)


@pytest.mark.slow
def test_infer_runs_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(infer, "BATCHES", (1, 4))
    monkeypatch.setattr(infer, "CALLS", 3)
    bench({"suite": "infer", "rounds": 1, "batch_size": 16, "accelerator": {"kind": "cpu"}}, tmp_path)
    (table,) = json.loads((tmp_path / "bench.json").read_text())["tables"]
    assert {row["batch"] for row in table["rows"]} == {"1", "4"}
    assert all((row["p50, ms"] is None) == (row["batch"] == "4") for row in table["rows"])
    assert all(row["p50, ms"] <= row["p99, ms"] for row in table["rows"] if row["batch"] == "1")


@pytest.mark.slow
def test_export_runs_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(infer, "BATCHES", (1, 4))
    monkeypatch.setattr(infer, "CALLS", 3)
    spec = {"suite": "export", "rounds": 1, "batch_size": 16, "accelerator": {"kind": "cpu"}}
    bench(spec | {"models": ["hybrid_fast"]}, tmp_path)
    (table,) = json.loads((tmp_path / "bench.json").read_text())["tables"]
    for batch in ("1", "4"):
        rows = {row["network"]: row for row in table["rows"] if row["batch"] == batch}
        assert {"ours", "PyTorch, eager", "ONNX Runtime", "ONNX Runtime, int8"} <= rows.keys()
        assert all(row["images/s"]["low"] > 0 for row in rows.values())
        assert all((row["p50, ms"] is None) == (batch == "4") for row in rows.values())


@pytest.mark.slow
def test_growth_runs_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "AXES", {"grid": (4, 8), "batch": (1, 2)})
    bench({"suite": "growth", "rounds": 1, "batch_size": 16, "accelerator": {"kind": "cpu"}}, tmp_path)
    (table,) = json.loads((tmp_path / "bench.json").read_text())["tables"]
    assert [row["x"] for row in table["rows"]] == [16, 64, 1, 2]


def test_importing_torch_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "torch.py").touch()  # imported sooner than the real one
    assert not startup.imports_torch(("-c", "import json"))
    assert startup.imports_torch(("-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import torch"))


def test_trainings_of_the_loop_never_end_by_themselves() -> None:
    found = loop.trainings({"kind": "cpu"}, batch_size=64)
    assert list(found) == ["hybrid_192", "quickstart"]
    for training, steps in found.values():
        assert training.steps and training.steps >= 1_000_000
        assert (training.data.source, training.data.val_size) == ("digits", 0)
        assert training.accelerator.kind == "cpu"
        assert steps > 0
    assert found["hybrid_192"][0].batch_size == 64
    assert math.isclose(found["quickstart"][0].ema.decay, 0.99)


def test_inputs_are_the_same_for_both() -> None:
    assert torch.equal(input.pictures(4)[0], input.pictures(4)[0])
