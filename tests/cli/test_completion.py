"""Tab completion in bash, as docs/guide/installation.md says that it is switched on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# What bash does at a tab: it calls the function with the line so far, and reads COMPREPLY.
SCRIPT = """
eval "$(hybrid-vit-{name} -sc install=bash)"
COMP_LINE="hybrid-vit-{name} {word}" COMP_CWORD=1
COMP_POINT=${{#COMP_LINE}}
hydra_bash_completion
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("name", "word", "offered"),
    [
        ("train", "model=wrn_", ["model=wrn_16_8"]),
        ("bench", "rou", ["rounds="]),
    ],
)
def test_a_console_script_completes_groups_and_keys(name: str, word: str, offered: list[str]) -> None:
    scripts = Path(sys.executable).parent
    env = os.environ | {"PATH": f"{scripts}:{os.environ['PATH']}"}
    script = SCRIPT.format(name=name, word=word)
    ran = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == offered
