"""Directories: what is a run, what is left out and why; configurations: what groups them, what they are called."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import fake_runs
import numpy as np
import pytest

from hybrid_vit.studies.report.records import arrange, collect, shortened
from hybrid_vit.studies.report.study import runs_table, study

METRIC = "test_top1"


def labels(*places: Path) -> list[str]:
    return [each.label for each in arrange(collect(places, METRIC)[0])]


def left(directory: Path) -> str:
    with pytest.raises(ValueError) as error:
        collect([directory], METRIC)
    return str(error.value)


def test_a_sweep_is_found_at_any_depth_and_counted_once(tmp_path: Path) -> None:
    fake_runs.sweep(tmp_path / "a" / "b", "model.depth", {2: [50, 51], 4: [52, 53]})
    fake_runs.write(tmp_path / "a" / "b" / "2_s0" / "copy", seed=9)  # what lies in a run is the run's own
    runs, left_out = collect([tmp_path, tmp_path / "a", tmp_path / "a" / "b" / "2_s0"], METRIC)
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
    fake_runs.write(
        tmp_path / "1",
        seed=1,
        settings=apart | {"ema": {"compared": [0.9]}, "checkpoint_minutes": 1.0, "trainer": {"devices": 2}},
    )
    assert labels(tmp_path) == ["tiny"]


def test_the_root_of_a_folder_says_which_data_it_is(tmp_path: Path) -> None:
    for name, source, root in (
        ("a", "folder", "/x"),
        ("b", "folder", "/y"),
        ("c", "digits", "/x"),
        ("d", "digits", "/y"),
    ):
        fake_runs.write(tmp_path / name, settings={"data.source": source, "data.root": root})
    runs, left_out = collect([tmp_path], METRIC)
    assert [run.directory.name for run in runs] == ["a", "b", "c"]
    assert [left.directory.name for left in left_out] == ["d"] and "repeats" in left_out[0].why


def test_a_published_run_of_a_folder_has_the_data_of_its_siblings(tmp_path: Path) -> None:
    for seed, root in enumerate(("pictures", "/home/me/pictures", "/home/me/others")):
        fake_runs.write(tmp_path / f"{seed}", seed=seed, settings={"data.source": "folder", "data.root": root})
    first, second = arrange(collect([tmp_path], METRIC)[0])
    assert (len(first.runs), len(second.runs)) == (2, 1)
    assert [run.settings["data.root"] for run in first.runs] == ["pictures", "pictures"]


def test_equal_differences_of_a_part_of_the_images_are_equal(tmp_path: Path) -> None:
    """One hit of 10,000, although these floats differ by unequal amounts."""
    for seed, top1 in enumerate((90.73, 90.72, 90.82, 90.81)):
        scores = {"scores": {"test_top1": 50.0, "test_cifar10_top1": top1}}
        fake_runs.write(tmp_path / f"{seed}", seed=seed, summary=scores)
    scores = [run.score("test_cifar10_top1") for run in collect([tmp_path], METRIC)[0]]
    assert scores[0] - scores[1] == scores[2] - scores[3] == Fraction(1, 100)


def test_a_repetition_is_one_whatever_it_lacks_of_a_newer_version(tmp_path: Path) -> None:
    fake_runs.write(tmp_path / "old", settings={"optim.warmup_start": None})
    fake_runs.write(tmp_path / "new")
    runs, left_out = collect([tmp_path], METRIC)
    assert len(runs) == len(left_out) == 1


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


def test_many_settings_are_told_in_a_few(tmp_path: Path) -> None:
    """Twelve settings differ in ten runs of one name: a label has three of them at most, and none is borne twice."""
    for number in range(10):
        more = {f"optim.x{key}": (number * (key + 3)) % 7 for key in range(9)}
        own = {"model.depth": number % 4, "model.embed_dim": 32 * (number % 5), "augment.flip": number % 2}
        fake_runs.write(tmp_path / str(number), settings={**more, **own})
    found = labels(tmp_path)
    assert found[:2] == ["x0=0, embed_dim=0", "x0=3, embed_dim=32"]
    assert len(set(found)) == 10


def test_what_three_settings_do_not_tell_apart_is_numbered(tmp_path: Path) -> None:
    for number in range(16):
        bits = {f"optim.x{bit}": number >> bit & 1 for bit in range(4)}
        fake_runs.write(tmp_path / f"{number:02}", settings=bits)
    found = labels(tmp_path)
    assert found[:2] == ["x0=0, x1=0, x2=0 (1)", "x0=1, x1=0, x2=0 (1)"]
    assert len(set(found)) == 16


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
        collect([], METRIC)


@pytest.mark.parametrize(
    ("summary", "words"),
    [
        ({"state": "failed", "reason": "the loss is not finite"}, "its state is failed: the loss is not finite"),
        ({"state": "running"}, "is not done, its state is running"),
        ({"state": "stopped", "reason": "SIGINT"}, "its state is stopped: SIGINT"),
        ({"scores": {"val_top1": 3.0}}, "has no test_top1; it has val_top1"),
        ({"scores": {"test_top1": float("nan")}}, "has no test_top1"),
        ({"seed": None, "device": None}, "has a summary.json without seed, device"),
        ({"limited": {"train_batches": 2}}, "is limited to train_batches=2, for a trial"),
        ({"state": None}, "that no training here has written"),
    ],
)
def test_runs_that_are_left_out_say_why(tmp_path: Path, summary: dict[str, Any], words: str) -> None:
    bad = fake_runs.write(tmp_path / "bad", summary=summary)
    assert words in left(bad)
    fake_runs.write(tmp_path / "good")
    runs, left_out = collect([tmp_path], METRIC)
    assert [run.directory.name for run in runs] == ["good"]
    assert [(one.directory.name, words in one.why) for one in left_out] == [("bad", True)]


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("summary.json", '{"state": "do', "summary.json that is damaged"),
        ("summary.json", "", "summary.json that is damaged"),
        ("summary.json", "[1]", "summary.json that is damaged"),
        ("summary.json", b"\xff\xfe\x00", "summary.json that is damaged"),
        ("metrics.csv", "", "metrics.csv that is damaged"),
        ("metrics.csv", b"\x00\xff\xfe", "metrics.csv that is damaged"),
        ("metrics.csv", "a,b\n1,2\n", "a metrics.csv that no training here has written"),
        ("metrics.csv", "epoch,images\n0,many\n", "a metrics.csv that no training here has written"),
        ("per_class.csv", "", "per_class.csv that is damaged"),
        ("per_class.csv", "class,images,top1\na,ten,50\n", "a per_class.csv that no training here has written"),
        ("per_class.csv", "hello\n", "a per_class.csv that no training here has written"),
        (".hydra/config.yaml", "", "config.yaml"),
        (".hydra/config.yaml", b"\xff\xfe\x00", "config.yaml"),
        (".hydra/config.yaml", "data: 3", "config.yaml"),
        (".hydra/config.yaml", "a: ${b", "config.yaml"),
        (".hydra/config.yaml", "a: ${b}", "config.yaml"),
        (".hydra/config.yaml", "7", "config.yaml"),
        (".hydra/config.yaml", "a: [", "config.yaml cannot be read"),
        (".hydra/config.yaml", "a: 3", "without data.source"),
        (".hydra/config.yaml", "- 3", "config.yaml cannot be read"),
    ],
)
def test_half_written_files(tmp_path: Path, file: str, text: str | bytes, words: str) -> None:
    run = fake_runs.write(tmp_path / "run")
    (run / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    assert words in left(run)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("seed", "0"), ("steps", True), ("macs", 1.5), ("epochs", "3"), ("scores", [1]), ("images", {"test": 400})),
        *(("images", {"train": "many"}), ("scores", {"test_top1": "50"}), ("accelerator", {}), ("versions", "torch 2")),
        *(("protocol", 3), ("commit", 7), ("name", ["a"]), ("images_per_second", {})),
    ],
)
def test_a_summary_of_other_types(tmp_path: Path, key: str, value: Any) -> None:
    run = fake_runs.write(tmp_path / "run", summary={key: value})
    assert f"has a summary.json whose {key}" in left(run)


def test_a_score_is_a_share_of_images(tmp_path: Path) -> None:
    """float32 percentages of 359 images are their hits; the table of classes has the say on the test set's top-1."""
    images = {"train": 1000, "test": 359, "val": 36}
    scores = {"test_top1": float(np.float32(100 * 354 / 359)), "val_top1": 25.0, "test_loss": 0.1, "val_top5": 33.3}
    run = fake_runs.write(tmp_path / "run", summary={"images": images, "scores": scores})
    (run / "per_class.csv").unlink()
    (found,), _ = collect([run], METRIC)
    assert found.score("test_top1") == Fraction(35400, 359)
    assert found.score("val_top1") == 25
    assert [found.score(key) for key in ("test_loss", "val_top5")] == [Fraction(1, 10), Fraction(333, 10)]
    (run / "per_class.csv").write_text("class,images,top1\na,300,99.666667\nb,59,83.050847\n")
    (found,), _ = collect([run], METRIC)
    assert found.score("test_top1") == Fraction(100 * (299 + 49), 359)
    (run / "per_class.csv").write_text("class,images,top1\na,100,99\n")  # a part of the images
    (found,), _ = collect([run], METRIC)
    assert found.score("test_top1") == Fraction(35400, 359)


