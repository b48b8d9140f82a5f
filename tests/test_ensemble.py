"""Ensembles: they average probabilities, and their directory is loaded, scored and learned from like a run's."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from small_runs import QUICK, no_pictures
from torch import nn

import hybrid_vit
from hybrid_vit import ensemble
from hybrid_vit.config.build import untrained
from hybrid_vit.models import Ensemble


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two seeds of a small training on digits."""
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch, no_pictures():
        patch.chdir(root)
        return [
            hybrid_vit.fit(**QUICK, seed=seed, **{"hydra.run.dir": str(root / f"s{seed}")}).directory for seed in (0, 1)
        ]


def call(monkeypatch: pytest.MonkeyPatch, *argv: object) -> None:
    monkeypatch.setattr("sys.argv", ["ensemble", "accelerator=cpu", *map(str, argv)])
    ensemble.main()


def test_probabilities_are_averaged() -> None:
    members = [nn.Sequential(nn.Flatten(), nn.Linear(12, 5)) for _ in range(3)]
    images = torch.randn(4, 3, 2, 2)
    mean = torch.stack([member(images).softmax(1) for member in members]).mean(0)
    torch.testing.assert_close(Ensemble(members)(images).softmax(1), mean)


def test_members_begin_without_the_weights_of_a_library() -> None:
    timm = {"_target_": "hybrid_vit.models.timm_model", "architecture": "resnet18", "pretrained": True}
    assert untrained({"_target_": "hybrid_vit.models.Ensemble", "members": [timm]})["members"] == [
        timm | {"pretrained": False}
    ]


def test_what_its_members_began_with_is_known(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = shutil.copytree(runs[0], tmp_path / "first")
    source = {"init_from": {"may_know_validation": True}}
    (first / "summary.json").write_text(json.dumps(json.loads((first / "summary.json").read_text()) | source))
    call(monkeypatch, first, runs[1], "name=pair")
    summary = json.loads((tmp_path / "outputs/ensembles/pair/summary.json").read_text())
    assert summary["init_from"] == source["init_from"]


def test_it_is_loaded_scored_and_taught_from(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    call(monkeypatch, *runs, "name=pair")
    directory = tmp_path / "outputs/ensembles/pair"
    trained, members = hybrid_vit.load(directory), [hybrid_vit.load(run) for run in runs]
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        mean = torch.stack([member(images).softmax(1) for member in members]).mean(0)
        torch.testing.assert_close(trained(images).softmax(1), mean, atol=1e-5, rtol=1e-4)
    assert [seed for seed, _ in json.loads((directory / "model.json").read_text())["splits"]] == [0, 1]
    summary = json.loads((directory / "summary.json").read_text())
    assert summary["state"] == "done" and trained.temperature == 1
    assert summary["parameters"] == 2 * members[0].summary["parameters"]
    assert f"{summary['scores']['test_top1']:.2f} %" in capsys.readouterr().out
    again = Path(shutil.copytree(runs[1], tmp_path / "again" / runs[0].name))
    call(monkeypatch, runs[0], again, "name=same")
    assert {f"{runs[0]}", f"{again}"} <= {*capsys.readouterr().out.split()}  # by their paths, as their names are one
    with no_pictures():
        student = hybrid_vit.fit(**QUICK, **{"distill.teacher": str(directory), "distill.kind": "soft"})
    assert student.summary["state"] == "done"


def test_one_that_is_stopped_is_none(runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr("hybrid_vit.deploy.ensembles.score_test_set", stopped)
        call(patch, *runs, "name=pair")
    with pytest.raises(ValueError, match="is not a run directory"):
        hybrid_vit.load("outputs/ensembles/pair")
    call(monkeypatch, *runs, "name=pair")
    assert hybrid_vit.load("outputs/ensembles/pair").summary["state"] == "done"


def test_what_cannot_be_joined_is_a_sentence(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, file, change in (
        ("limited", "summary.json", {"limited": {"test_batches": 1}}),
        ("failed", "summary.json", {"scores": {}}),
        ("other", "model.json", {"fingerprint": {"class_names": [], "test": {"images": 9, "sha256": ""}}}),
    ):
        shutil.copytree(runs[1], tmp_path / name)
        content = json.loads((tmp_path / name / file).read_text())
        (tmp_path / name / file).write_text(json.dumps(content | change))
    for argv, sentence in (
        ([runs[0]], "an ensemble needs at least two runs"),
        ([*runs, runs[0]], "a run was given twice"),
        ([runs[0], "fast_4m"], "combine runs of the same data"),
        ([runs[0], "limited"], "limited is limited to some of its batches (test_batches); leave it out"),
        ([runs[0], "failed"], "failed has no score of a whole test set"),
        ([runs[0], "other"], "differ in 350 fewer test images; combine runs of the same data"),
        ([*runs, f"hydra.run.dir={runs[0]}"], "holds a model already"),
    ):
        with pytest.raises(SystemExit):
            call(monkeypatch, *argv, "name=pair")
        assert sentence in capsys.readouterr().err
