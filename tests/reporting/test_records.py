"""Directories: what is a run, what is left out and why; configurations: what groups them, what they are called."""

import json
from pathlib import Path
from typing import Any

import fake_runs
import pytest

from hybrid_vit.config import recorded
from hybrid_vit.reporting.records import arrange, collect, shortened

METRIC = "test_top1"


def labels(*places: Path) -> list[str]:
    return [each.label for each in arrange(collect(places, recorded, METRIC)[0])]


def left(directory: Path) -> str:
    with pytest.raises(ValueError) as error:
        collect([directory], recorded, METRIC)
    return str(error.value)


def test_a_sweep_is_found_at_any_depth_and_counted_once(tmp_path: Path) -> None:
    fake_runs.sweep(tmp_path / "a" / "b", "model.depth", {2: [50, 51], 4: [52, 53]})
    fake_runs.write(tmp_path / "a" / "b" / "2_s0" / "copy", seed=9)  # what lies in a run is the run's own
    runs, left_out = collect([tmp_path, tmp_path / "a", tmp_path / "a" / "b" / "2_s0"], recorded, METRIC)
    assert [run.directory.name for run in runs] == ["2_s0", "2_s1", "4_s0", "4_s1"]
    assert left_out == []
    first, second = arrange(runs)
    assert (first.label, second.label) == ("depth=2", "depth=4")
    assert first.scores(METRIC) == {0: 50, 1: 51}
    assert first.images_seen == 3000
    assert first.runs[0].classes["class"].tolist() == list(fake_runs.NAMES)


def test_how_and_where_it_was_computed_makes_no_configuration(tmp_path: Path) -> None:
    apart = {"logger.name": "wandb", "accelerator.kind": "cpu", "data.root": "/x", "data.num_workers": 7, "resume": "y"}
    fake_runs.write(tmp_path / "0", seed=0)
    fake_runs.write(tmp_path / "1", seed=1, settings=apart | {"checkpoint_minutes": 1.0, "trainer": {"devices": 2}})
    assert labels(tmp_path) == ["tiny"]


def test_what_an_older_version_did_not_have_is_its_default(tmp_path: Path) -> None:
    fake_runs.write(tmp_path / "old", seed=0, settings={"optim.warmup_start": None})
    fake_runs.write(
        tmp_path / "new", seed=1, settings={"model.norm": "layer", "distill": {"teacher": None, "kind": "hard"}}
    )
    fake_runs.write(tmp_path / "other", seed=1, settings={"model.norm": "rms"})
    assert labels(tmp_path) == ["norm=layer", "norm=rms"]


def test_a_published_run_has_its_configuration_at_its_top(tmp_path: Path) -> None:
    run = fake_runs.write(tmp_path / "run")
    (run / ".hydra" / "config.yaml").rename(run / "config.yaml")
    (run / ".hydra").rmdir()
    assert labels(run) == ["tiny"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([{"name": "a", "model.depth": 2}, {"name": "b", "model.depth": 4}], ["a", "b"]),
        ([{}, {"model.depth": 2, "model.stem.depth": 2}], ["depth=4, stem.depth=3", "depth=2, stem.depth=2"]),
        ([{"model.depth": 2}, {"name": "b", "model.depth": 2}], ["tiny/b"]),  # one configuration of two names
        (
            [{}, {"model.norm": "rms"}, {"model.mlp": "conv"}, {"model.reg_tokens": 4}, {"model.pool": "mean"}],
            ["tiny", "norm=rms", "mlp=conv", "reg_tokens=4", "pool=mean"],
        ),
        ([{}, {"model.depth": 2}, {"name": "b", "model.depth": 6}], ["tiny depth=4", "tiny depth=2", "b"]),
        ([{}, {"model.stem.depth": 5}], ["stem.depth=3", "stem.depth=5"]),  # model.depth is there, too
        ([{}, {"model.stem._target_": "hybrid_vit.models.PatchStem"}], ["stem=ConvStem", "stem=PatchStem"]),
        ([{}, {"augment.flip": {"_target_": "hybrid_vit.augment.Flip", "p": 0.5}}], ["flip=null", "flip=Flip"]),
    ],
)
def test_labels(tmp_path: Path, settings: list[dict[str, Any]], expected: list[str]) -> None:
    for number, each in enumerate(settings):
        fake_runs.write(tmp_path / str(number), seed=number, settings=each)
    assert labels(tmp_path) == expected


def test_short_keys_cannot_be_confused() -> None:
    keys = ["model.stem.depth", "model.depth", "optim.lr", "depth.lr"]
    assert list(shortened(keys).values()) == ["lr", "depth", "optim.lr", "stem.depth"]


def test_directories_that_hold_no_finished_run(tmp_path: Path) -> None:
    assert "there is no finished run to report" in left(tmp_path / "missing")
    assert "does not exist" in left(tmp_path / "missing")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "notes.txt").write_text("hello")
    assert "foreign holds no run" in left(tmp_path / "foreign")
    (tmp_path / "begun" / ".hydra").mkdir(parents=True)
    assert "its training has not begun" in left(tmp_path / "begun")
    with pytest.raises(ValueError, match="no directory was given"):
        collect([], recorded, METRIC)


@pytest.mark.parametrize(
    ("summary", "words"),
    [
        ({"state": "failed", "reason": "the loss is not finite"}, "its state is failed: the loss is not finite"),
        ({"state": "running"}, "is not done, its state is running"),
        ({"state": "stopped", "reason": "SIGINT"}, "its state is stopped: SIGINT"),
        ({"scores": {"val_top1": 3.0}}, "has no test_top1; it has val_top1"),
        ({"scores": {"test_top1": float("nan")}}, "has no test_top1"),
        ({"seed": None, "device": None}, "has a summary.json without seed, device"),
        ({"state": None}, "that no training here has written"),
    ],
)
def test_runs_that_are_left_out_say_why(tmp_path: Path, summary: dict[str, Any], words: str) -> None:
    bad = fake_runs.write(tmp_path / "bad", summary=summary)
    assert words in left(bad)
    fake_runs.write(tmp_path / "good")
    runs, left_out = collect([tmp_path], recorded, METRIC)
    assert [run.directory.name for run in runs] == ["good"]
    assert [(one.directory.name, words in one.why) for one in left_out] == [("bad", True)]


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("summary.json", '{"state": "do', "summary.json that is damaged"),
        ("summary.json", "[1]", "that no training here has written"),
        ("metrics.csv", "", "metrics.csv that is damaged"),
        (".hydra/config.yaml", "a: [", "config.yaml cannot be read"),
        (".hydra/config.yaml", "a: 3", "without data.source"),
        (".hydra/config.yaml", "- 3", "config.yaml cannot be read"),
    ],
)
def test_half_written_files(tmp_path: Path, file: str, text: str, words: str) -> None:
    run = fake_runs.write(tmp_path / "run")
    (run / file).write_text(text)
    assert words in left(run)


def test_a_run_without_its_tables_still_counts(tmp_path: Path) -> None:
    run = fake_runs.write(tmp_path / "run")
    (run / "metrics.csv").unlink()
    (run / "per_class.csv").unlink()
    (found,), _ = collect([run], recorded, METRIC)
    assert found.epochs.empty and found.classes.empty
    assert found.images_seen == json.loads((run / "summary.json").read_text())["steps"] * 100


def test_the_same_seed_counts_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        fake_runs.write(tmp_path / name, seed=3)
    runs, left_out = collect([tmp_path], recorded, METRIC)
    assert len(runs) == 1
    assert "the same configuration and seed, which counts once" in left_out[0].why
