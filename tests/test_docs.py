"""The documentation: its commands are accepted, its Python runs, its links lead somewhere, its tables are complete."""

import csv
import importlib.util
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml

import hybrid_vit
from hybrid_vit import models
from hybrid_vit.cli.command import check
from hybrid_vit.config import schema
from hybrid_vit.config.build import TRANSFORMS
from hybrid_vit.config.compose import compose_config

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
CARDS = sorted(
    page for page in (ROOT / "outputs/published").glob("*/README.md") if (page.parent / "model.json").is_file()
)
COMMANDS = ("train", "evaluate", "predict", "demo", "export", "ensemble", "publish", "bench", "report", "search")


def load(name: str) -> ModuleType:
    """A module in docs/, which is loaded by its path."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hooks, computing = load("hooks"), load("computing")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    return [text for kind, text in found if kind == language]


def commands() -> list[str]:
    """Each `python -m hybrid_vit.NAME ...` of a block and, where it has settings, of the text between backquotes."""
    found = []
    for page in [*PAGES, *CARDS]:
        lines = "".join(blocks(page, "")).replace("\\\n", " ").splitlines()
        lines += re.findall(r"(?<!`)`(python -m hybrid_vit\.\w+\s[^`]+)`", page.read_text())
        for line in lines:
            _, python, command = line.partition("python -m hybrid_vit.")  # behind a pipe, too
            if python:
                words = shlex.split(python + command, comments=True)
                found.append(shlex.join(words[: words.index(">")] if ">" in words else words))
    return sorted({line for line in found if not re.search(r"NAME=|=NAME", line)})


@pytest.mark.parametrize("line", commands())
def test_a_command_is_accepted(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("cat", "dog"):
        (tmp_path / "PICTURES" / name).mkdir(parents=True)
        shutil.copy(ROOT / "docs" / "digit.png", tmp_path / "PICTURES" / name)
    words = shlex.split(re.sub(r"outputs/(runs|ensembles)/(NAME|record_pair)", "quickstart", line))[2:]
    name = words[0].removeprefix("hybrid_vit.")
    skipped = ("resume=", "--config-dir", "outputs/searches", "+front=", "init_from=cifar10_4m")
    given: list[tuple[str, list[str]]] = []
    module = import_module(f"hybrid_vit.{name}")
    monkeypatch.setattr(module, "run_command", lambda name, job, argv, read=list, **_: given.append((name, read(argv))))
    monkeypatch.setattr(sys, "argv", [name, *(word for word in words[1:] if not word.startswith(skipped))])
    module.main()
    ((name, argv),) = given
    if any(word.startswith("sweep=") for word in argv) and not any(word.startswith("seed=") for word in argv):
        argv.append("seed=0")  # its jobs differ in nothing else
    assert check(argv, name)


def test_there_are_commands_of_every_kind() -> None:
    assert {line.split()[2] for line in commands()} == {f"hybrid_vit.{name}" for name in COMMANDS}


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name_of)
def test_the_python_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fit(**settings: object) -> object:
        """Its training is in test_api.py."""
        compose_config([f"{key}={value}" for key, value in settings.items()])
        return hybrid_vit.load("quickstart")

    (tmp_path / "docs").mkdir()
    for copy in ("docs/digit.png", "photo.jpg"):
        shutil.copy(DOCS / "digit.png", tmp_path / copy)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hybrid_vit, "fit", fit)
    (code,) = blocks(page, "python")
    exec(code, {"__name__": "__main__"})
    assert capsys.readouterr().out.startswith("3")  # docs/digit.png, of the test set


@pytest.mark.parametrize("page", [*PAGES, *sorted(DOCS.rglob("*.ipynb"))], ids=name_of)
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


def test_every_page_is_in_the_navigation() -> None:
    nav = re.search(r"^nav:\n(?:  .*\n)+", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert nav
    named = [*hooks.named(yaml.safe_load(nav[0])["nav"])]
    assert len(named) == len({*named})
    pages = {name if (DOCS / name).exists() else f"../{name}" for name in named}
    assert all((DOCS / page).is_file() for page in pages)
    assert {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")} <= pages


def test_every_command_has_its_help() -> None:
    shown = re.findall(r"^<!-- help: (\w+) -->$", (DOCS / "reference/commands.md").read_text(), re.MULTILINE)
    assert {*shown} == {*COMMANDS} == {*hooks.COMMANDS.values()}


def test_every_key_has_a_meaning_and_a_table() -> None:
    kinds = {value for value in vars(schema).values() if isinstance(value, type) and is_dataclass(value)}
    keys = {kind.__name__: {part.name for part in hooks.own_keys(kind)} for kind in kinds - {schema.Arms}}
    assert {name: {*meanings} for name, meanings in hooks.meanings().items()} == {k: v for k, v in keys.items() if v}
    shown = set()
    page = (DOCS / "reference/configuration.md").read_text()
    for argument in re.findall(r"^<!-- keys: (.+) -->$", page, re.MULTILINE):
        kind = getattr(schema, argument.split()[0].split(".")[0])
        for group in argument.split()[0].split(".")[1:]:
            (kind,) = [part.type for part in fields(kind) if part.name == group]
        shown.add(kind.__name__)
    assert shown == {*hooks.meanings()}


def test_a_table_of_keys() -> None:
    table = hooks.generated_table("Train.optim").splitlines()
    assert table[2] == "| `optim.name` | the optimizer | str | `adamw` | `adamw`, `sgd`, `muon` |"
    assert "| `optim.lr` | highest learning rate | float | `0.0004` | (0, inf) |" in table
    assert any(row.endswith("| list of int or null | `null` | [1, 64] |") for row in keys_of("ConvStem model.stem."))
    assert any(row.endswith("| `outputs/reports/TIME` |  |") for row in keys_of("Report"))


def keys_of(argument: str) -> list[str]:
    return hooks.generated_table(argument).splitlines()


@pytest.mark.parametrize(("package", "names"), [("models", models.__all__), ("augment", TRANSFORMS)])
def test_every_part_of_a_configuration_is_in_the_python_reference(package: str, names: Sequence[str]) -> None:
    page = (DOCS / "reference/python.md").read_text()
    assert sorted(re.findall(rf"^::: hybrid_vit\.{package}\.(\w+)$", page, re.MULTILINE)) == sorted(names)


def test_the_picture_of_computing_has_our_runs_and_names_the_source_of_others() -> None:
    ours = {name for name, *_ in computing.ours(ROOT / "outputs/published")}
    assert {"fast_4m", "record_4m"} <= ours and not {"quickstart", "cifar110"} & ours
    with (DOCS / "computing.csv").open(encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    assert all(row["source"] and row["kind"] in computing.STYLES for row in rows)
    picture = (DOCS / "computing.svg").read_text(encoding="utf-8")
    assert all(f"<!-- {name} -->" in picture for name in [*ours, *(row["system"] for row in rows)])


@pytest.mark.parametrize("name", ["hybrid_fast", "hybrid_192"])
def test_the_diagram_of_a_model_has_its_shapes(name: str) -> None:
    net, shapes = hybrid_vit.build_model(name).eval(), []
    stem = net.patch_embed
    for part in (stem.white, *stem.groups) if name == "hybrid_fast" else [stem]:
        part.register_forward_hook(lambda _, images, output: shapes.append(tuple(output.shape[1:])))
    with torch.no_grad():
        net(torch.zeros(1, 3, 32, 32))
    assert shapes
    picture = (DOCS / f"{name}.svg").read_text(encoding="utf-8")
    for shape in [*shapes, net.pos_embed.shape[1:]]:
        assert f"<!-- {' x '.join(map(str, shape))} -->" in picture


def test_links_that_leave_the_folder_of_the_pages() -> None:
    page = DOCS / "guide" / "training.md"
    text = (
        "[a](../../conf/train.yaml) [b](../results.md#speed) [c](../../CONTRIBUTING.md#style) [d](../../conf) "
        "[e](https://example.org)"
    )
    assert hooks.relinked(f"{text}\n```\n{text}\n```\n", page) == (
        "[a](../conf/train.yaml.md) [b](../results.md#speed) [c](../CONTRIBUTING.md#style) d [e](https://example.org)"
        f"\n```\n{text}\n```\n"
    )
