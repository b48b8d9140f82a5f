"""A budget: what was measured -> the steps that fit into it."""

from types import SimpleNamespace

import pytest

from hybrid_vit.training.budget import Clock, Cost, affordable

DATA = SimpleNamespace(val_images=500, test_images=1000, steps=10)
COST = Cost(step=0.1, image=0.001)


def test_training_validation_and_test_fit_into_the_time() -> None:
    steps, scoring = affordable(COST, DATA, 100)
    assert scoring == 1.5
    took = steps * 0.1 + 0.5 * (steps / 10 + 1) + 1
    assert 0 <= 97 - took < 0.1 + 0.5 / 10  # 3 % are kept back, and one step more would be too many


def test_the_test_set_counts_each_time_it_is_looked_at() -> None:
    looking = SimpleNamespace(**{**vars(DATA), "val_images": 1500})
    assert affordable(COST, looking, 100)[0] < affordable(COST, DATA, 100)[0]


def test_a_time_without_a_step_is_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"budget is too short: 1 s are left, .* try budget=2m"):
        affordable(COST, DATA, 1)


def test_a_clock_goes_on_where_it_was_and_ends_at_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    clock = Clock(40)
    now += 10
    assert clock.progress == 0.25
    state = clock.state_dict()
    now += 1000  # the run is stopped
    resumed = Clock(7)
    resumed.load_state_dict(state)
    now += 20
    assert resumed.progress == 0.75
    now += 20
    assert resumed.progress == 1
