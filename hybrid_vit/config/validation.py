"""What is wrong with a plain configuration, as far as that is known without torch -> one sentence, or nothing."""

import inspect
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hybrid_vit.config import schema
from hybrid_vit.config.compose import Spec, get_value, options, suggest
from hybrid_vit.utils import limits
from hybrid_vit.utils.durations import seconds
from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.extras import needed
from hybrid_vit.utils.paths import expanded, find_run

CHANNELS = 3
TIMES = ("budget", "trainer.max_time")
# How the stems that are known here derive what is left out.
STEMS: dict[str, Callable[..., Any]] = {
    schema.ConvStem._target_: limits.plan,
    schema.ResNetStem._target_: limits.plan,
    schema.MobileStem._target_: limits.plan,
    schema.TokenizerStem._target_: limits.halvings,
    schema.PatchStem._target_: limits.patches,
    schema.WhitenedStem._target_: limits.groups,
}


def check_values(spec: Spec, name: str = "train") -> None:
    """Values that no run can have, as far as that is known without torch.

    Args:
        spec: a plain configuration.
        name: of its file in `conf/`.

    Raises:
        UserError: naming the key and what it may be.
    """
    for key, value, allowed in schema.constrained(spec, schema.SCHEMAS[name]):
        check_value(key, value, allowed)
    for key in TIMES:
        if (value := get_value(spec, key)) is not None:
            try:
                seconds(value)
            except UserError as error:
                raise UserError(f"{key}: {error}") from None


def check_together(spec: Spec, name: str = "train") -> None:
    """Values that do not go with each other, or with this machine; each of them is right alone.

    Raises:
        UserError: what contradicts what, and the remedy.
    """
    if name == "train":
        check_model(spec)
        check_training(spec)
        check_data(spec["data"])
    if "accelerator" in spec:
        check_machine(spec["accelerator"]["kind"], get_value(spec, "trainer.devices") or 1)


def check_value(key: str, value: Any, allowed: schema.Allowed) -> None:
    """A value outside an interval such as "[0, 1)", or that is none of the choices, is an error."""
    if isinstance(allowed, tuple):
        if value not in allowed:
            hint = suggest(str(value), list(allowed))
            raise UserError(f"{key}={value} is unknown; {hint}{' ' * bool(hint)}{key} is one of {', '.join(allowed)}")
        return
    low, high = map(float, allowed[1:-1].split(","))
    for number in value if isinstance(value, list) else [value]:
        above = number > low or (allowed[0] == "[" and number == low)
        below = number < high or (allowed[-1] == "]" and number == high)
        if above and below:
            continue
        what = f"lie in {allowed}"
        if not above and high > 1 and low <= 1:
            what = "not be negative" if low == 0 and allowed[0] == "[" else "be positive"
        raise UserError(f"{key}={value} must {what}")


def check_model(spec: Spec) -> None:
    """Sizes that do not go together are an error."""
    model = spec["model"]
    stem = model.get("stem")
    if isinstance(stem, dict) and stem.get("_target_") in STEMS:
        plan = STEMS[stem["_target_"]]
        plan(**{key: stem[key] for key in inspect.signature(plan).parameters if key in stem})
    if model.get("_target_") != schema.Hybrid._target_:
        return
    if model["block"] == "attention":
        limits.derive_heads(model["embed_dim"], model["num_heads"])
    if isinstance(stem, dict) and stem["embed_dim"] != model["embed_dim"]:
        here = f"model.stem.embed_dim={stem['embed_dim']} is not model.embed_dim={model['embed_dim']}"
        raise UserError(f"{here}; set both to one value")


