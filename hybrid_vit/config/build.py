"""What a configuration describes, built: a dictionary with `_target_` -> the model or transform that it names."""

import inspect
from collections.abc import Callable
from typing import Any

from hybrid_vit import augment, models
from hybrid_vit.config import schema
from hybrid_vit.utils.errors import UserError

TRANSFORMS = (
    *("RandomCrop", "RandomResizedCrop", "RandomHorizontalFlip", "ColorJitter", "RandomErasing"),
    *("AutoAugment", "RandAugment", "TrivialAugment", "Mix", "Mixup", "CutMix"),
)
# Everything that a configuration may name as `_target_`, and nothing else.
PARTS: dict[str, Callable[..., Any]] = {
    **{target: getattr(models, target.removeprefix("hybrid_vit.models.")) for target in schema.PARTS},
    "hybrid_vit.models.Ensemble": models.Ensemble,  # in the description of a run, not in conf/
    **{f"hybrid_vit.augment.{name}": getattr(augment, name) for name in TRANSFORMS},
}


def build(spec: Any) -> Any:
    """Build what a specification describes: a dictionary with `_target_` becomes a call, inside out.

    Raises:
        UserError: a target that is not in PARTS (a specification may come from a stranger's file), or arguments that
            it does not take.
    """
    if isinstance(spec, list):
        return [build(item) for item in spec]
    if not isinstance(spec, dict):
        return spec
    arguments = {key: build(value) for key, value in spec.items() if key != "_target_"}
    if "_target_" not in spec:
        return arguments
    target = spec["_target_"]
    if target not in PARTS:
        raise UserError(f"_target_ {target!r} is none of the models and transforms that a configuration may name")
    part, name = PARTS[target], target.rpartition(".")[2]
    try:
        inspect.signature(part).bind(**arguments)
    except TypeError as error:
        raise UserError(f"{name}: {error}; it takes {', '.join(inspect.signature(part).parameters)}") from None
    try:
        return part(**arguments)
    except TypeError as error:
        if part.__module__.startswith("hybrid_vit.augment"):
            raise UserError(f"{name}: a value is of the wrong type ({error})") from None
        raise


def untrained(model: Any) -> Any:
    """The specification of a model without a library's trained weights in any of its parts: its own are at hand."""
    if isinstance(model, list):
        return [untrained(part) for part in model]
    if not isinstance(model, dict):
        return model
    return {key: False if key == "pretrained" else untrained(value) for key, value in model.items()}
