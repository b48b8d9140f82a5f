"""Command: join trained runs into a model that averages their answers. `python -m hybrid_vit.ensemble DIR DIR...`."""

import sys
from pathlib import Path

from hybrid_vit.cli.command import gather_runs, run_command
from hybrid_vit.config.compose import Spec
from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.files import read_json
from hybrid_vit.utils.paths import check_vacant, complete, find_run


def main() -> None:
    run_command("ensemble", ensemble, sys.argv[1:], read=gather_runs, also=joinable)


def joinable(spec: Spec, directory: Path, multirun: bool) -> None:
    """There are several runs with scores, and none in the directory yet."""
    runs = [find_run(run) for run in spec["runs"]]
    if len(runs) < 2:
        raise UserError("an ensemble needs at least two runs: python -m hybrid_vit.ensemble DIR DIR... name=NAME")
    if len({run.resolve() for run in runs}) < len(runs):
        raise UserError("a run was given twice; give each run once")
    for run in runs:
        summary = read_json(run / "summary.json")
        if limited := summary.get("limited"):
            raise UserError(f"{run} is limited to some of its batches ({', '.join(limited)}); leave it out")
        if "test_top1" not in summary.get("scores", {}):
            raise UserError(f"{run} has no score of a whole test set; finish it, or leave it out")
    check_vacant(directory)


def ensemble(spec: Spec, directory: Path) -> float:
    """Write the ensemble into `directory` as a run, scored on the test set; print and return its top-1."""
    from hybrid_vit.deploy.ensembles import join  # here, with torch: --help and a wrong key need not wait for it
    from hybrid_vit.utils.tables import text_table

    with complete(directory):
        rows = join([find_run(run) for run in spec["runs"]], directory, spec["data"], spec["accelerator"])
    print(text_table(("", "test top-1"), [(name, f"{top1:.2f} %") for name, top1 in rows.items()]))
    print(f"\n{directory}")
    return rows["ensemble"]


if __name__ == "__main__":
    main()