def test_folders_that_hold_no_runs_are_not_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_runs.write(tmp_path / "a")
    for name in (".git", "node_modules", "data", "site-packages", "venv", "wandb"):
        fake_runs.write(tmp_path / name / "run", seed=1)
    (tmp_path / "loop").symlink_to(tmp_path)
    runs, left_out = collect([tmp_path], METRIC)
    assert ([run.directory for run in runs], left_out) == ([tmp_path / "a"], [])
    assert f"looking for runs in {tmp_path}" in capsys.readouterr().err
    monkeypatch.setattr("hybrid_vit.studies.report.records.ENDLESS", 3)
    for number in range(5):
        (tmp_path / "foreign" / str(number)).mkdir(parents=True)
    with pytest.raises(ValueError, match="no run in the first 3 folders; give the folder that holds the runs"):
        collect([tmp_path / "foreign"], METRIC)


def test_a_run_may_have_no_top5(tmp_path: Path) -> None:
    fake_runs.write(tmp_path / "three", summary={"scores": {"test_top1": 50.0, "test_loss": 1.0}})
    fake_runs.write(
        tmp_path / "many", settings={"model.depth": 2}, summary={"scores": {"test_top1": 50, "test_top5": 90}}
    )
    found = study([tmp_path], metric=METRIC, reference=None)
    assert runs_table(found)["test_top5"].isna().tolist() == [False, True]
    with pytest.raises(ValueError, match="has no test_top5"):
        collect([tmp_path / "three"], "test_top5")


