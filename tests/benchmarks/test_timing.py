"""Cases that take turns: what is timed, in which order, and what happens when one is missing or fails."""

import time
from pathlib import Path

import pytest

from hybrid_vit.benchmarks.timing import Case, Span, alone, compare, ratio


def sleeper(turn, seconds: float, diary: str = "", repeats: int = 1) -> None:
    time.sleep(0.05)  # preparing is not timed
    while True:
        turn(repeats)
        time.sleep(seconds)
        if diary:
            with open(diary, "a") as file:
                file.write(f"{seconds}\n")


def missing(turn) -> None:
    raise ModuleNotFoundError("No module named 'nowhere'", name="nowhere")


def failing(turn) -> None:
    turn(1)
    raise OSError("the disk is full")


def ending(turn) -> None:
    turn(1)
    raise SystemExit(3)


def test_each_round_times_every_case_once_in_alternating_order(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    cases = [Case(name, sleeper, {"seconds": s, "diary": str(diary)}) for name, s in (("a", 0.01), ("b", 0.03))]
    seconds = compare(cases, rounds=3)
    assert [len(values) for values in seconds.values()] == [3, 3]
    assert min(seconds["a"]) >= 0.01
    assert min(seconds["b"]) >= 0.03
    assert diary.read_text().split() == ["0.03", "0.01", "0.01", "0.03", "0.03", "0.01", "0.01", "0.03"]


def hungry(turn) -> None:
    block = b"x" * (200 << 20)
    while block:
        turn(1)


def test_a_case_alone_tells_its_memory_and_of_many_turns_a_few(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "hybrid_vit.benchmarks.timing"):
        seconds, memory = alone(Case("a", hungry), rounds=60)
    assert len(seconds) == 60
    assert 200 < memory < 2000
    assert len(caplog.records) == 61  # with the warm-up
    assert sum(vars(record)["told"] for record in caplog.records) == 21


def test_each_turn_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "hybrid_vit.benchmarks.timing"):
        compare([Case("a", sleeper, {"seconds": 0.0})], rounds=2)
        assert [record.getMessage().partition(": ")[0] for record in caplog.records] == [
            *("a, warm-up", "a, round 1 of 2", "a, round 2 of 2")
        ]
        assert vars(caplog.records[1])["turn"].keys() == {"case", "arguments", "round", "seconds"}


def test_a_turn_of_several_repeats_counts_as_one_of_them() -> None:
    seconds = compare([Case("a", sleeper, {"seconds": 0.2, "repeats": 5})], rounds=2)
    assert 0.04 <= min(seconds["a"]) < 0.2


def test_a_case_without_its_package_is_left_out_and_said_so(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = compare([Case("a", sleeper, {"seconds": 0.0}), Case("b", missing)], rounds=1)
    assert list(seconds) == ["a"]
    assert "b is left out: nowhere is not installed; pip install 'nowhere'" in capsys.readouterr().err


@pytest.mark.parametrize(("case", "sentence"), [(failing, "the disk is full"), (ending, "exit")])
def test_a_case_that_fails_is_an_error_with_its_name(case, sentence: str) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)broken: .*" + sentence + "|broken: .*SystemExit"):
        compare([Case("broken", case)], rounds=1)


def test_ratios_are_taken_within_rounds() -> None:
    seconds = {"ours": [1.0, 2.0, 4.0], "theirs": [2.0, 6.0, 16.0]}
    assert ratio(seconds, "theirs", "ours") == Span(3.0, 2.0, 4.0)
