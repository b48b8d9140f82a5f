"""The documentation: its commands are accepted, its Python runs, its links lead somewhere."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

import hybrid_vit
from hybrid_vit import search
from hybrid_vit.cli.command import arguments, check
from hybrid_vit.config.compose import compose_config

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    return [text for kind, text in found if kind == language]


def commands() -> list[str]:
    """Each `python -m hybrid_vit.NAME ...` of a block, and of the text between backquotes."""
    found = []
    for page in PAGES:
        lines = "".join(blocks(page, "")).replace("\\\n", " ").splitlines()
        lines += re.findall(r"(?<!`)`(python -m hybrid_vit[^`]+)`", page.read_text())
        found += [shlex.join(shlex.split(line, comments=True)) for line in lines if "python -m hybrid_vit." in line]
    return sorted({line for line in found if not re.search(r"NAME=|=NAME", line)})


@pytest.mark.parametrize("line", commands())
def test_a_command_is_accepted(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("cat", "dog"):
        (tmp_path / "PICTURES" / name).mkdir(parents=True)
        shutil.copy(ROOT / "docs" / "digit.png", tmp_path / "PICTURES" / name)
    words = shlex.split(line.replace("outputs/runs/NAME", "quickstart"))[2:]
    name, argv = words[0].removeprefix("hybrid_vit."), words[1:]
    if name == "search":
        argv, training = search.divided(argv)
        compose_config([f"{key}={value}" for key, value in training.items()])
    argv = [text for text in argv if not text.startswith(("resume=", "--config-dir", "outputs/searches", "+front="))]
    if name in ("evaluate", "report"):
        assert arguments(argv)
    else:
        assert check(argv, name)


def test_there_are_commands_of_every_kind() -> None:
    assert {line.split()[2] for line in commands()} == {
        f"hybrid_vit.{name}" for name in ("train", "evaluate", "bench", "report", "search")
    }


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "guide.md"], ids=lambda page: page.name)
def test_the_python_runs(page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fit(**settings: object) -> object:
        """Its training is in test_api.py."""
        compose_config([f"{key}={value}" for key, value in settings.items()])
        return hybrid_vit.load("quickstart")

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(hybrid_vit, "fit", fit)
    (code,) = blocks(page, "python")
    exec(code, {})
    assert capsys.readouterr().out.startswith("3")  # docs/digit.png, of the test set


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith(("https://", "../../actions/")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}, link
