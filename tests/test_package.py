"""The package as it is installed: its version, its types, its extras."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import hybrid_vit

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
IN_THE_WHEEL = ("fast_4m", "record_4m", "quickstart")  # with the others it would be larger than 20 MB


def test_version() -> None:
    assert hybrid_vit.__version__ == version("hybrid-vit") == PROJECT["version"]
    assert f"\nversion: {PROJECT['version']}\n" in (ROOT / "CITATION.cff").read_text()


def test_types_are_shipped() -> None:
    assert (Path(hybrid_vit.__file__).parent / "py.typed").is_file()


def test_the_extra_all_is_the_union_of_the_others_but_for_large_ones() -> None:
    extras = PROJECT["optional-dependencies"]
    (everything,) = extras["all"]
    named = re.fullmatch(r"hybrid-vit\[(.+)\]", everything)
    assert named and {*named[1].split(",")} == extras.keys() - {"all", "demo", "openvino"}


def test_published_weights_are_in_the_wheel_and_small() -> None:
    included = dict(PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"])
    assert included.pop("conf") == "hybrid_vit/conf"
    assert included == {f"outputs/published/{name}": f"hybrid_vit/published/{name}" for name in IN_THE_WHEEL}
    published = [ROOT / name for name in included]
    assert all((directory / "model.safetensors").is_file() for directory in published)
    assert sum(file.stat().st_size for directory in published for file in directory.iterdir()) < 20e6


def test_every_command_has_a_script() -> None:
    commands = {path.stem for path in Path(hybrid_vit.__file__).parent.glob("*.py")} - {"__init__"}
    assert PROJECT["scripts"] == {f"hybrid-vit-{name}": f"hybrid_vit.{name}:main" for name in commands}
