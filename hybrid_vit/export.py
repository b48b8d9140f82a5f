"""Command: a trained run as a file for other runtimes. `python -m hybrid_vit.export run=NAME target=onnx`."""

import sys
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from hybrid_vit.cli.command import name_run, run_command
from hybrid_vit.config.compose import Spec
from hybrid_vit.config.saved import load_recorded_config
from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.extras import EXPORT, needed
from hybrid_vit.utils.paths import find_run


def main() -> None:
    run_command("export", export, sys.argv[1:], read=name_run, also=exportable)


def exportable(spec: Spec, directory: Path, multirun: bool) -> None:
    """The run and the packages are there, and the settings are of this target; known before a directory is made."""
    target, run = spec["target"], find_run(spec["run"])
    if spec["int8"] and target not in ("onnx", "openvino"):
        raise UserError(f"int8=true is for target=onnx and target=openvino; leave it out for target={target}")
    if spec["push"] and target != "hub":
        raise UserError(f"push={spec['push']} uploads a folder of target=hub; set target=hub, or leave push out")
    for package, extra in EXPORT[target].items():
        needed(package, extra=extra, what=f"target={target}")
    if target == "hub":
        from hybrid_vit.deploy.card import check_scored

        check_scored(run)
        if directory.resolve() == run.resolve():
            raise UserError(f"{directory} is the run itself; choose another directory with hydra.run.dir=PATH")
    if spec["push"]:
        from hybrid_vit.deploy.hub import check_push

        check_push(spec["push"])


def export(spec: Spec, directory: Path) -> None:
    """Write the files of the target into `directory`, and print where they are."""
    if spec["target"] == "space":
        from hybrid_vit.deploy.space import write_space

        if lacking := write_space(spec["run"], directory):
            print(f"{' and '.join(lacking)} missing: open the run once in hybrid_vit.demo, then export it again")
    else:
        export_network(spec, directory)
    print(f"files: {directory}")
    if spec["push"]:
        from hybrid_vit.deploy.hub import push

        print(f"pushed: {push(directory, spec['push'])}")


def export_network(spec: Spec, directory: Path) -> None:
    """Write the network and, from the test set, export.json; print what differs from the run."""
    from hybrid_vit.deploy.graphs import describe, write_graphs
    from hybrid_vit.deploy.parity import compare, draw_images, table
    from hybrid_vit.deploy.publishing import portable
    from hybrid_vit.deploy.scoring import load_data
    from hybrid_vit.deploy.trained import load  # here, with torch: --help and a wrong key need not wait for it
    from hybrid_vit.fast.accelerator import keep_memory
    from hybrid_vit.utils.files import write_json
    from hybrid_vit.utils.provenance import provenance

    keep_memory()
    target, run = spec["target"], find_run(spec["run"])
    trained, preprocess = load(run), spec["preprocess"] or target == "hub"
    comparing = spec["images"] != 0
    # What is compared is a score of the run.
    data = load_data(trained, spec["data"], same=comparing) if spec["int8"] or comparing else None
    if target == "hub":
        from hybrid_vit.deploy.hub import write_hub, write_hub_card

        files = [write_hub(trained, directory)]
        write_hub_card(trained, load_recorded_config(run), directory, spec["push"] or ".")
    else:
        calibration = draw_images(data, spec["calibration"]) if data and spec["int8"] else None
        files = write_graphs(trained, directory, target, preprocess=preprocess, calibration=calibration)
    parity = compare(trained, files, data, preprocess=preprocess, limit=spec["images"]) if data and comparing else {}
    content = {
        "run": str(run),
        "target": target,
        **describe(trained, preprocess=preprocess),
        "files": {file.name: asdict(parity[file.name]) if parity else None for file in files},
        "versions": provenance()["versions"] | {name: import_module(name).__version__ for name in EXPORT[target]},
    }
    write_json(directory / "export.json", portable(content))
    print(f"{table(files, parity)}\n")


if __name__ == "__main__":
    main()
