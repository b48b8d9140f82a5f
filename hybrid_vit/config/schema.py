"""The types of the configuration: a key that is not here, or a value of another type, is an error that names it.

Each dataclass is a schema in Hydra's ConfigStore, on which the YAML files of its group in `conf/` build. A field
with limits says them: an interval such as "[0, 1)", which holds for each number of a list, or the choices.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

Allowed = str | tuple[str, ...]
SUITES = ("startup", "input", "loop", "growth", "infer", "export", "step", "zoo")


def limited(allowed: Allowed, default: Any = MISSING) -> Any:
    """A field of which only some values are allowed; None is, where its type says so."""
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"allowed": allowed})
    return field(default=default, metadata={"allowed": allowed})


@dataclass
class Stem:
    """The keys that every stem has."""

    _target_: str = MISSING
    embed_dim: int = MISSING
    img_size: int = MISSING
    grid: int = limited("[1, 4096]", 16)


@dataclass
class ConvStem(Stem):
    _target_: str = "hybrid_vit.models.ConvStem"
    depth: int = limited("[1, 1000]", 3)
    channels: list[int] | None = limited("[1, 16384]", None)
    strides: list[int] | None = limited("[1, 64]", None)
    squeeze_excitation: bool = False


@dataclass
class PatchStem(Stem):
    _target_: str = "hybrid_vit.models.PatchStem"
    patch_size: int | None = limited("[1, 4096]", None)


@dataclass
class TokenizerStem(Stem):
    _target_: str = "hybrid_vit.models.TokenizerStem"


@dataclass
class ResNetStem(Stem):
    _target_: str = "hybrid_vit.models.ResNetStem"
    depth: int = limited("[1, 1000]", 3)
    channels: list[int] | None = limited("[1, 16384]", None)
    squeeze_excitation: bool = False


@dataclass
class MobileStem(Stem):
    _target_: str = "hybrid_vit.models.MobileStem"
    depth: int = limited("[1, 1000]", 3)
    channels: list[int] | None = limited("[1, 16384]", None)
    expand_ratio: int = limited("[1, 64]", 4)


@dataclass
class WhitenedStem(Stem):
    _target_: str = "hybrid_vit.models.WhitenedStem"
    grid: int = limited("[1, 4096]", 7)
    channels: list[int] | None = limited("[1, 16384]", None)
    depths: list[int] | None = limited("[1, 1000]", None)
    patch_size: int = limited("[1, 16]", 2)


@dataclass
class Hybrid:
    _target_: str = "hybrid_vit.models.hybrid_vit"
    stem: Any = MISSING
    num_classes: int | None = "${data.num_classes}"  # type: ignore[assignment]
    embed_dim: int = limited("[1, 16384]", 192)
    depth: int = limited("[1, 1000]", 6)
    num_heads: int | None = limited("[1, 16384]", None)
    mlp_ratio: float = limited("(0, 1024]", 4.0)
    qkv_bias: bool = True
    norm: str = limited(("layer", "rms"), "layer")
    qk_norm: bool = False
    init_values: float | None = limited("(0, inf)", None)
    mlp: str = limited(("linear", "conv"), "linear")
    block: str = limited(("attention", "conv"), "attention")
    rel_pos_bias: bool = False
    reg_tokens: int = limited("[0, 1024]", 0)
    pos_embed: str = limited(("learned", "sincos", "none"), "learned")
    pool: str = limited(("cls", "distilled", "mean", "sequence", "maxmean"), "cls")
    pos_drop_rate: float = limited("[0, 1)", 0.0)
    proj_drop_rate: float = limited("[0, 1)", 0.0)
    attn_drop_rate: float = limited("[0, 1)", 0.0)
    drop_path_rate: float = limited("[0, 1)", 0.0)


@dataclass
class Timm:
    _target_: str = "hybrid_vit.models.timm_model"
    architecture: str = MISSING
    num_classes: int | None = "${data.num_classes}"  # type: ignore[assignment]
    pretrained: bool = False
    drop_rate: float = limited("[0, 1)", 0.0)
    drop_path_rate: float = limited("[0, 1)", 0.0)
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass
class CvT:
    _target_: str = "hybrid_vit.models.CvT"
    num_classes: int | None = "${data.num_classes}"  # type: ignore[assignment]
    pretrained: bool = False
    strides: list[int] = limited("[1, 64]", [1, 2, 2])
    drop_path_rate: float = limited("[0, 1)", 0.1)


@dataclass
class WideResNet:
    _target_: str = "hybrid_vit.models.WideResNet"
    num_classes: int | None = "${data.num_classes}"  # type: ignore[assignment]
    depth: int = limited("[10, 1000]", 16)
    width: int = limited("[1, 1000]", 8)
    drop_rate: float = limited("[0, 1)", 0.0)


@dataclass
class Data:
    source: str = MISSING
    root: str | None = MISSING
    num_classes: int | None = limited("[1, 1e6]", None)
    image_size: int = limited("[1, 4096]", 32)
    mean: list[float] | None = None
    std: list[float] | None = limited("(0, inf)", None)
    val_size: int | None = limited("[0, 1e9]", None)
    fraction: float = limited("(0, 1]", 1.0)
    eval_batch_size: int = limited("[1, 1e6]", 500)
    num_workers: int = limited("[0, 1024]", 2)
    check: bool | None = None
    drop_last: bool = False
    monitor_test: bool = False


# What each optimizer takes besides lr and weight_decay; left out, it is the default of its function.
OPTIMIZER_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "adamw": ("betas", "eps"),
    "sgd": ("momentum", "nesterov"),
    "muon": ("adamw_lr", "momentum", "ns_steps", "betas", "eps"),
}


@dataclass
class Optim:
    name: str = limited((*OPTIMIZER_ARGUMENTS,))
    lr: float = limited("(0, inf)")
    weight_decay: float = limited("[0, inf)")
    decay_all: bool = False
    layer_decay: float | None = limited("(0, 1]", None)
    betas: list[float] | None = limited("[0, 1)", None)
    eps: float | None = limited("(0, inf)", None)
    momentum: float | None = limited("[0, 1)", None)
    nesterov: bool | None = None
    adamw_lr: float | None = limited("(0, inf)", None)
    ns_steps: int | None = limited("[1, 100]", None)
    schedule: str = limited(("cosine", "linear"), "cosine")
    interval: str = limited(("step", "epoch"), "step")
    warmup_epochs: float | None = limited("[0, inf)", None)
    warmup_share: float = limited("[0, 1)", 0.1)
    min_lr: float = limited("[0, inf)", 0.0)
    clip_norm: float | None = limited("(0, inf)", 1.0)


@dataclass
class Accelerator:
    kind: str = limited(("auto", "cpu", "gpu", "mps"), "auto")
    # Not fp16: its scaled gradients would be clipped as they are, since a fused optimizer unscales them itself.
    # Not bf16-true: Lightning converts the averaged weights and the counts of the scores too, and both stand still.
    precision: str | None = limited(("32-true", "bf16-mixed", "64-true", "32", "bf16"), None)
    attention: str | None = limited(("fused", "explicit"), None)
    compile: bool | None = None
    shards: int | None = limited("[1, 4096]", None)


@dataclass
class Logger:
    name: str = limited(("none", "wandb", "tensorboard", "csv"), "none")
    project: str | None = None
    entity: str | None = None
    group: str | None = None
    job_type: str | None = None
    tags: list[str] | None = None
    notes: str | None = None
    mode: str = limited(("auto", "online", "offline", "disabled"), "auto")
    log_model: bool = False


@dataclass
class Average:
    decay: float = limited("[0, 1)", 0.9999)
    warmup: bool = True
    compared: list[float] = limited("(0, 1)", [])


@dataclass
class Distill:
    teacher: str | None = None
    kind: str = limited(("hard", "soft"), "hard")
    alpha: float = limited("(0, 1]", 0.5)
    temperature: float = limited("(0, inf)", 3.0)


@dataclass
class EarlyStopping:
    patience: int | None = limited("[1, 1e6]", None)
    monitor: str = limited(("val_loss", "val_top1", "val_top5"), "val_loss")
    min_delta: float = limited("[0, inf)", 0.0)


@dataclass
class Progressive:
    """Training images are `sizes[i]` pixels wide until the share `until[i]` of the training is over."""

    sizes: list[int] = limited("[1, 4096]", [])
    until: list[float] = limited("(0, 1)", [])


@dataclass
class Trainer:
    max_time: str | None = None
    devices: int = limited("[1, 1024]", 1)
    num_nodes: int = limited("[1, 1024]", 1)
    strategy: str = limited(("auto", "ddp", "ddp_find_unused_parameters_true"), "auto")
    log_every_n_steps: int = limited("[1, 1e9]", 50)
    deterministic: bool | None = None
    benchmark: bool | None = None
    detect_anomaly: bool = False
    profiler: str | None = limited(("simple", "advanced", "pytorch"), None)
    accumulate_grad_batches: int = limited("[1, 1e6]", 1)
    # A whole number of batches, or a share of them below 1; null: all.
    limit_train_batches: int | float | None = limited("(0, 1e9]", None)
    limit_val_batches: int | float | None = limited("[0, 1e9]", None)
    limit_test_batches: int | float | None = limited("(0, 1e9]", None)


@dataclass
class Train:
    name: str = MISSING
    seed: int = limited("[0, 9e18]", 0)
    epochs: int = limited("[1, 1e6]", 200)
    steps: int | None = limited("[1, 1e9]", None)
    budget: str | None = None
    budget_by: str = limited(("steps", "clock"), "steps")
    batch_size: int = limited("[1, 1e6]", 128)
    label_smoothing: float = limited("[0, 1)", 0.05)
    dropout: bool = True  # false: every rate of the model that ends in drop_rate or path_rate is 0
    augment_until: float = limited("[0, 1]", 1.0)
    score: str = limited(("ema", "raw"), "ema")
    ema: Average = field(default_factory=Average)
    distill: Distill = field(default_factory=Distill)
    progressive: Progressive = field(default_factory=Progressive)
    early_stopping: EarlyStopping = field(default_factory=EarlyStopping)
    callbacks: list[str] = field(default_factory=list)
    init_from: str | None = None
    transfer: str = limited(("full", "partial", "linear", "scratch"), "full")
    unfreeze: int | None = limited("[1, 1000]", None)
    checkpoint_minutes: float = limited("(0, inf)", 5.0)
    resume: str | None = None
    tags: list[str] = field(default_factory=list)
    verbose: bool = False
    model: Any = MISSING
    data: Data = MISSING
    augment: dict[str, Any] = MISSING
    optim: Optim = MISSING
    accelerator: Accelerator = MISSING
    logger: Logger = MISSING
    trainer: Trainer = field(default_factory=Trainer)


@dataclass
class EvaluateData:
    root: str | None = None
    num_workers: int | None = limited("[0, 1024]", None)


@dataclass
class Evaluate:
    run: str = MISSING
    tta: bool = False
    data: EvaluateData = field(default_factory=EvaluateData)
    accelerator: Accelerator = MISSING


@dataclass
class Predict:
    run: str = MISSING
    top: int = limited("[1, 1e6]", 5)
    format: str = limited(("table", "json", "csv"), "table")
    fast: bool = False
    batch_size: int = limited("[1, 1e6]", 64)


@dataclass
class DemoData:
    root: str | None = None


@dataclass
class Demo:
    run: str = "fast_4m"
    host: str = "127.0.0.1"
    port: int = limited("[1, 65535]", 7860)
    share: bool = False
    data: DemoData = field(default_factory=DemoData)


@dataclass
class Publish:
    name: str = MISSING
    runs: list[str] = field(default_factory=list)
    data: EvaluateData = field(default_factory=EvaluateData)
    accelerator: Accelerator = MISSING


@dataclass
class Ensemble(Publish):
    """The keys are those of `Publish`."""


@dataclass
class Export:
    run: str = MISSING
    target: str = limited(("onnx", "torch_export", "openvino", "hub", "space"), "onnx")
    preprocess: bool = False
    int8: bool = False
    calibration: int = limited("[1, 1e6]", 512)
    images: int | None = limited("[0, 1e9]", None)
    push: str | None = None
    data: EvaluateData = field(default_factory=EvaluateData)


@dataclass
class Bench:
    suite: str = limited((*SUITES, "all"), "all")
    rounds: int = limited("[1, 1e6]", 5)
    batch_size: int = limited("[1, 1e6]", 128)
    models: Any = None  # a name or a list of names
    accelerator: Accelerator = MISSING


@dataclass
class Arms:
    """What varies in a multirun, instead of Hydra's own sweeper; `cli/jobs.py` reads it.

    `params`: key -> values, all combinations of them; `arms`: a name -> the settings that make it; `only` these arms.
    """

    _target_: str = "hybrid_vit.cli.jobs"
    params: dict[str, str] = field(default_factory=dict)
    arms: dict[str, list[str]] = field(default_factory=dict)
    only: list[str] | None = None


@dataclass
class Search:
    out: str = MISSING
    trials: int = limited("[1, 1e6]", 30)
    sampler: str = limited(("tpe", "nsga2"), "tpe")
    cost: str = limited(("macs", "step_seconds"), "macs")
    train: dict[str, Any] = field(default_factory=dict)
    space: dict[str, Any] = field(default_factory=dict)


@dataclass
class Report:
    runs: list[str] = field(default_factory=list)
    out: str = MISSING
    reference: str | None = None
    pairs: list[Any] = field(default_factory=list)  # [A, B], or a list of such
    metric: str = "test_top1"
    overlays: list[str] = field(default_factory=list)
    title: str = "Comparison of runs"
    note: str | None = None
    command: str | None = None


NAMESAKES = (Train, Evaluate, Predict, Demo, Publish, Ensemble, Export, Bench, Search, Report, Hybrid, Timm, CvT)
SCHEMAS = {
    **{kind.__name__.lower(): kind for kind in (*NAMESAKES, Data, Optim, Accelerator, Logger)},
    "wide_resnet": WideResNet,
    "conv": ConvStem,
    "patch": PatchStem,
    "tokenizer": TokenizerStem,
    "resnet": ResNetStem,
    "mobile": MobileStem,
    "whitened": WhitenedStem,
}

PARTS = {node._target_: node for node in SCHEMAS.values() if hasattr(node, "_target_")}


def constrained(spec: dict[str, Any], kind: type, prefix: str = "") -> Iterator[tuple[str, Any, Allowed]]:
    """The dotted key of each value that is limited, with that value and what is allowed."""
    for part in fields(kind):
        key, value = f"{prefix}{part.name}", spec.get(part.name)
        if isinstance(value, dict):
            inner = PARTS.get(value.get("_target_"), part.type)
            if isinstance(inner, type) and is_dataclass(inner):
                yield from constrained(value, inner, f"{key}.")
        elif value is not None and "allowed" in part.metadata:
            yield key, value, part.metadata["allowed"]


@functools.cache
def register() -> None:
    """Make the schemas known to Hydra, in a group of their own: `/schema/NAME@_here_` in a list of defaults."""
    for name, node in SCHEMAS.items():
        ConfigStore.instance().store(group="schema", name=name, node=node)
    ConfigStore.instance().store(group="hydra/sweeper", name="arms", node=Arms)