def check_training(spec: Spec) -> None:
    """Settings of a training that do not go together, or parts of the augmentation that are none, are an error."""
    optim = spec["optim"]
    epochs = spec["epochs"] if spec["steps"] is None and spec["budget"] is None else math.inf
    warmup = limits.warmup(optim["warmup_epochs"], epochs, optim["warmup_share"])
    limits.check_schedule(lr=optim["lr"], epochs=epochs, warmup_epochs=warmup, min_lr=optim["min_lr"])
    name = optim["name"]
    for key in {key for others in schema.OPTIMIZER_ARGUMENTS.values() for key in others}:
        if optim[key] is not None and key not in schema.OPTIMIZER_ARGUMENTS[name]:
            own = ", ".join(f"optim.{other}" for other in schema.OPTIMIZER_ARGUMENTS[name])
            raise UserError(f"optim.{key} is not an argument of {name}, which takes {own}; leave it out")
    sizes, until = spec["progressive"]["sizes"], spec["progressive"]["until"]
    if len(sizes) != len(until) or sorted(set(until)) != until:
        raise UserError(
            f"progressive.until {until} must be ascending, with one end for each of progressive.sizes {sizes}; "
            "e.g. progressive.sizes=[20,24] progressive.until=[0.15,0.5]"
        )
    if optim["betas"] is not None and len(optim["betas"]) != 2:
        raise UserError(f"optim.betas={optim['betas']} must be two numbers, e.g. optim.betas=[0.9,0.999]")
    if spec["logger"]["name"] == "tensorboard":
        needed("tensorboard", extra="tensorboard", what="logger=tensorboard")
    logged = [name for name in spec["callbacks"] if name in ("DeviceStatsMonitor", "LearningRateMonitor")]
    if logged and spec["logger"]["name"] == "none":
        raise UserError(f"callbacks={','.join(logged)} needs a logger to write to; add one, e.g. logger=csv")
    for key, limit in spec["trainer"].items():
        if key.startswith("limit_") and isinstance(limit, float) and limit > 1:
            raise UserError(f"trainer.{key}={limit} must be a whole number of batches, or a share of them up to 1.0")
    if spec["budget_by"] == "clock" and spec["budget"] is None:
        raise UserError("budget_by=clock needs a budget; add one, e.g. budget=30m")
    if spec["score"] == "ema" and not spec["ema"]["decay"]:
        raise UserError("score=ema is not possible; use score=raw, or ema with an ema.decay above 0")
    for key in ("init_from", "distill.teacher"):
        if (run := get_value(spec, key)) is not None:
            find_run(run)
    check_transfer(spec)
    if spec["model"].get("pool") == "distilled" and spec["distill"]["teacher"] is None:
        raise UserError("model.pool=distilled learns from a teacher; give distill.teacher=RUN_DIR, a trained run")
    for key, part in spec["augment"].items():
        if part is not None and not (isinstance(part, dict) and "_target_" in part):
            raise UserError(
                f"augment.{key}={part} is no part of an augmentation; "
                f"use augment.{key}=null for none, or one of augment={', '.join(options('augment'))}"
            )


def check_transfer(spec: Spec) -> None:
    """A network of which a part does not learn needs trained weights; `unfreeze` says how much of it learns."""
    transfer, unfreeze = spec["transfer"], spec["unfreeze"]
    if transfer in ("linear", "partial") and not (spec["init_from"] or spec["model"].get("pretrained")):
        raise UserError(f"transfer={transfer} needs trained weights; give init_from=RUN, or use transfer=full")
    if transfer == "scratch" and not spec["init_from"]:
        raise UserError("transfer=scratch trains the model of init_from without its weights; give init_from=RUN")
    if (transfer == "partial") != (unfreeze is not None):
        raise UserError(
            "transfer=partial needs unfreeze=K, and unfreeze=K needs transfer=partial: the classifier and the K layers "
            "before it learn, e.g. transfer=partial unfreeze=1"
        )


def check_data(data: Spec) -> None:
    """Numbers that are not one for each channel, or a root where no data can be, are an error."""
    for key in ("mean", "std"):
        if data[key] is not None and len(data[key]) != CHANNELS:
            raise UserError(f"data.{key}={data[key]} must be {CHANNELS} numbers, one for each channel")
    if data["root"] is None:
        if data["source"] != "digits":
            raise UserError(f"data={data['source']} needs a directory; set data.root=PATH")
        return
    root = expanded(data["root"])
    if data["source"] == "folder" and not root.exists():
        raise UserError(f"the image folder {root} does not exist; set data.root to one that does")
    suffix = {"folder": ".csv", "medmnist": ".npz"}.get(data["source"])
    if root.exists() and not root.is_dir() and root.suffix.lower() != suffix:
        or_file = f", or a file {suffix}" if suffix else ""
        raise UserError(f"data.root={root} is a file; give the folder that holds the data{or_file}")


def check_machine(kind: str, devices: int) -> None:
    """An accelerator that certainly is not here, or more processes than cores, is an error."""
    linux = sys.platform == "linux"
    gpu = not linux or any(next(Path("/dev").glob(name), None) for name in ("nvidia*", "kfd", "dxg"))
    if (kind == "gpu" and not gpu) or (kind == "mps" and linux):
        raise UserError(f"accelerator={kind} is not available here; use accelerator=cpu, or auto, which chooses")
    cores = os.cpu_count() or 1
    if devices > cores and (kind == "cpu" or (kind == "auto" and not gpu)):
        raise UserError(
            f"trainer.devices={devices} are more processes than the {cores} cores here; use at most {cores}"
        )
