"""Models in tests are small, and so are their shards."""

import pytest


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybrid_vit.fast.shards.SMALLEST", 1)
