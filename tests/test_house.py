"""The directions of the house: which room may import which. Read from the source, so that lazy imports count too."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hybrid_vit

PACKAGE = Path(hybrid_vit.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
DOORS = {"train", "evaluate", "bench", "report", "search"}
TORCH = {"torch", "torchvision"}
STANDARD = set(sys.stdlib_module_names)


def imports(path: Path) -> set[str]:
    """Full names of the modules that a file imports, at its top or inside a function."""
    found: set[str] = set()
    package = ["hybrid_vit", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) + 1 - node.level] if node.level else [])
            module = ".".join(filter(None, [base, node.module]))
            found.add(module)
            if module == "hybrid_vit":
                found |= {f"hybrid_vit.{alias.name}" for alias in node.names}
    return found


def room(name: str) -> str:
    """hybrid_vit.data.loader -> data, torch.nn -> torch."""
    parts = name.split(".")
    return parts[1] if parts[0] == "hybrid_vit" and len(parts) > 1 else parts[0]


@pytest.mark.parametrize(
    ("place", "allowed"),
    [
        ("utils", set()),
        ("limits.py", set()),
        ("models", {"models", "limits"}),
        ("models/baselines.py", {"timm", "transformers", "huggingface_hub"}),
        ("augment", {"augment"}),
        ("optim.py", {"limits"}),
        ("ema.py", set()),
        ("data", {"data", "augment", "lightning", "PIL", "sklearn", "numpy"}),
        ("drawing.py", {"matplotlib"}),
        ("evaluation", {"evaluation", "drawing", "torchmetrics", "matplotlib", "numpy", "scipy"}),
        (
            "reporting",
            {
                "reporting",
                "drawing",
                "pandas",
                "scipy",
                "numpy",
                "matplotlib",
                "jinja2",
                "markdown",
                "markupsafe",
                "tqdm",
            },
        ),
        (
            "benchmarks",
            {
                *("benchmarks", "accelerator", "augment", "data", "drawing", "models", "optim", "runs", "training"),
                "evaluation",
                *("hybrid_vit", "build_model", "lightning", "matplotlib", "numpy", "scipy", "timm", "vit_pytorch"),
            },
        ),
        (
            "searching",
            {
                *("searching", "accelerator", "benchmarks", "callbacks", "drawing", "runs", "training"),
                *("lightning", "matplotlib", "optuna"),
            },
        ),
        ("distill.py", set()),
        ("distributed.py", set()),
        ("task.py", {"augment", "distill", "distributed", "ema", "evaluation", "limits", "optim", "lightning"}),
        ("callbacks.py", {"lightning", "tqdm"}),
    ],
)
def test_a_room_imports_only_what_lies_below_it(place: str, allowed: set[str]) -> None:
    alone = {"models/baselines.py"} - {place}  # its row is its own
    files = [path for path in FILES if PACKAGE / place in (path, *path.parents)]
    files = [path for path in files if path.relative_to(PACKAGE).as_posix() not in alone]
    assert files
    for path in files:
        outside = {room(name) for name in imports(path)} - STANDARD - TORCH - {"utils"} - allowed
        assert not outside, f"{path} imports {outside}"


def test_only_the_doors_and_the_configuration_know_hydra() -> None:
    knowing = {path.stem for path in FILES if {"hydra", "omegaconf"} & {room(name) for name in imports(path)}}
    assert knowing <= DOORS | {"command", "config", "schema", "sweeping"}


def test_nothing_imports_a_door() -> None:
    for path in FILES:
        assert not {name for name in imports(path) if name.startswith("hybrid_vit.") and room(name) in DOORS}, path


def test_doors_are_short() -> None:
    for door in DOORS:
        assert len((PACKAGE / f"{door}.py").read_text().splitlines()) < 150


def test_wandb_is_imported_only_when_a_run_starts() -> None:
    code = (
        "import sys; sys.modules['wandb'] = None\n"  # as if it were not installed
        "import hybrid_vit\n"
        "hybrid_vit.build_model('hybrid_192')\n"
        "assert not {'timm', 'transformers', 'sklearn', 'torchmetrics'} & set(sys.modules)\n"
        "import hybrid_vit.training\n"
        "import hybrid_vit.search\n"
        "assert 'optuna' not in sys.modules\n"
        "assert not {'timm', 'sklearn'} & set(sys.modules)\n"  # torchmetrics imports transformers where it is there
    )
    subprocess.run([sys.executable, "-c", code], check=True)
