"""What a sweep says of its jobs while it runs."""

import time
from pathlib import Path

import pytest
from sweeps import job

from hybrid_vit.cli.overview import Overview, Status, look, row
from hybrid_vit.utils.files import Lock


def test_a_directory_tells_how_far_it_is(tmp_path: Path) -> None:
    assert look(tmp_path / "none").state == "waiting"
    running = job(tmp_path, "a", {"state": "running", "steps": 200}, 50)
    assert look(running.directory).state == "waiting"  # a process that is dead left it
    with Lock(running.directory / ".lock"):
        assert (look(running.directory).state, look(running.directory).share) == ("running", 0.25)


@pytest.mark.parametrize(
    "content", ["", '{"state": "runn', "[]", "3", '{"state": 3}', '{"state": []}', '{"scores": 3}']
)
def test_the_overview_bears_damaged_files(tmp_path: Path, content: str) -> None:
    bad = job(tmp_path, "a")
    (bad.directory / "summary.json").write_text(content)
    for table in ("", "\n", "epoch,step\n0,nan\n", "epoch,step\n0,-3\n", "\0"):
        (bad.directory / "metrics.csv").write_text(table)
        overview = Overview(tmp_path, [bad])
        assert "a    waiting     0%" in overview.write(overview.status())
    (bad.directory / "summary.json").write_text('{"state": "done", "scores": {"val_top1": null}, "seconds": "?"}')
    assert "a    done" in overview.table(overview.status())


def test_the_overview_estimates_the_time_that_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    planned = [job(tmp_path, "a", {"state": "done", "steps": 10}, 10), job(tmp_path, "b"), job(tmp_path, "c")]
    overview = Overview(tmp_path, planned)
    overview.began -= 60
    (planned[1].directory / "summary.json").write_text('{"state": "running", "steps": 10}')
    (planned[1].directory / "metrics.csv").write_text("epoch,step\n0,5\n")
    held = Lock(planned[1].directory / ".lock")
    held.acquire()
    request.addfinalizer(held.release)
    monkeypatch.setattr(time, "time", lambda: 0.0)  # the clock of the machine is set back
    line = overview.line(overview.status())  # half a job a minute, and one and a half are left
    assert line == f"{tmp_path.name}: 1 of 3 jobs done, 1 running, 1 waiting, about 3 min left"
    table = overview.write(overview.status())
    assert table == (tmp_path / "overview.txt").read_text()
    assert [line.split()[:3] for line in table.splitlines()[1:4]] == [
        ["a", "done", "100%"],
        ["b", "running", "50%"],
        ["c", "waiting", "0%"],
    ]


def test_a_score_of_some_batches_is_not_shown_as_one() -> None:
    summary = {"scores": {"val_top1": 12.0, "test_top1": 34.0}, "limited": {"train_batches": 2}}
    line = "  ".join(row("a", Status("done", 1.0, summary)))
    assert "12.00" not in line and "34.00" not in line
    assert line.endswith("limited to train_batches=2: no score")
