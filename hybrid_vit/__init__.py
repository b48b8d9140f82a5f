"""Compose, train and compare small hybrid CNN-transformers for image classification.

import hybrid_vit
run = hybrid_vit.fit(model="hybrid_tiny", data="digits", epochs=3)   # train, as the command does
trained = hybrid_vit.load("outputs/runs/NAME")                       # a trained network, its preprocessing and classes
trained.predict("picture.png").label
net = hybrid_vit.build_model("hybrid_192", num_classes=10)           # a fresh network
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from hybrid_vit.deploy.trained import Trained

__all__ = ["__version__", "build_model", "fit", "load"]

try:
    __version__ = version("hybrid-vit")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "unknown"


def fit(*, callbacks: Sequence[Any] = (), **settings: Any) -> Trained:
    """Train a run and load it: the same as `python -m hybrid_vit.train`, with the same keys.

    Args:
        callbacks: Lightning's, as objects, or by name as in the command.
        settings: the command's, such as model="hybrid_tiny", epochs=3 or optim={"lr": 1e-3}; a key with a dot goes into
            a dictionary: **{"optim.lr": 1e-3}.

    Returns:
        The trained network, with `predict`, `summary` and the `directory` of the run.

    Raises:
        UserError: an invalid setting; the message says what to write instead.
        hybrid_vit.training.callbacks.Stopped: by Ctrl-C or `trainer.max_time`; continue with fit(resume=DIRECTORY).
    """
    from hybrid_vit.cli import runs

    names = [callback for callback in callbacks if isinstance(callback, str)]
    named = {"callbacks": names} if names else {}
    objects = [callback for callback in callbacks if not isinstance(callback, str)]
    return load(runs.fit(_settings("", settings | named), objects))


def build_model(name: str = "hybrid_192", **overrides: Any) -> nn.Module:
    """The network that `conf/model/NAME.yaml` describes, freshly initialised: (B, 3, H, W) -> (B, num_classes) logits.

    Args:
        name: a file in conf/model, such as "hybrid_192".
        overrides: values of its keys, such as depth=4 or num_classes=10; for the stem's a dictionary: stem={"depth": 2}

    Raises:
        UserError: an unknown name or key, or values that contradict each other; the message says what to write instead.
    """
    from hybrid_vit.config.build import build
    from hybrid_vit.config.compose import compose_config, resolve
    from hybrid_vit.config.validation import check_values

    spec = resolve(compose_config([f"model={name}", *_settings("model.", overrides)]))
    check_values(spec)
    return build(spec["model"])


def load(run: str | Path, *, fast: bool = False) -> Trained:
    """The trained model of a run directory, or of a run in outputs/published by its name, in eval mode.

    It has `preprocess(pictures)`, `class_names` and `summary`; calling it gives logits.

    Args:
        run: its path or name.
        fast: for inference only, on this machine's device and in the precision that is fast there: where that is bf16,
            logits are good to two or three digits.

    Raises:
        UserError: no such run, a run without weights yet, or weights of another model.
    """
    from hybrid_vit.deploy.trained import load

    return load(run, fast=fast)


NOT_TEXTS = ("null", "true", "false", "nan", "inf")  # to Hydra, unless quoted


def _settings(prefix: str, values: dict[str, Any]) -> list[str]:
    """{"depth": 4, "stem": {"grid": 8}} with the prefix "model." -> ["model.depth=4", "model.stem.grid=8"]"""
    found = []
    for key, value in values.items():
        # stem@model.stem and data.image_size say their place themselves
        name = key if "@" in key or key.startswith("data.") else f"{prefix}{key}"
        # Another transform has other arguments, so it is given as a whole.
        whole = not isinstance(value, dict) or (name.startswith("augment.") and "_target_" in value)
        found += [f"{name}={_written(value)}"] if whole else _settings(f"{name}.", value)
    return found


def _written(value: Any) -> str:
    """A value as it is written on the command line."""
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{_written(each)}' for key, each in value.items())}}}"
    if isinstance(value, str | Path):
        from hybrid_vit.config.compose import quote

        plain = re.fullmatch(r"[A-Za-z_][\w./-]*", str(value), re.ASCII) and str(value).lower() not in NOT_TEXTS
        return str(value) if plain else quote(value)
    return json.dumps(value, ensure_ascii=False, default=_of_json)


def _of_json(value: Any) -> Any:
    """Numbers of numpy or torch as those of Python; anything else, such as a path, as text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
