"""Publishing: the folder holds the stated weights, is loaded by name, and says what it was made of; refusals."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from small_runs import QUICK, no_pictures

import hybrid_vit
from hybrid_vit import publish
from hybrid_vit.config.saved import load_run_config
from hybrid_vit.deploy.card import model_card
from hybrid_vit.deploy.publishing import command_of, portable
from hybrid_vit.deploy.weights import load_weights
from hybrid_vit.utils import paths


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two seeds of a small training on digits."""
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch, no_pictures():
        patch.chdir(root)
        return [
            hybrid_vit.fit(**QUICK, seed=seed, **{"hydra.run.dir": str(root / f"seed={seed}")}).directory
            for seed in (0, 1)
        ]


def call(monkeypatch: pytest.MonkeyPatch, *argv: object) -> None:
    monkeypatch.setattr("sys.argv", ["publish", "accelerator=cpu", *map(str, argv)])
    publish.main()


def test_a_published_run_is_loaded_by_name_and_states_its_score(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(publish, "COST", 100)  # of 359 images one may change
    call(monkeypatch, *runs, "name=small")
    directory = tmp_path / "outputs/published/small"
    monkeypatch.setattr(paths, "PUBLISHED", directory.parent)
    weights = load_weights(directory)
    assert all(value.dtype == torch.half for value in weights.values() if value.is_floating_point())
    trained, original = hybrid_vit.load("small"), hybrid_vit.load(runs[0])
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(trained(images), original(images), atol=0.02, rtol=0.02)
    temperature = json.loads((runs[0] / "model.json").read_text())["temperature"]
    assert trained.temperature == temperature > 0
    summary = json.loads((directory / "summary.json").read_text())
    card = (directory / "README.md").read_text(encoding="utf-8")
    assert f"{summary['scores']['test_top1']:.2f} % (" in card and "| 2 runs |" in card
    assert "hydra" not in card
    assert 'hybrid_vit.load("small")' in card and "python -m hybrid_vit.train experiment=quickstart" in card
    assert {"config.yaml", "metrics.csv", "learning_curve.png", "confusion.png", "per_class.csv"} <= {
        path.name for path in directory.iterdir()
    }
    assert f"temperature of {temperature:.2f}" in card and "`val`" not in card
    assert [line.partition(",")[0] for line in (directory / "runs.csv").read_text().splitlines()] == ["seed", "0", "1"]
    assert str(tmp_path) not in (directory / "model.json").read_text()
    assert f"{summary['scores']['test_top1']:.2f} % of 359 test images" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        call(monkeypatch, *runs, "name=small")
    assert "outputs/published/small holds a model already; choose another name" in capsys.readouterr().err
    monkeypatch.setattr(paths, "PUBLISHED", tmp_path)  # as of a wheel
    assert paths.find_run("small").resolve() == directory
    assert [path.name for path in paths.published()] == ["small"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"state": "stopped"}, "is stopped, not done; finish it with resume="),
        ({"limited": {"test_batches": 1}}, "used only some of its batches"),
        ({"seed": 0}, "the runs have the seeds [0, 0]; give each seed once"),
    ],
)
def test_runs_that_cannot_be_published_are_a_sentence(
    runs: list[Path],
    change: dict,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "other"
    shutil.copytree(runs[1], other)
    summary = json.loads((other / "summary.json").read_text())
    (other / "summary.json").write_text(json.dumps(summary | change))
    with pytest.raises(SystemExit):
        call(monkeypatch, runs[0], other, "name=small")
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "outputs").exists()


