"""A run directory: what lies in it, and how a model comes out of it again.

    .hydra/              the configuration, as given and as composed
    metrics.csv          a row an epoch
    train.log
    checkpoints/         last.ckpt, best.ckpt
    model.json           how to build the model, its classes and its preprocessing
    model.safetensors    the weights that were scored
    summary.json         scores, size, speed, machine, versions, commit, seed; state: running, stopped or done
"""

import importlib
import json
import os
from pathlib import Path
from typing import Any


def build(spec: Any) -> Any:
    """Build what a specification describes: a dictionary with `_target_` becomes a call, inside out.

    Raises:
        ValueError: a target outside hybrid_vit (a specification may come from a stranger's file).
    """
    if isinstance(spec, list):
        return [build(item) for item in spec]
    if not isinstance(spec, dict):
        return spec
    arguments = {key: build(value) for key, value in spec.items() if key != "_target_"}
    if "_target_" not in spec:
        return arguments
    module, _, name = spec["_target_"].rpartition(".")
    if module.partition(".")[0] != "hybrid_vit":
        raise ValueError(f"_target_ {spec['_target_']!r} is not part of hybrid_vit; only its own parts are built")
    return getattr(importlib.import_module(module), name)(**arguments)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(partial, path)
