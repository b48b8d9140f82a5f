"""A space: what may be drawn, and how it is written on the command line of a trial."""

from typing import Any

import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from hybrid_vit.studies.search.space import distributions, first, overrides


@pytest.mark.parametrize(
    ("entry", "drawn", "start"),
    [
        (["conv", "patch"], CategoricalDistribution(["conv", "patch"]), "conv"),
        ({"low": 64, "high": 192, "step": 32}, IntDistribution(64, 192, step=32), 64),
        ({"low": 0.0, "high": 0.4, "step": 0.1}, FloatDistribution(0.0, 0.4, step=0.1), 0.0),
        ({"low": 1e-4, "high": 1e-2, "log": True}, FloatDistribution(1e-4, 1e-2, log=True), 1e-4),
        ({"low": 1, "high": 64, "log": True}, IntDistribution(1, 64, log=True), 1),
        ({"low": 0, "high": 0.5}, FloatDistribution(0, 0.5), 0),
    ],
)
def test_an_entry(entry: Any, drawn: BaseDistribution, start: Any) -> None:
    assert distributions({"key": entry}) == {"key": drawn}
    assert first({"key": entry}) == {"key": start}


@pytest.mark.parametrize(
    "entry",
    [3, "conv", [], {"low": 1}, {"low": 3, "high": 1}, {"low": 1, "high": 2, "stepp": 1}, {"low": "a", "high": 2}],
)
def test_another_entry_is_one_sentence(entry: Any) -> None:
    with pytest.raises(ValueError, match=r"^model\.depth in the space: .*; write \[A, B, C\], or {low: A, high: B}"):
        first({"model.depth": entry})


def test_the_command_line_of_a_trial() -> None:
    plan = {"settings": {"model": "hybrid_tiny", "epochs": "3"}}
    params = {"stem@model.stem": "conv", "optim.lr": 0.1 + 0.2, "model.rel_pos_bias": True, "model.num_heads": None}
    assert overrides(plan, params) == [
        *("model=hybrid_tiny", "epochs=3", "stem@model.stem=conv", "optim.lr=0.30000000000000004"),
        *("model.rel_pos_bias=true", "model.num_heads=null"),
    ]
