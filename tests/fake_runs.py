"""Run directories without a training: the files that a finished run leaves, with the scores that a test wants."""

import json
from pathlib import Path
from typing import Any

CONFIG: dict[str, Any] = {
    "name": "tiny",
    "seed": 0,
    "epochs": 3,
    "batch_size": 100,
    "model": {
        "_target_": "hybrid_vit.models.hybrid_vit",
        "stem": {"_target_": "hybrid_vit.models.ConvStem", "embed_dim": "${..embed_dim}", "img_size": 32, "depth": 3},
        "embed_dim": 96,
        "depth": 4,
    },
    "data": {"source": "digits", "root": None, "image_size": 32, "val_size": 100},
    "augment": {"flip": None},
    "optim": {"name": "adamw", "lr": 0.001},
    "accelerator": {"kind": "auto"},
    "logger": {"name": "none"},
}
NAMES = ("apple", "beetle", "nan", "<b>cup</b>")


def write(
    directory: Path,
    *,
    seed: int = 0,
    top1: float = 50.0,
    settings: dict[str, Any] | None = None,
    summary: dict[str, Any] | None = None,
    epochs: int = 3,
    watched: str = "val",
) -> Path:
    """A finished run.

    Args:
        directory: made, with its parents.
        seed, top1: its seed, and its test top-1 in per cent.
        settings: dotted keys of its configuration that are not those of CONFIG.
        summary: keys of its summary that are not the usual ones; None takes one away.
        epochs: rows of metrics.csv.
        watched: what was scored after every epoch, "val" or "published_test".
    """
    config = json.loads(json.dumps(CONFIG)) | {"seed": seed, "epochs": epochs}
    for key, value in (settings or {}).items():
        *parts, last = key.split(".")
        node = config
        for part in parts:
            node = node[part]
        node[last] = value
    (directory / ".hydra").mkdir(parents=True)
    (directory / ".hydra" / "config.yaml").write_text(json.dumps(config))  # is YAML, too
    facts = {
        "name": config["name"],
        "state": "done",
        "seed": seed,
        "steps": 10 * epochs,
        "epochs": epochs,
        "parameters": 10_000 * config["model"].get("depth", 1),
        "macs": 1_000_000 * config["model"].get("depth", 1),
        "images": {"train": 1000, "test": 400, "val": 100},
        "protocol": "1000 training images, 100 validation images; test scored on the last EMA weights",
        "device": "a CPU",
        "accelerator": {"precision": "32-true"},
        "threads": 1,
        "commit": "a" * 40,
        "versions": {"torch": "2.14.1"},
        "scores": {"val_top1": top1 + 1, "val_loss": 2.0, "test_top1": top1, "test_loss": 4 - top1 / 25},
        "seconds": 60.0 + seed,
        "images_per_second": 500.0,
    } | (summary or {})
    (directory / "summary.json").write_text(json.dumps({key: fact for key, fact in facts.items() if fact is not None}))
    rows = [f"epoch,step,{watched}_top1,{watched}_loss,train_top1,train_loss,lr,images"]
    for epoch in range(epochs):
        part = (epoch + 1) / epochs
        step = 10 * min(epoch + 1, float(facts["epochs"] or epochs))
        rows.append(f"{epoch},{step},{top1 * part},{4 - part},{top1 * part - 5},{4 - part},0.001,1000")
    (directory / "metrics.csv").write_text("\n".join(rows) + "\n")
    classes = [f"{name},100,{top1 + 3 * (i - 1.5)},apple" for i, name in enumerate(NAMES)]
    (directory / "per_class.csv").write_text("\n".join(["class,images,top1,taken_for", *classes]) + "\n")
    return directory


def sweep(folder: Path, key: str, scores: dict[Any, list[float]]) -> Path:
    """A folder of runs: for each value of a setting, a run for each score, of the seeds 0, 1, 2..."""
    for value, each in scores.items():
        for seed, top1 in enumerate(each):
            write(folder / f"{value}_s{seed}", seed=seed, top1=top1, settings={key: value})
    return folder
