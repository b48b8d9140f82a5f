"""Suite startup: how long a command takes to answer before there is any work, above `import hydra`."""

import subprocess
import sys

from hybrid_vit.benchmarks.table import Row, Table
from hybrid_vit.benchmarks.timing import Case, Span, Turn, compare
from hybrid_vit.benchmarks.work import repeat

TRAIN = ("-m", "hybrid_vit.train")
BASE = "import hydra"
COMMANDS = {
    BASE: ("-c", "import hydra"),
    "--help": (*TRAIN, "--help"),
    "a wrong key": (*TRAIN, "model.dept=4"),
    "--cfg job": (*TRAIN, "--cfg", "job"),
}


def run(*, rounds: int) -> Table:
    """A row for each command."""
    seconds = compare([Case(name, command, {"words": words}) for name, words in COMMANDS.items()], rounds=rounds)
    rows: list[Row] = []
    for name, words in COMMANDS.items():
        above = [took - base for took, base in zip(seconds[name], seconds[BASE], strict=True)]
        rows.append(
            {
                "command": name,
                "seconds": Span.of(seconds[name]),
                "above import hydra": None if name == BASE else Span.of(above),
                "imports torch": "yes" if imports_torch(words) else "no",
            }
        )
    return Table("startup", "time until a command answers", rows)


def command(turn: Turn, words: tuple[str, ...]) -> None:
    """Case: the command in a Python of its own."""
    repeat(turn, lambda: subprocess.run([sys.executable, *words], capture_output=True, check=False))


def imports_torch(words: tuple[str, ...]) -> bool:
    """Whether a command imports torch before it answers."""
    ran = subprocess.run([sys.executable, "-X", "importtime", *words], capture_output=True, text=True, check=False)
    return any(line.endswith("| torch") for line in ran.stderr.splitlines())
