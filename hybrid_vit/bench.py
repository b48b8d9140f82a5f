"""Command: measure speed on this machine, side by side with others. `python -m hybrid_vit.bench suite=step`."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hybrid_vit.cli.command import run_command
from hybrid_vit.config.compose import Spec, compose_config, options, resolve
from hybrid_vit.config.schema import SUITES


def main() -> None:
    run_command("bench", bench, sys.argv[1:], also=known)


def known(spec: Spec, directory: Path, multirun: bool) -> None:
    """The models that are named exist; known before a directory is made."""
    if spec["models"]:
        models(spec)


def bench(spec: Spec, directory: Path) -> None:
    """Run the suites, print their tables, write bench.json and a CSV and a picture of each into `directory`."""
    from hybrid_vit.benchmarks.plots import draw
    from hybrid_vit.benchmarks.turns import Turns
    from hybrid_vit.benchmarks.work import environment
    from hybrid_vit.utils.files import write_csv, write_json

    about = environment(spec["accelerator"], spec["rounds"])
    print(", ".join(f"{key} {value}" for key, value in about.items() if isinstance(value, str | int | float)))
    tables: list[dict[str, Any]] = []
    turns = Turns(directory)
    print(f"each measurement: {turns.path}", file=sys.stderr)
    for suite in SUITES if spec["suite"] == "all" else (spec["suite"],):
        try:
            with turns.kept(suite):
                table = measure(suite, spec)
            tables.append(asdict(table))
        finally:  # what has been measured is worth keeping when the rest fails or is interrupted
            write_json(directory / "bench.json", {"environment": about, "tables": tables, "turns": turns.rows})
        print(f"\n{table.text()}", flush=True)
        draw(table, directory / f"{suite}.png")
        write_csv(directory / f"{suite}.csv", table.flat())
    print(f"\nnumbers: {directory / 'bench.json'}")


def measure(suite: str, spec: Spec) -> Any:
    """The table of one suite."""
    from hybrid_vit.benchmarks import export, growth, infer, input, loop, startup, step, zoo

    common = {"rounds": spec["rounds"]}
    machine = {"accelerator": spec["accelerator"]}
    batch = {"batch_size": spec["batch_size"]}
    match suite:
        case "step":
            return step.run(**common, **machine, **batch)
        case "growth":
            return growth.run(**common, **machine)
        case "infer":
            return infer.run(**common, **machine)
        case "export":
            return export.run(**common, **machine, models=[*models(spec)] if spec["models"] else export.MODELS)
        case "input":
            return input.run(**common, **batch, recipes={name: recipe(name) for name in ("document", "run_192")})
        case "loop":
            return loop.run(**common, **machine, **batch)
        case "startup":
            return startup.run(**common)
        case "zoo":
            return zoo.run(**common, **machine, **batch, models=models(spec))
    raise AssertionError(suite)


def models(spec: Spec) -> dict[str, Spec]:
    """What the suites zoo and export measure: name -> the model of `conf/model/NAME.yaml`, for CIFAR-100."""
    names = spec["models"] if isinstance(spec["models"], list | None) else [spec["models"]]
    return {name: resolve(compose_config([f"model={name}"]))["model"] for name in names or options("model")}


def recipe(name: str) -> Spec:
    """The augmentation of `conf/augment/NAME.yaml`."""
    return resolve(compose_config([f"augment={name}"]))["augment"]


if __name__ == "__main__":
    main()
