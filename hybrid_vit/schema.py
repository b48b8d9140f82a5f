"""The types of the configuration: a key that is not here, or a value of another type, is an error that names it.

Each dataclass is a schema in Hydra's ConfigStore, on which the YAML files of its group in `conf/` build.
"""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING


@dataclass
class ConvStem:
    _target_: str = "hybrid_vit.models.ConvStem"
    embed_dim: int = MISSING
    img_size: int = MISSING
    grid: int = 16
    depth: int = 3
    channels: list[int] | None = None
    strides: list[int] | None = None
    squeeze_excitation: bool = False


@dataclass
class PatchStem:
    _target_: str = "hybrid_vit.models.PatchStem"
    embed_dim: int = MISSING
    img_size: int = MISSING
    grid: int = 16
    patch_size: int | None = None


@dataclass
class TokenizerStem:
    _target_: str = "hybrid_vit.models.TokenizerStem"
    embed_dim: int = MISSING
    img_size: int = MISSING
    grid: int = 16


@dataclass
class ResNetStem:
    _target_: str = "hybrid_vit.models.ResNetStem"
    embed_dim: int = MISSING
    img_size: int = MISSING
    grid: int = 16
    depth: int = 3
    channels: list[int] | None = None
    squeeze_excitation: bool = False


@dataclass
class MobileStem:
    _target_: str = "hybrid_vit.models.MobileStem"
    embed_dim: int = MISSING
    img_size: int = MISSING
    grid: int = 16
    depth: int = 3
    channels: list[int] | None = None
    expand_ratio: int = 4


@dataclass
class Hybrid:
    _target_: str = "hybrid_vit.models.hybrid_vit"
    stem: Any = MISSING
    num_classes: int | None = "${data.num_classes}"  # type: ignore[assignment]
    embed_dim: int = 192
    depth: int = 6
    num_heads: int | None = None
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    norm: str = "layer"
    qk_norm: bool = False
    init_values: float | None = None
    mlp: str = "linear"
    rel_pos_bias: bool = False
    reg_tokens: int = 0
    pos_embed: str = "learned"
    pool: str = "cls"
    pos_drop_rate: float = 0.1
    proj_drop_rate: float = 0.1
    attn_drop_rate: float = 0.0
    drop_path_rate: float = 0.1


@dataclass
class Timm:
    _target_: str = "hybrid_vit.models.timm_model"
    architecture: str = MISSING
    num_classes: int | None = "${data.num_classes}"  # type: ignore[assignment]
    pretrained: bool = False
    drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass
class CvT:
    _target_: str = "hybrid_vit.models.CvT"
    num_classes: int | None = "${data.num_classes}"  # type: ignore[assignment]
    pretrained: bool = False
    strides: list[int] = field(default_factory=lambda: [1, 2, 2])
    drop_path_rate: float = 0.1


@dataclass
class WideResNet:
    _target_: str = "hybrid_vit.models.WideResNet"
    num_classes: int | None = "${data.num_classes}"  # type: ignore[assignment]
    depth: int = 16
    width: int = 8
    drop_rate: float = 0.0


@dataclass
class Data:
    source: str = MISSING
    root: str | None = MISSING
    num_classes: int | None = None
    image_size: int = 32
    mean: list[float] | None = None
    std: list[float] | None = None
    val_size: int | None = None
    fraction: float = 1.0
    eval_batch_size: int = 500
    num_workers: int = 2
    check: bool | None = None
    drop_last: bool = False
    monitor_test: bool = False


@dataclass
class Optim:
    name: str = MISSING
    lr: float = MISSING
    weight_decay: float = 0.05
    decay_all: bool = False
    interval: str = "step"
    warmup_epochs: float = 5
    min_lr: float = 0.0
    clip_norm: float | None = 1.0


@dataclass
class Accelerator:
    kind: str = "auto"
    precision: str | None = None
    attention: str | None = None
    compile: bool | None = None
    shards: int | None = None


@dataclass
class Logger:
    name: str = "none"
    project: str | None = None
    entity: str | None = None
    group: str | None = None
    job_type: str | None = None
    tags: list[str] | None = None
    notes: str | None = None
    mode: str = "auto"
    log_model: bool = False


@dataclass
class Average:
    decay: float = 0.9999
    warmup: bool = True


@dataclass
class Distill:
    teacher: str | None = None
    kind: str = "hard"
    alpha: float = 0.5
    temperature: float = 3.0


@dataclass
class Trainer:
    max_epochs: int | None = None
    max_time: str | None = None
    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"
    log_every_n_steps: int = 50
    deterministic: bool | None = None
    profiler: str | None = None


@dataclass
class Train:
    name: str = MISSING
    seed: int = 0
    epochs: int = 200
    steps: int | None = None
    budget: str | None = None
    batch_size: int = 128
    label_smoothing: float = 0.0
    score: str = "ema"
    ema: Average = field(default_factory=Average)
    distill: Distill = field(default_factory=Distill)
    init_from: str | None = None
    checkpoint_minutes: float = 5.0
    resume: str | None = None
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
    num_workers: int | None = None


@dataclass
class Evaluate:
    run: str = MISSING
    data: EvaluateData = field(default_factory=EvaluateData)
    accelerator: Accelerator = MISSING


@dataclass
class Bench:
    suite: str = "all"
    rounds: int = 5
    batch_size: int = 128
    models: Any = None  # a name or a list of names
    accelerator: Accelerator = MISSING


@dataclass
class Arms:
    """What varies in a multirun, in the place of Hydra's own sweeper; `sweeping.py` reads it.

    `params`: key -> values, all combinations of them; `arms`: a name -> the settings that make it; `only` these arms.
    """

    _target_: str = "hybrid_vit.sweeping"
    params: dict[str, str] = field(default_factory=dict)
    arms: dict[str, list[str]] = field(default_factory=dict)
    only: list[str] | None = None


@dataclass
class Search:
    out: str = MISSING
    trials: int = 30
    sampler: str = "tpe"
    cost: str = "macs"
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
    title: str = "What the runs say"
    note: str | None = None
    command: str | None = None


SCHEMAS = {
    "train": Train,
    "evaluate": Evaluate,
    "bench": Bench,
    "search": Search,
    "report": Report,
    "hybrid": Hybrid,
    "timm": Timm,
    "cvt": CvT,
    "wide_resnet": WideResNet,
    "conv": ConvStem,
    "patch": PatchStem,
    "tokenizer": TokenizerStem,
    "resnet": ResNetStem,
    "mobile": MobileStem,
    "data": Data,
    "optim": Optim,
    "accelerator": Accelerator,
    "logger": Logger,
}


def register() -> None:
    """Make the schemas known to Hydra, in a group of their own: `/schema/NAME@_here_` in a list of defaults."""
    for name, node in SCHEMAS.items():
        ConfigStore.instance().store(group="schema", name=name, node=node)
    ConfigStore.instance().store(group="hydra/sweeper", name="arms", node=Arms)
