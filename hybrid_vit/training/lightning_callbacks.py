"""Lightning's own callbacks that a configuration asks for: early stopping, and those that `callbacks` names."""

import inspect
from collections.abc import Sequence
from importlib.util import find_spec

from lightning.pytorch import Callback, callbacks
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.callbacks import EarlyStopping as Stopping

from hybrid_vit.config.schema import EarlyStopping
from hybrid_vit.utils.errors import UserError


def early_stopping(settings: EarlyStopping, scored: bool, num_classes: int) -> Stopping | None:
    """What ends a training that gets no better, if `early_stopping.patience` asks for it.

    Args:
        scored: whether there are validation images, which it goes by.

    Raises:
        UserError: there are none, or top-5 of five classes or fewer is asked for.
    """
    if settings.patience is None:
        return None
    if not scored:
        raise UserError(
            "early_stopping.patience needs validation images; "
            "keep some with data.val_size=N and trainer.limit_val_batches=null, or leave it out"
        )
    if settings.monitor.endswith("_top5") and num_classes <= 5:
        raise UserError(
            f"early_stopping.monitor={settings.monitor} is no score for {num_classes} classes; use val_top1"
        )
    mode = "min" if settings.monitor.endswith("_loss") else "max"
    return Stopping(settings.monitor, min_delta=settings.min_delta, patience=settings.patience, mode=mode)


def stopped_early(stopping: Stopping | None) -> str | None:
    """Why it ended the training, if it did."""
    if stopping is None or not stopping.stopped_epoch:
        return None
    best = float(stopping.best_score)
    return f"{stopping.monitor} was not better than {best:.4g} for {stopping.patience} epochs (early_stopping)"


def named(names: Sequence[str], *, cuda: bool) -> list[Callback]:
    """Callbacks of lightning.pytorch.callbacks, by name and made without arguments.

    Args:
        cuda: whether the training is on a CUDA device.

    Raises:
        UserError: there is none of that name, it needs arguments or a package that is not installed, or this package
            does its work in its own way.
    """
    known = available()
    for name in names:
        if name == "EarlyStopping":
            raise UserError("callbacks: EarlyStopping is written early_stopping.patience=10")
        if name not in known:
            raise UserError(
                f"callbacks: {name} cannot be created from its name; use some of {', '.join(sorted(known))}, "
                "or give an object: hybrid_vit.fit(callbacks=[...])"
            )
        package = {"RichModelSummary": "rich", "DeviceStatsMonitor": None if cuda else "psutil"}.get(name)
        if package and find_spec(package) is None:
            raise UserError(f"callbacks: {name} needs {package}: pip install {package}")
    return [known[name]() for name in names]


# They need methods or a trainer of their own, or change what the configuration says; SpikeDetection cannot be resumed.
UNUSABLE = (
    *("BackboneFinetuning", "BaseFinetuning", "BatchSizeFinder", "LearningRateFinder"),
    *("WeightAveraging", "EMAWeightAveraging", "SpikeDetection"),
)


def available() -> dict[str, type[Callback]]:
    """Those that need no arguments; checkpoints and progress bars are this package's own."""
    kinds = {name: getattr(callbacks, name) for name in callbacks.__all__}
    return {
        name: kind
        for name, kind in kinds.items()
        if issubclass(kind, Callback)
        and kind is not Callback
        and name not in UNUSABLE
        and not issubclass(kind, Checkpoint | ProgressBar)
        and not inspect.isabstract(kind)
        and not any(
            argument.default is argument.empty
            and argument.kind in (argument.POSITIONAL_OR_KEYWORD, argument.KEYWORD_ONLY)
            for argument in inspect.signature(kind).parameters.values()
        )
    }
