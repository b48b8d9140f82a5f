"""Command: publish trained runs with a model card. `python -m hybrid_vit.publish DIR... name=NAME`."""

import sys
from pathlib import Path

from hybrid_vit.cli.command import gather_runs, run_command
from hybrid_vit.config.compose import Spec
from hybrid_vit.config.saved import load_run_config
from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.files import read_json
from hybrid_vit.utils.paths import PUBLISHED, check_vacant, complete, find_run

COPIED = ("metrics.csv", "augmented.png")
MAY_DIFFER = ("seed", "name", "tags", "logger", "resume", "checkpoint_minutes", "verbose")
COST = 0.05  # points of test top-1 that half precision may cost


def main() -> None:
    run_command("publish", publish, sys.argv[1:], read=gather_runs, also=publishable)


def publishable(spec: Spec, directory: Path, multirun: bool) -> None:
    """All runs are done, were scored on the whole test set, and differ in their seeds alone; the name is free."""
    from hybrid_vit.deploy.card import check_scored

    if not spec["runs"]:
        raise UserError("no run was given: python -m hybrid_vit.publish DIR... name=NAME")
    runs = [find_run(run) for run in spec["runs"]]
    for run in runs:
        check_scored(run)
    first = compared(runs[0])
    for run in runs:
        if (other := compared(run)) != first:
            keys = [key for key in first if other.get(key) != first[key]]
            raise UserError(f"{run} is of another configuration than {runs[0]} ({', '.join(keys)}); give seeds of one")
    for place in (directory, PUBLISHED / spec["name"]):  # a name means the run there before one of this folder
        check_vacant(place)
    seeds = [read_json(run / "summary.json")["seed"] for run in runs]
    if len({*seeds}) < len(seeds):
        raise UserError(f"the runs have the seeds {seeds}; give each seed once")


def compared(run: Path) -> Spec:
    """The settings in which published runs agree, and whether and when they were lengthened."""
    settings = {key: value for key, value in load_run_config(run).items() if key not in MAY_DIFFER}
    return settings | {"lengthened": read_json(run / "summary.json").get("lengthened")}


def publish(spec: Spec, directory: Path) -> float:
    """Write weights, description, scores, pictures and README.md of the runs into `directory`; returns test top-1."""
    from hybrid_vit.data.module import changes_of_test_set  # here, with torch: --help need not wait
    from hybrid_vit.deploy.publishing import publish_weights, write_card

    runs = [find_run(run) for run in spec["runs"]]
    tested = [read_json(run / "model.json").get("fingerprint") for run in runs]
    for run, other in zip(runs, tested, strict=True):
        if found := changes_of_test_set(tested[0], other):
            raise UserError(
                f"{run} was scored on another test set than {runs[0]} ({', '.join(found)}); publish it alone"
            )
    with complete(directory):
        published = publish_weights(runs[0], directory, spec["data"], spec["accelerator"], cost=COST)
        for name in COPIED:
            if (runs[0] / name).is_file():
                (directory / name).write_bytes((runs[0] / name).read_bytes())
        write_card(spec["name"], runs, directory, published, load_run_config(runs[0]))
    print(f"{published.top1:.2f} % of {published.images:,} test images; the model card: {directory / 'README.md'}")
    return published.top1


if __name__ == "__main__":
    main()
