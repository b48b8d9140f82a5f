"""Warnings: one for each way in which runs are not comparable or a score is not honest, and none without."""

import json
from pathlib import Path
from typing import Any

import fake_runs
import pytest

from hybrid_vit.studies.report.checks import warnings
from hybrid_vit.studies.report.study import study

LOOKED = (
    "1000 training images, no validation split; test scored on the last EMA weights, test set looked at every epoch"
)


EARLIER = {
    "device": "old",
    "accelerator": {"precision": "bf16"},
    "threads": 1,
    "commit": "b+",
    "versions": {"torch": "2.14.1"},
}


def warned(folder: Path, metric: str = "test_top1") -> list[str]:
    found = study([folder], metric=metric, reference=None)
    return warnings(found.configurations, [pair[:2] for pair in found.comparisons], metric)


def test_one_sound_configuration_has_none(tmp_path: Path) -> None:
    fake_runs.sweep(tmp_path, "model.depth", {4: [50, 51, 52]})
    assert warned(tmp_path) == []


@pytest.mark.parametrize(
    ("summary", "settings", "words"),
    [
        ({}, {"data.source": "cifar10"}, "differ in data: digits (3 runs); cifar10 (1 run)"),
        ({}, {"data.source": "folder", "data.root": "/a"}, "differ in data: digits (3 runs); folder /a (1 run)"),
        ({}, {"data.image_size": 64}, "differ in image size"),
        ({"images": {"train": 1000, "test": 300, "val": 100}}, {}, "differ in number of test images: 400"),
        ({"images": {"train": 1000, "test": 400}}, {}, "differ in validation split"),
        ({"protocol": "x; test scored on the last raw weights"}, {}, "differ in scoring"),
        ({"protocol": LOOKED}, {}, "The test set was looked at every epoch while these were trained"),
        ({"device": "another"}, {}, "differ in device: a cpu (3 runs); another (1 run)"),
        ({"threads": 2}, {}, "differ in threads"),
        ({"earlier": [EARLIER]}, {}, "differ in device: a cpu (3 runs); old, then a cpu (1 run)"),
        ({"earlier": [EARLIER]}, {}, "differ in precision: 32-true (3 runs); bf16, then 32-true (1 run)"),
        ({"earlier": [EARLIER]}, {}, "made with changed files"),
        ({"init_from": {"may_know_validation": True}}, {}, "perhaps trained on the validation images: tiny"),
        ({"accelerator": {"precision": "bf16-mixed"}}, {}, "differ in precision"),
        ({"versions": {"torch": "2.11"}}, {}, "differ in versions: torch 2.14.1 (3 runs); torch 2.11 (1 run)"),
        ({"commit": "b" * 40}, {}, "differ in commit"),
        ({"commit": "a" * 40 + "+"}, {}, "made with changed files"),
        ({"pretrained": True}, {}, "may be that of the start"),
        ({"steps": 40}, {}, "30 to 40 steps, as a budget of time allows"),
        ({"steps": 40, "stopped_early": "no gain"}, {}, "30 to 40 steps: early stopping ended them"),
        ({"images": {"train": 500, "test": 400, "val": 100}}, {"optim.lr": 0.1}, "not of one cause"),
        ({}, {"optim.lr": 0.1}, "n = 1, so neither an interval nor a test: lr=0.1"),
        ({}, {"optim.lr": 0.1}, "not all configurations have the same seeds: 0, 1, 2 (1 configuration); 3"),
        (
            {},
            {"optim.lr": 0.1},
            "The best of these 2 configurations by test_top1 would be chosen on the test set",
        ),
    ],
)
def test_a_run_that_is_not_like_the_others(
    tmp_path: Path, summary: dict[str, Any], settings: dict[str, Any], words: str
) -> None:
    fake_runs.sweep(tmp_path, "model.depth", {4: [50, 51, 52]})
    fake_runs.write(tmp_path / "z", seed=3, summary=summary, settings=settings)
    assert any(words.lower() in text.lower() for text in warned(tmp_path)), warned(tmp_path)


def test_runs_of_one_configuration_on_other_images(tmp_path: Path) -> None:
    fake_runs.sweep(tmp_path, "model.depth", {4: [50, 51, 52]})
    for seed, test in enumerate("aab"):
        fingerprint = {"train": {"images": 1000}, "test": {"images": 400, "sha256": test}}
        (tmp_path / f"4_s{seed}" / "model.json").write_text(json.dumps({"fingerprint": fingerprint}))
    assert warned(tmp_path) == [
        "The runs of tiny have the same settings, but not the same images: they are no repetitions."
    ]


def test_runs_of_one_configuration_from_other_weights(tmp_path: Path) -> None:
    for seed, weights in enumerate("ab"):
        source = {"sha256": weights, "may_know_validation": False}
        fake_runs.write(tmp_path / weights, seed=seed, summary={"init_from": source})
    assert warned(tmp_path) == [
        "The runs of tiny have the same settings, but not the same initial weights: they are no repetitions."
    ]


def test_validation_images_that_may_be_known_choose_nothing(tmp_path: Path) -> None:
    known = {"init_from": {"sha256": "a", "may_know_validation": True}}
    for depth in (2, 4):
        fake_runs.write(tmp_path / str(depth), settings={"model.depth": depth}, summary=known)
    assert not any("pick by validation" in text for text in warned(tmp_path))


def test_a_test_set_that_was_looked_at_is_not_scored_in_another_way(tmp_path: Path) -> None:
    fake_runs.sweep(tmp_path, "model.depth", {4: [50, 51, 52]})
    protocol = json.loads((tmp_path / "4_s0" / "summary.json").read_text())["protocol"]
    fake_runs.write(tmp_path / "z", seed=3, summary={"protocol": f"{protocol}, {LOOKED}"})
    found = warned(tmp_path)
    assert not any("scoring" in text for text in found) and any("looked at every epoch" in text for text in found)


def test_the_amount_of_data_may_be_what_is_studied(tmp_path: Path) -> None:
    for size in (100, 600):
        images = {"train": 1100 - size, "test": 400, "val": size}
        fake_runs.write(tmp_path / str(size), settings={"data.val_size": size}, summary={"images": images})
    assert not [text for text in warned(tmp_path) if "one cause" in text]


def test_longer_training_is_said(tmp_path: Path) -> None:
    fake_runs.write(tmp_path / "a", epochs=3)
    fake_runs.write(tmp_path / "b", epochs=5)
    assert any(
        "training images seen differs" in text and "epochs=5 (5,000 against 3,000)" in text for text in warned(tmp_path)
    )


def test_a_validation_score_is_no_test_score(tmp_path: Path) -> None:
    fake_runs.sweep(tmp_path, "model.depth", {4: [50, 51, 52]})
    assert warned(tmp_path, "val_top1") == [
        "val_top1 is a score of the images that training was watched on; it is no test score."
    ]
