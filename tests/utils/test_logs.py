"""The log of a run that is trained from Python."""

import logging
from pathlib import Path

import pytest

from hybrid_vit.utils.logs import logged


def test_where_nobody_has_set_up_logging_only_warnings_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = logging.getLogger("hybrid_vit.test")
    monkeypatch.setattr(logging.root, "handlers", [])
    with logged(tmp_path / "train.log"):
        logging.root.addHandler(logging.StreamHandler())  # as a progress bar does for a while
        log.info("an epoch")
        log.warning("too few images")
    assert capsys.readouterr().err == "too few images\n"
    assert [line.partition(" - ")[2] for line in (tmp_path / "train.log").read_text().splitlines()] == [
        "an epoch",
        "too few images",
    ]
