"""Calibration: the error of known probabilities, against torchmetrics; the temperature of logits of a known one."""

import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from hybrid_vit.evaluation.calibration import fit_temperature
from hybrid_vit.evaluation.metrics import Calibration


def drawn(temperature: float, images: int = 20_000) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that are `temperature` times too large for the labels that are drawn of them."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(images, 10, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    return logits * temperature, labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_error_is_that_of_torchmetrics(temperature: float) -> None:
    logits, labels = drawn(temperature)
    calibration = Calibration(10)
    for part in zip(logits.split(700), labels.split(700), strict=True):
        calibration.update(*part)
    expected = 100 * multiclass_calibration_error(logits, labels, num_classes=10, n_bins=15)
    assert calibration.compute()["ece"] == pytest.approx(float(expected), abs=1e-3)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_is_found_and_mends_the_error(temperature: float) -> None:
    logits, labels = drawn(temperature)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(temperature, rel=0.03)
    calibration = Calibration(10)
    calibration.update(logits / found, labels)
    assert calibration.compute()["ece"] < 1


def test_few_images_or_none_that_is_wrong_say_nothing_of_the_temperature() -> None:
    logits, labels = drawn(3.0)
    assert fit_temperature(logits[:99], labels[:99]) == 1
    right = logits.argmax(1) == labels
    assert fit_temperature(logits[right], labels[right]) == 1


@pytest.mark.parametrize(("label", "error"), [(0, 100 * 2 / 3), (2, 100 / 3)])
def test_of_equal_logits_the_first_class_is_the_prediction(label: int, error: float) -> None:
    calibration = Calibration(3)
    calibration.update(torch.zeros(1, 3), torch.tensor([label]))
    assert calibration.compute()["ece"] == pytest.approx(error)
