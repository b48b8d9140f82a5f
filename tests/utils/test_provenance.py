"""The commit that a figure belongs to."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from hybrid_vit.utils import provenance
from hybrid_vit.utils.provenance import find_commit, peak_memory_mib


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_is_that_of_the_folder_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    for name in ("DIR", "WORK_TREE", "INDEX_FILE"):  # which git sets for its hooks
        monkeypatch.delenv(f"GIT_{name}", raising=False)
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "a")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "a@b")
    (tmp_path / "inner").mkdir()
    (tmp_path / "file").write_text("1")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "1"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    commit = find_commit(tmp_path)
    assert commit and len(commit) == 40
    subprocess.run(["git", "tag", "-a", "v1", "-m", "1"], cwd=tmp_path, check=True)
    assert find_commit(tmp_path) == commit  # not the tag
    (tmp_path / "file").write_text("2")
    assert find_commit(tmp_path) == f"{commit}+"
    assert find_commit(tmp_path / "inner") is None  # as a package in an environment below another repository
    monkeypatch.setenv("PATH", "")
    assert find_commit(tmp_path) is None


def test_the_peak_of_memory_is_known_where_the_system_does_not_say_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "status").write_text("Name:\tpython\nVmRSS:\t5 kB\n")  # as in some sandboxes
    monkeypatch.setattr(provenance, "Path", lambda name: tmp_path / "status")
    assert 10 < peak_memory_mib(torch.device("cpu")) < 10**6
