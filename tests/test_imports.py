"""The directions of imports: which folder may import which. Read from the source, so that lazy imports count too."""

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import hybrid_vit

PACKAGE = Path(hybrid_vit.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
COMMANDS = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
TORCH = {"torch", "torchvision"}
STANDARD = set(sys.stdlib_module_names)
MODULES = {
    ".".join(["hybrid_vit", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__"): path
    for path in FILES
}


def statements(tree: ast.AST, at_once: bool) -> Iterator[ast.AST]:
    """What a file consists of; `at_once`: without what is inside of functions, and what is for types alone."""
    for node in ast.iter_child_nodes(tree):
        later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if at_once and (later or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")):
            continue
        yield node
        yield from statements(node, at_once)


@functools.cache
def imports(path: Path, at_once: bool = False) -> frozenset[str]:
    """Full names of the modules that a file imports, at its top or inside a function, or only those at its top."""
    found: set[str] = set()
    package = ["hybrid_vit", *path.relative_to(PACKAGE).parent.parts]
    for node in statements(ast.parse(path.read_text()), at_once):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) + 1 - node.level] if node.level else [])
            module = ".".join(filter(None, [base, node.module]))
            found.add(module)
            named = {f"{module}.{alias.name}" for alias in node.names}
            found |= named if module == "hybrid_vit" else named & MODULES.keys()
    return frozenset(found)


def imported_with(*names: str) -> set[str]:
    """The packages that an import of these modules of ours imports at once, as far as our own files say it."""
    found: set[str] = set()
    while names := tuple({*names} - found):
        found |= {*names}
        parents = {name[:i] for name in names for i, letter in enumerate(name) if letter == "."}
        files = [MODULES[name] for name in {*names, *parents} & MODULES.keys()]
        names = (*parents, *(name for file in files for name in imports(file, at_once=True)))
    return {name.partition(".")[0] for name in found}


def folder_of(name: str) -> str:
    """hybrid_vit.data.loader -> data, torch.nn -> torch."""
    parts = name.split(".")
    return parts[1] if parts[0] == "hybrid_vit" and len(parts) > 1 else parts[0]


# Each folder may import those above it in this list, and these libraries.
FOLDERS: dict[str, set[str]] = {
    "utils": {"matplotlib"},
    "models": {"timm", "transformers", "huggingface_hub"},
    "augment": set(),
    "fast": set(),
    "data": {"lightning", "PIL", "sklearn", "numpy"},
    "evaluation": {"torchmetrics", "matplotlib", "numpy", "scipy"},
    "explanation": set(),
    "config": {"hydra", "omegaconf", "yaml"},
    "deploy": {"PIL", "huggingface_hub", "onnxruntime", "safetensors", "scipy", "tqdm", "yaml"},
    "training": {"lightning", "numpy", "scipy", "wandb", "tqdm", "PIL", "yaml"},
    "benchmarks": {"lightning", "matplotlib", "numpy", "scipy", "timm", "vit_pytorch"},
    "studies": {
        *("jinja2", "lightning", "markdown", "markupsafe", "matplotlib", "numpy", "optuna", "pandas", "scipy", "tqdm"),
    },
    "cli": {"hydra", "omegaconf", "tqdm"},
}
# Further limits of one file or folder: all that it may import, besides torch and `utils`.
ALONE: dict[str, set[str]] = {
    **{f"utils/{name}.py": set() for name in ("extras", "files", "durations", "limits", "paths", "tables")},
    "models": {"models"},
    "augment": {"augment"},
    "fast": {"fast", "models"},
    "data": {"data", "augment", "lightning", "PIL", "sklearn", "numpy"},
    "evaluation": {"evaluation", "torchmetrics", "matplotlib", "numpy", "scipy"},
    "explanation": {"explanation"},
    "training/ema.py": set(),
    "training/optim.py": {"models", "training"},
    "training/muon.py": set(),
    "training/progressive.py": set(),
    "training/distill.py": set(),
    "training/distributed.py": set(),
    "training/task.py": {"augment", "evaluation", "training", "lightning"},
    "training/callbacks.py": {"lightning"},
    "training/progress.py": {"lightning", "tqdm"},
}
LIBRARY = {"models/external.py"}  # wraps what others wrote


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_only_what_lies_below_it(folder: str) -> None:
    names = [*FOLDERS]
    below = {*names[: names.index(folder) + 1], "hybrid_vit", "build_model", "__version__"}
    files = sorted((PACKAGE / folder).rglob("*.py"))
    assert files
    for path in files:
        outside = {folder_of(name) for name in imports(path)} - STANDARD - TORCH - FOLDERS[folder] - below
        assert not outside, f"{path} imports {outside}"


def test_every_folder_has_a_place() -> None:
    assert {path.relative_to(PACKAGE).parts[0] for path in FILES if path.parent != PACKAGE} == {*FOLDERS}


@pytest.mark.parametrize(("place", "allowed"), ALONE.items())
def test_a_part_that_stands_alone(place: str, allowed: set[str]) -> None:
    files = [path for path in FILES if PACKAGE / place in (path, *path.parents)]
    files = [path for path in files if path.relative_to(PACKAGE).as_posix() not in LIBRARY]
    assert files
    for path in files:
        outside = {folder_of(name) for name in imports(path)} - STANDARD - TORCH - {"utils", "hybrid_vit"} - allowed
        assert not outside, f"{path} imports {outside}"


def test_only_the_commands_and_the_configuration_know_hydra() -> None:
    for path in FILES:
        if {"hydra", "omegaconf"} & {folder_of(name) for name in imports(path)}:
            assert path.relative_to(PACKAGE).parts[0] in {"config", "cli"} or path.stem in COMMANDS, path


def test_nothing_imports_a_command() -> None:
    for path in FILES:
        commands = {name for name in imports(path) if name.startswith("hybrid_vit.") and folder_of(name) in COMMANDS}
        assert not commands, path


def test_commands_are_short() -> None:
    for command in COMMANDS:
        assert len((PACKAGE / f"{command}.py").read_text().splitlines()) < 100


def test_wandb_and_what_else_is_slow_is_imported_only_when_it_is_needed() -> None:
    slow = {"timm", "transformers", "sklearn", "wandb", "optuna"}
    assert "torch" in imported_with("hybrid_vit.config.build")
    assert not {*slow, "torchmetrics", "lightning"} & imported_with("hybrid_vit.config.build")
    assert {"lightning", "hydra"} <= imported_with("hybrid_vit.training.run", "hybrid_vit.search")
    assert not slow & imported_with("hybrid_vit.training.run", "hybrid_vit.search")


@pytest.mark.slow
def test_a_process_can_train_where_wandb_is_not_installed_and_imports_no_more() -> None:
    """The same of a process, with all that libraries import."""
    code = (
        "import sys; sys.modules['wandb'] = None\n"  # as if it were not installed
        "import hybrid_vit\n"
        "hybrid_vit.build_model('hybrid_192')\n"
        "assert not {'timm', 'transformers', 'sklearn', 'torchmetrics'} & set(sys.modules)\n"
        "import hybrid_vit.training.run\n"
        "import hybrid_vit.search\n"
        "assert 'optuna' not in sys.modules\n"
        "assert not {'timm', 'sklearn'} & set(sys.modules)\n"  # torchmetrics imports transformers where it is there
    )
    subprocess.run([sys.executable, "-c", code], check=True)
