"""The package as it is installed: its version, its types, its extras."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import hybrid_vit

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]


def test_version() -> None:
    assert hybrid_vit.__version__ == version("hybrid-vit") == PROJECT["version"]
    assert f"\nversion: {PROJECT['version']}\n" in (Path(__file__).parents[1] / "CITATION.cff").read_text()


def test_types_are_shipped() -> None:
    assert (Path(hybrid_vit.__file__).parent / "py.typed").is_file()


def test_the_extra_all_is_the_union_of_the_others() -> None:
    extras = PROJECT["optional-dependencies"]
    (everything,) = extras["all"]
    named = re.fullmatch(r"hybrid-vit\[(.+)\]", everything)
    assert named and {*named[1].split(",")} == extras.keys() - {"all"}
