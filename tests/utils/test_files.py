"""Files are whole or not there, readable by whom the user's umask allows, and errors name them."""

import errno
import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from hybrid_vit.utils import files
from hybrid_vit.utils.files import Lock, read_json, replacing, write_csv, write_json, write_text


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"name": "é"})
    assert read_json(path) == {"name": "é"}
    with pytest.raises(RuntimeError), replacing(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert read_json(path) == {"name": "é"}
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_text(tmp_path / "a", "old")
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_text(tmp_path / "a", "new")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a", "old")]


def test_the_mode_is_the_users(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_json_has_no_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"loss": float("nan"), "of": [(1.5, float("inf"))]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"loss": None, "of": [[1.5, None]]}


def test_columns_are_those_of_all_rows(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [{"a": 1}, {"a": 2, "b": "é,ü"}])
    assert (tmp_path / "a.csv").read_text(encoding="utf-8").split() == ["a,b", "1,", '2,"é,ü"']


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"nonsense", b"[" * 100_000])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "summary.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"summary\.json cannot be read \(.*\); delete it$"):
        read_json(path, "delete it")
    with pytest.raises(ValueError, match=r"other\.json cannot be read \(No such file or directory\)$"):
        read_json(tmp_path / "other.json")


def test_a_file_system_without_locks_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: object, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(files.fcntl, "flock", refuse)
    with pytest.raises(
        ValueError, match=r"\.lock cannot be locked \(No locks available\): its file system has no locks"
    ):
        Lock(tmp_path / ".lock").acquire()
    assert Lock(tmp_path / ".lock").free()


def hold(path: Path) -> None:
    with Lock(path):
        time.sleep(600)


def test_a_lock_says_who_holds_it_and_ends_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    other = multiprocessing.get_context("spawn").Process(target=hold, args=(path,))
    other.start()
    try:
        while not path.exists() or not path.read_text():
            assert other.is_alive()
            time.sleep(0.01)
        lock = Lock(path)
        assert not lock.acquire(wait=False)
        assert lock.holder() == f"process {other.pid} on {os.uname().nodename}"
    finally:
        assert other.pid
        os.kill(other.pid, signal.SIGKILL)
        other.join()
    assert lock.acquire(wait=False)
    assert lock.holder().startswith(f"process {os.getpid()} ")
    assert not Lock(path).acquire(wait=False)
    lock.release()
    lock.release()
    assert lock.acquire(wait=False)
    lock.release()
