"""Labels beside curves do not touch."""

import numpy as np
import pytest

from hybrid_vit.utils.plots import spread


def test_labels_are_moved_apart_and_no_farther_than_needed() -> None:
    assert spread([], 0.1) == []
    assert spread([0.1, 0.5, 0.9], 0.1) == pytest.approx([0.1, 0.5, 0.9])
    assert spread([0.5, 0.5], 0.1) == pytest.approx([0.45, 0.55])
    assert spread([0.5, 0.5, 0.58], 0.1) == pytest.approx([0.4266667, 0.5266667, 0.6266667])
    places = spread([0.0, 0.01, 0.02, 0.2, 0.21, 0.9], 0.06)
    assert min(np.diff(places)) >= 0.06 - 1e-12
    assert places[-1] == 0.9