def test_a_run_without_its_tables_still_counts(tmp_path: Path) -> None:
    run = fake_runs.write(tmp_path / "run")
    (run / "metrics.csv").unlink()
    (run / "per_class.csv").unlink()
    (found,), _ = collect([run], METRIC)
    assert found.epochs.empty and found.classes.empty
    assert found.images_seen == json.loads((run / "summary.json").read_text())["steps"] * 100


def test_the_same_seed_counts_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        fake_runs.write(tmp_path / name, seed=3)
    runs, left_out = collect([tmp_path], METRIC)
    assert len(runs) == 1
    assert "the same configuration and seed, which counts once" in left_out[0].why


def test_batches_of_a_step_are_part_of_a_configuration_and_the_rest_of_the_trainer_is_not(tmp_path: Path) -> None:
    for name, trainer in [
        ("one", {"accumulate_grad_batches": 1}),
        ("two", {"accumulate_grad_batches": 2}),
        ("profiled", {"profiler": "simple", "accumulate_grad_batches": 1}),
    ]:
        fake_runs.write(tmp_path / name, seed=len(name), settings={"trainer": trainer})
    fake_runs.write(tmp_path / "older", seed=9)
    runs, _ = collect([tmp_path], METRIC)
    groups = [{run.directory.name for run in one.runs} for one in arrange(runs)]
    assert sorted(groups, key=len) == [{"two"}, {"one", "profiled", "older"}]


def test_a_run_that_was_lengthened_is_a_configuration_of_its_own(tmp_path: Path) -> None:
    fake_runs.write(tmp_path / "whole", seed=1)
    fake_runs.write(tmp_path / "longer", seed=2, summary={"lengthened": [20]})
    assert len(arrange(collect([tmp_path], METRIC)[0])) == 2
