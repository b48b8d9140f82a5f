"""The look of pictures: series that everyone can tell apart, and labels that do not touch."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from hybrid_vit.utils.plots import BLUE, ORANGE, REFERENCE, SERIES, End, label_ends, line, log_axis, save, spread

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "grey": np.tile([0.2126729, 0.7151522, 0.0721750], (3, 1)),
}
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def lab(color: str, seen: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of a colour, D65, as it is seen."""
    rgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = XYZ @ np.clip(seen @ linear, 0, 1) / [0.95047, 1, 1.08883]
    x, y, z = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def apart(one: str, other: str, vision: str) -> float:
    """Delta-E (CIE 1976)."""
    return float(np.linalg.norm(lab(one, VISION[vision]) - lab(other, VISION[vision])))


def test_the_measure_is_that_of_the_known_flaw() -> None:
    """Blue and purple of the palette that this one replaced; white and black."""
    assert apart("#4c78a8", "#8e5ea2", "deuteranopia") < 10
    assert apart("#000000", "#ffffff", "grey") == pytest.approx(100, abs=0.1)


@pytest.mark.parametrize("vision", VISION)
def test_series_of_the_same_dash_differ_in_colour_for_everyone(vision: str) -> None:
    pairs = [(a, b) for a, b in combinations((REFERENCE, *SERIES), 2) if a.dash == b.dash]
    assert len(pairs) == 10 + 6 + 3
    assert min(apart(a.color, b.color, vision) for a, b in pairs) >= 10
    assert apart(BLUE, ORANGE, vision) >= 10  # better and worse


def test_no_two_series_have_the_same_marker() -> None:
    assert len({style.marker for style in (REFERENCE, *SERIES)}) == len(SERIES) + 1


@pytest.mark.parametrize("points", [1, 5, 12, 200])
def test_the_last_point_of_a_curve_is_marked_and_a_long_curve_has_a_few_marks(points: int) -> None:
    marks = line(range(points), range(points), SERIES[0]).get_markevery()
    assert marks[-1] == points - 1
    assert min(points, 8) <= len(marks) <= 16


def test_a_label_has_the_mark_of_its_series_at_its_height() -> None:
    figure = Figure()
    ax = figure.subplots()
    ax.set(xlim=(0, 10), ylim=(0, 100))
    label_ends(ax, [End(10, 80, "upper", SERIES[0]), End(4, 20, "lower", SERIES[1])])
    heights = {}
    for text, sample in zip(ax.texts, figure.lines or figure.artists, strict=True):
        x, y = ax.transAxes.inverted().transform(sample.get_transform().transform((17, 0)))
        heights[text.get_text(), sample.get_marker()] = round(float(y), 6)
        assert x > 1
    assert heights == {("upper", SERIES[0].marker): 0.8, ("lower", SERIES[1].marker): 0.2}


def test_a_logarithmic_axis_has_plain_numbers() -> None:
    ax = Figure().subplots()
    ax.plot([1, 2000], [1, 2])
    log_axis(ax, "x", ticks=[1, 500, 2000])
    assert ax.get_xscale() == "log" and ax.get_yscale() == "linear"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "500", "2,000"]


def test_a_picture_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    made = []
    for _ in range(2):
        figure = Figure()
        figure.subplots().plot([1, 2])
        save(figure, tmp_path / "x.svg")
        made.append((tmp_path / "x.svg").read_bytes())
    assert made[0] == made[1]


def test_labels_are_moved_apart_and_no_farther_than_needed() -> None:
    assert spread([], 0.1) == []
    assert spread([0.1, 0.5, 0.9], 0.1) == pytest.approx([0.1, 0.5, 0.9])
    assert spread([0.5, 0.5], 0.1) == pytest.approx([0.45, 0.55])
    assert spread([0.5, 0.5, 0.58], 0.1) == pytest.approx([0.4266667, 0.5266667, 0.6266667])
    places = spread([0.0, 0.01, 0.02, 0.2, 0.21, 0.9], 0.06)
    assert min(np.diff(places)) >= 0.06 - 1e-12
    assert places[-1] == 0.9
