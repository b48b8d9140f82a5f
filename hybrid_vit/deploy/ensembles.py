"""Ensembles: run directories -> one directory that is loaded, scored, and learned from like a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hybrid_vit.data.module import changes_of_test_set
from hybrid_vit.deploy.scoring import load_data, score_test_set
from hybrid_vit.deploy.trained import load, read_description, splits
from hybrid_vit.deploy.weights import write_weights
from hybrid_vit.evaluation.scoring import count_macs
from hybrid_vit.fast.accelerator import choose, keep_memory
from hybrid_vit.models import Ensemble
from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.files import write_json

COMMON = ("class_names", "image_size", "mean", "std")


def join(runs: Sequence[Path], directory: Path, data: dict[str, Any], accelerator: dict[str, Any]) -> dict[str, float]:
    """Write model.json, model.safetensors and summary.json; returns top-1 of each run and of "ensemble", in per cent.

    Args:
        data, accelerator: settings that replace the runs' own.

    Raises:
        UserError: the runs have other classes or images than the first, or the test set is not theirs any more.
    """
    descriptions = [read_description(run) for run in runs]
    for run, description in zip(runs, descriptions, strict=True):
        different = [key for key in COMMON if description[key] != descriptions[0][key]]
        different += changes_of_test_set(descriptions[0].get("fingerprint"), description.get("fingerprint"))
        if different:
            raise UserError(f"{run} and {runs[0]} differ in {', '.join(different)}; combine runs of the same data")
    keep_memory()
    choice = choose(**accelerator)
    members = [load(run) for run in runs]
    images = load_data(members[0], data, same=True)
    net = Ensemble([member.net for member in members])
    parameters = sum(parameter.numel() for parameter in net.parameters())
    macs = count_macs(net, members[0].image_size)
    model = {"_target_": "hybrid_vit.models.Ensemble", "members": [each["model"] for each in descriptions]}
    write_weights(directory, net.state_dict())
    # One member's temperature is not that of the mean, and the validation images of one are training images of others.
    own = {"model": model, "temperature": 1.0, "splits": [split for each in descriptions for split in splits(each)]}
    write_json(directory / "model.json", descriptions[0] | own)
    summary = {"name": directory.name, "members": [str(run) for run in runs], "parameters": parameters, "macs": macs}
    if sources := [source for member in members if (source := member.summary.get("init_from"))]:
        known = any(source.get("may_know_validation", True) for source in sources)
        summary["init_from"] = {"may_know_validation": known}
    write_json(directory / "summary.json", summary | {"state": "running"})
    joined = load(directory)
    choice.tune(joined.net)
    names = [run.resolve().name for run in runs]
    names = [name if names.count(name) == 1 else str(run) for name, run in zip(names, runs, strict=True)]
    rows = {name: member.summary["scores"]["test_top1"] for name, member in zip(names, members, strict=True)}
    scores, _ = score_test_set(joined.net, images, choice)
    scores.pop("images")
    scores = {f"test_{key}": value for key, value in scores.items()}
    write_json(directory / "summary.json", summary | {"state": "done", "scores": scores})
    return rows | {"ensemble": scores["test_top1"]}