def test_seeds_of_another_test_set_are_not_published_together(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    other = shutil.copytree(runs[1], tmp_path / "other")
    description = json.loads((other / "model.json").read_text())
    description["fingerprint"]["test"]["images"] -= 7
    (other / "model.json").write_text(json.dumps(description))
    with pytest.raises(SystemExit):
        call(monkeypatch, runs[0], other, "name=small")
    assert "was scored on another test set than" in capsys.readouterr().err


def test_an_ensemble_is_not_published(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    pair = Path(shutil.copytree(runs[0], tmp_path / "pair"))
    shutil.rmtree(pair / ".hydra")  # an ensemble has none
    summary = json.loads((pair / "summary.json").read_text())
    (pair / "summary.json").write_text(json.dumps(summary | {"members": ["a", "b"]}))
    with pytest.raises(SystemExit):
        call(monkeypatch, pair, "name=small")
    assert "is an ensemble, which has no model card; give one of a, b" in capsys.readouterr().err


def test_weights_that_half_precision_would_spoil_stay(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert publish.COST == 0.05  # as the guide says
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(publish, "COST", -101)  # any cost is too much
    call(monkeypatch, runs[0], "name=single")
    directory = tmp_path / "outputs/published/single"
    before, after = load_weights(runs[0]), load_weights(directory)
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert "single precision" in (directory / "README.md").read_text(encoding="utf-8")


def test_other_settings_and_no_runs_are_a_sentence(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "other"
    shutil.copytree(runs[1], other)
    config = other / ".hydra/config.yaml"
    config.write_text(config.read_text().replace("batch_size: 64", "batch_size: 32"))
    longer = tmp_path / "longer"
    shutil.copytree(runs[1], longer)
    summary = json.loads((longer / "summary.json").read_text())
    (longer / "summary.json").write_text(json.dumps(summary | {"lengthened": [5]}))
    for argv, sentence in (
        ([runs[0], other, "name=small"], "is of another configuration than"),
        ([runs[0], longer, "name=small"], "(lengthened); give seeds of one"),
        (["name=small"], "no run was given"),
        ([runs[0], f"runs=[{other}]", "name=small"], "and runs= are both given; name all runs in one way"),
        ([runs[0], "name=fast_4m"], "fast_4m holds a model already; choose another name"),  # which load would find
    ):
        with pytest.raises(SystemExit):
            call(monkeypatch, *argv)
        assert sentence in capsys.readouterr().err


def test_a_card_says_what_a_step_was_and_no_commit_where_none_is_known(runs: list[Path]) -> None:
    summary = json.loads((runs[0] / "summary.json").read_text()) | {"commit": None}
    config = load_run_config(runs[0])
    config["trainer"]["accumulate_grad_batches"] = 4
    config["distill"] |= {"teacher": "/x/pair", "kind": "soft"}
    texts = dict.fromkeys(("scope", "calibration", "use"), "")
    card = model_card("x", summary, config, classes=10, size=32, figures=[], command=None, **texts)
    assert "(4 batches a step)" in card and "None" not in card
    assert (
        "| distillation | from pair: soft, alpha 0.5, temperature 3 |" in card
        and "without those of the teacher" in card
    )


def test_paths_of_the_machine_are_not_published(runs: list[Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs[0], run)
    (run / ".hydra/overrides.yaml").write_text("[data=folder, \"data.root='/home/me/pictures'\", 'tags=[a,b]']")
    assert command_of(run) == "python -m hybrid_vit.train data=folder data.root=pictures 'tags=[a,b]'"
    content = {"init_from": {"run": "/home/me/runs/old"}, "betas": [0.9, "/a/b"], "root": None, "text": "a/b"}
    assert portable(content) == {"init_from": {"run": "old"}, "betas": [0.9, "b"], "root": None, "text": "a/b"}
    assert portable({"fingerprint": {"class_names": ["/m/01g317"]}}) == {"fingerprint": {"class_names": ["/m/01g317"]}}
    (run / ".hydra/overrides.yaml").write_text("[sweep=stem_depth, seed=0, name=one]")
    assert command_of(run) is None  # it would train all of the sweep
    (run / ".hydra/overrides.yaml").write_text("[data=digits]")
    assert command_of(run) == "python -m hybrid_vit.train data=digits"
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(summary | {"lengthened": [5]}))
    assert command_of(run) is None  # it made a part of the run only


def test_another_test_set_is_not_scored_in_the_name_of_the_run(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    shutil.copytree(runs[0], run)
    description = json.loads((run / "model.json").read_text())
    description["fingerprint"]["test"]["images"] += 1
    (run / "model.json").write_text(json.dumps(description))
    with pytest.raises(SystemExit):
        call(monkeypatch, run, "name=small")
    assert "the test set is not that of" in capsys.readouterr().err
