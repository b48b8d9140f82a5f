"""A command line -> a configuration or one sentence; nothing is written on the way."""

import inspect
import math
import re
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
from omegaconf import OmegaConf

from hybrid_vit.cli.command import check
from hybrid_vit.config import schema
from hybrid_vit.config.compose import compose_config, look_in, parse_override, resolve
from hybrid_vit.config.saved import defaults, load_run_config
from hybrid_vit.config.validation import check_machine, check_value
from hybrid_vit.utils.durations import seconds

NAMED = "name=${hydra:runtime.choices.model}"  # a value that only Hydra knows

LINUX_HERE = sys.platform == "linux"
LINUX = pytest.mark.skipif(not LINUX_HERE, reason="is of Linux")
MISTAKES = [
    # names
    ("model.dept=3", "model.dept is not a key; did you mean model.depth?"),
    ("modle=hybrid_192", "did you mean model?"),
    ("init_from=nowhere", "nowhere is not a run directory (no model.json in it)"),
    ("distill.teacher=nowhere", "nowhere is not a run directory (no model.json in it)"),
    ("optm.lr=1", "did you mean optim.lr?"),
    ("lr=1", "did you mean optim.lr?"),
    ("depth=3", "did you mean model.stem.depth or model.depth?"),
    ("nonsense=1", "nonsense is not a key; `--help`"),
    ("nonsense/x=1", "nonsense/x is not a key; `--help`"),
    ("hydra.rundir=x", "did you mean hydra.run.dir?"),
    ("model=hybrid_129", "did you mean hybrid_192? model is one of cct_7_3x1, "),
    ("model=hybrid_schema", "model is one of cct_7_3x1, "),
    ("optim=3", "optim is one of adamw, muon, sgd"),
    ("stem=patch", "did you mean stem@model.stem?"),
    ("model.stem=patch", "did you mean stem@model.stem?"),
    ("trainer=3", "set one of trainer.max_time"),
    ("augment.flip=true", "augment.flip has keys of its own; write augment.flip=null for none"),
    ("max_epochs=3", "max_epochs is not a key; write epochs=VALUE"),
    ("trainer.max_epochs=3", "write epochs=VALUE"),
    ("trainer.limit_train_batches=1.5", "must be a whole number of batches, or a share of them up to 1.0"),
    ("trainer.limit_train_batches=0", "trainer.limit_train_batches=0 must be positive"),
    ("limit_train_batches=2", "did you mean trainer.limit_train_batches?"),
    ("callbacks=[LearningRateMonitor] logger=none", "needs a logger to write to; add one, e.g. logger=csv"),
    ("budget_by=clock", "needs a budget; add one, e.g. budget=30m"),
    ("trainer.fast_dev_run=true", "write debug=fast"),
    ("gpus=2", "write accelerator=gpu trainer.devices=VALUE"),
    ("bs=3", "write batch_size=VALUE"),
    ("dataset=digits", "write data=VALUE"),
    ("stem@model.stem=patch model.stem.depth=3", "model.stem.depth is not a key"),
    ("model.stem.embed_dim=50", "model.stem.embed_dim=50 is not model.embed_dim=192; set both to one value"),
    ("init_from=fast_4m model.embed_dim=256", "model.stem.embed_dim=320 is not model.embed_dim=256"),
    ("data=folder data.root=~nobody_has_this_name", "image folder ~nobody_has_this_name does not exist"),
    # without effect
    ("epochs=2 steps=5", "epochs has no effect beside steps=5; leave it out, or add steps=null"),
    ("budget=1m epochs=2", "epochs has no effect beside budget=1m"),
    ("sweep=data_fraction epochs=2", "epochs has no effect beside steps=1955"),
    (
        "sweep=width model.embed_dim=64",
        "64 has no effect: every arm of this sweep sets model.embed_dim",
    ),
    ("hydra.job.chdir=true", "leave it out; paths are those of the folder in which the command is started"),
    ("-m seed=0,1 hydra.sweep.subdir=x", "leave it out; the folder of a job is its name"),
    ("hydra.searchpath=[file:///x]", "leave it out; --config-dir FOLDER adds a folder like conf/"),
    ("-m seed=0,1 hydra.verbose=true,false", "hydra.verbose=true,false has several values; a setting of Hydra has one"),
    # nothing is added or removed
    ("+new.key=1", "keys are typed, none can be added or removed"),
    ("+epochs=3", "write epochs=VALUE"),
    ("~epochs", "write epochs=VALUE"),
    ("~model", "write model=OPTION"),
    ("+experiment=run_192", "write experiment=OPTION"),
    # types
    ("model.depth=abc", "model.depth=abc: 'abc' is not a whole number; the default is model.depth=6"),
    ("epochs=ten", "epochs=ten: 'ten' is not a whole number"),
    ("epochs=3.7", "3.7 is not a whole number"),
    ("optim.lr=fast", "'fast' is not a number"),
    ("data.drop_last=maybe", "data.drop_last=maybe"),
    ("data.mean=3", "the default is data.mean=["),
    ("seed=null", "seed must have a value; the default is seed=0"),
    ("optim={lrr:3}", "optim={lrr:3}: Key 'lrr'"),
    # grammar
    ("model.depth", "'model.depth' is not a setting; it has no value: write model.depth=VALUE"),
    ("=3", "'=3' is not a setting; write key=value"),
    ("a\tb", "is not a setting; write key=value"),
    ("name=a=b", "quote it twice: \"name='a=b'\""),
    ("--epochs=3", "settings are written without dashes, e.g. epochs=3"),
    ("model.depth=3,4", "add -m to run each of them"),
    # what is missing or refers to nothing
    ("data=folder", "data.root is missing; add data.root=/path/to/pictures"),
    ("name=${bar}", "name: Interpolation key 'bar' not found"),
    ("hydra.run.dir=${bar}", "hydra.run.dir: Interpolation key 'bar' not found"),
    # values
    ("epochs=0", "epochs=0 must be positive"),
    ("steps=-1", "steps=-1 must be positive"),
    ("batch_size=0", "batch_size=0 must be positive"),
    ("optim.lr=-1", "optim.lr=-1.0 must be positive"),
    ("optim.lr=nan", "optim.lr=nan must be positive"),
    ("checkpoint_minutes=0", "checkpoint_minutes=0.0 must be positive"),
    ("data.val_size=-1", "data.val_size=-1 must not be negative"),
    ("budget=soon", "budget: 'soon' is not a length of time; write e.g. 90s, 30m"),
    ("trainer.max_time=1:2", "trainer.max_time: '1:2' is not a length of time"),
    ("score=best", "score is one of ema, raw"),
    ("accelerator.precision=16-mixed", "accelerator.precision is one of 32-true, bf16-mixed, "),
    ("progressive.sizes=[20]", "must be ascending, with one end for each of progressive.sizes [20]"),
    ("progressive.sizes=[20,24] progressive.until=[0.5,0.5]", "must be ascending, with one end for each of "),
    ("progressive.sizes=[20,24] progressive.until=[0.5,0.2]", "must be ascending, with one end for each of "),
    ("accelerator.kind=tpu", "accelerator.kind is one of auto, cpu, gpu, mps"),
    ("trainer.strategy=dpp", "did you mean ddp? trainer.strategy is one of auto, ddp"),
    ("model.pool=middle", "model.pool=middle is unknown; model.pool is one of cls, "),
    ("logger.mode=of", "logger.mode is one of auto, online, offline, disabled"),
    ("data.fraction=0", "data.fraction=0.0 must lie in (0, 1]"),
    ("data.fraction=1.5", "data.fraction=1.5 must lie in (0, 1]"),
    ("label_smoothing=1", "label_smoothing=1.0 must lie in [0, 1)"),
    ("label_smoothing=nan", "label_smoothing=nan must lie in [0, 1)"),
    ("trainer.log_every_n_steps=0", "trainer.log_every_n_steps=0 must be positive"),
    ("seed=99999999999999999999", "seed=99999999999999999999 must lie in [0, 9e18]"),
    ("seed=-1", "seed=-1 must not be negative"),
    ("epochs=1000000000000", "epochs=1000000000000 must lie in [1, 1e6]"),
    ("data.image_size=0", "data.image_size=0 must be positive"),
    ("model.mlp_ratio=1e30", "model.mlp_ratio=1e+30 must lie in (0, 1024]"),
    ("model.embed_dim=1000000000", "model.embed_dim=1000000000 must lie in [1, 16384]"),
    ("model.stem.channels=[64,0,192]", "model.stem.channels=[64, 0, 192] must be positive"),
    ("data.std=[1,1,0]", "data.std=[1.0, 1.0, 0.0] must be positive"),
    # of other tools, of the shell
    ("--experiment quickstart", "--experiment is not an option; settings are written without dashes, e.g. epochs=3"),
    ("-p 8000", "--package is for --cfg; settings are written without dashes"),
    ("-patience=5", "-patience=5 is not an option"),
    ("--run=outputs/runs/x", "settings are written without dashes"),
    ("fast_4m", "'fast_4m' is not a setting; write experiment=fast_4m"),
    ("epochs= 5", "write key=value, e.g. model.depth=6"),
    ("data.mean=[0.5, 0.5]", "a space splits a setting: write it without spaces, or quote the whole argument"),
    ("tags=[größe]", "quote each text in the list: \"tags=['A','B']\""),
    ("data.root=", "data.root= is empty (an unset variable?); give a value, or leave it out"),
    ("steps=1e5", "steps=1e5: write steps=100000"),
    ("hydra.launcher=joblib sweep=seeds", "write hydra/launcher=joblib"),
    ("hydra.sweeper=optuna", "leave it out; -m has a sweeper here"),
    ("hydra.verbose=1", "hydra.verbose=1 must be true, false or names of loggers"),
    ("sweep=seeds hydra.run.dir=x", "hydra.run.dir has no effect on several runs; write hydra.sweep.dir=PATH"),
    # values that do not go together
    ("model.num_heads=7", "embed_dim 192 is not divisible by num_heads 7; use model.num_heads=6 or 8, or leave it out"),
    ("model.num_heads=500", "use model.num_heads=192, or leave it out"),
    ("model.embed_dim=100", "embed_dim 100 is not a multiple of the head width 32; use 96 or 128"),
    ("model.stem.grid=7", "stem.grid 7 is not 32 pixels halved; with depth 3 use one of [32, 16, 8, 4]"),
    ("stem@model.stem=patch model.stem.grid=5", "stem.grid 5 does not divide the image of 32 pixels"),
    ("stem@model.stem=tokenizer model.stem.grid=32", "stem.grid 32 is not 32 pixels halved once or more"),
    ("optim.min_lr=1", "optim.min_lr 1.0 must lie between 0 and optim.lr 0.0004"),
    (
        "epochs=5 optim.warmup_epochs=5",
        "optim.warmup_epochs 5 must be at least 0 and less than the 5 epochs of the run",
    ),
    ("ema.decay=0", "score=ema is not possible; use score=raw, or ema with an ema.decay above 0"),
    ("model.pool=distilled", "give distill.teacher=RUN_DIR"),
    ("augment.erase=true augment=none", "augment.erase=True is no part of an augmentation; use augment.erase=null"),
    ("data.mean=[0.5]", "data.mean=[0.5] must be 3 numbers, one for each channel"),
    ("data.root=null", "data=cifar100 needs a directory; set data.root=PATH"),
    ("data=folder data.root=/no/where", "the image folder /no/where does not exist"),
    (f"data.root={__file__}", "is a file; give the folder that holds the data"),
    *([("accelerator=mps", "accelerator=mps is not available here; use accelerator=cpu")] if LINUX_HERE else []),
    # every value of a multirun
    ("-m model.depth=4,abc", "model.depth=abc: 'abc' is not a whole number"),
    ("-m model=hybrid_192,hybrid_129", "model=hybrid_129 does not exist"),
    ("-m seed=0,1 hydra/launcher=slurm", "hydra/launcher=slurm is not there; hydra/launcher is one of basic, "),
    ("-m seed=0,1 hydra/launcher=slurm", "; pip install -e '.[sweeps]' adds joblib, ray and submitit_slurm"),
    ("-m epochs=range(0,3)", "epochs=0 must be positive"),
    ("-m optim.lr=interval(0,1)", "write optim.lr=A,B,C"),
    ("-m model.dept=3,4", "did you mean model.depth?"),
    ("seed=1,2 -m epochs=1,0", "epochs=0 must be positive"),
]


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("line", "expected"), MISTAKES, ids=[line for line, _ in MISTAKES])
def test_a_mistake_is_one_sentence_and_writes_nothing(line: str, expected: str, empty: Path) -> None:
    with pytest.raises(ValueError) as caught:
        check(line.split(" "))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(empty.iterdir())


@pytest.mark.parametrize(
    "line",
    [
        "",
        "budget=1h30m",
        "trainer.max_time=00:00:30:00 steps=null",
        "model.num_heads=3 data.mean=[0.5,0.5,0.5] name='a,b'",
        "experiment=quickstart model.depth=2",
        "stem@model.stem=patch model.stem.grid=8",
        "data=folder data.root=/",
        "epochs=1",
        "steps=1 optim.warmup_epochs=20",
        "seed=9000000000000000000 label_smoothing=0 data.fraction=1",
        "optim={lr:0.1}",
        "+hydra.job.env_set.X=1",
        "hydra.job.chdir=false",
        "epochs=3 debug=fast",
        "sweep=transfer_time debug=fast",
        "sweep=transfer optim.lr=0.01",  # one of its arms does not set it
        "model=hybrid_fast model.block=conv model.embed_dim=100 model.stem.channels=[64,256,100]",  # has no heads
        "-m model.stem.depth=2,3,4 model.depth=4,6 model.embed_dim=96,192 accelerator=cpu",
        "-m augment=glob(run*) seed=range(3)",
        "-m stem@model.stem=patch,whitened model.stem.patch_size=2",  # which conv does not take
        "--cfg job data=folder",
        "--help modle=3",
    ],
)
def test_what_is_right_passes(line: str) -> None:
    check(line.split())


def test_each_job_is_checked_as_it_will_run() -> None:
    seen = []
    check(
        ["-m", NAMED, "model=hybrid_tiny,hybrid_192", "model.depth=1,2", "hydra.sweep.dir=there"],
        also=lambda spec, directory, multirun: seen.append((spec["name"], spec["model"]["depth"], str(directory))),
    )
    assert seen == [
        ("hybrid_tiny", 1, "there/model=hybrid_tiny,model.depth=1"),
        ("hybrid_tiny", 2, "there/model=hybrid_tiny,model.depth=2"),
        ("hybrid_192", 1, "there/model=hybrid_192,model.depth=1"),
        ("hybrid_192", 2, "there/model=hybrid_192,model.depth=2"),
    ]


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("file/run", "file is a file"),
        ("there/" + 300 * "x", "File name too long"),
        pytest.param("/proc/1/run", "No such file or directory", marks=LINUX),
    ],
)
def test_a_place_that_cannot_be_written_is_refused(place: str, said: str, empty: Path) -> None:
    (empty / "file").write_text("")
    with pytest.raises(ValueError, match=rf"{said}; choose another place with hydra\.run\.dir=PATH"):
        check([f"hydra.run.dir={place}"])
    with pytest.raises(ValueError, match=rf"{said}; choose another place with hydra\.sweep\.dir=PATH"):
        check(["-m", "seed=0,1", f"hydra.sweep.dir={place}"])
    with pytest.raises(ValueError, match=rf"{said}; choose another place with out=PATH"):
        check([f"out={place}"], "report")
    check(["hydra.run.dir=a/b/c"])
    assert [path.name for path in empty.iterdir()] == ["file"]


def test_a_new_path_may_have_any_letters(empty: Path) -> None:
    assert resolve(compose_config(["data.root=daten/Vögel"]))["data"]["root"] == "daten/Vögel"


def test_arguments_of_a_transform_are_set_alone() -> None:
    given = ["augment=light", "augment.flip.alternate=true", "augment.crop.padding=4"]
    steps = resolve(compose_config([NAMED, *given]))["augment"]
    assert steps["flip"] == {"_target_": "hybrid_vit.augment.RandomHorizontalFlip", "alternate": True}
    assert steps["crop"]["padding"] == 4 and steps["crop"]["mode"]


def test_another_transform_has_only_its_own_arguments() -> None:
    given = ["augment=document", "augment.policy={_target_:hybrid_vit.augment.TrivialAugment}"]
    assert resolve(compose_config([NAMED, *given]))["augment"]["policy"] == {
        "_target_": "hybrid_vit.augment.TrivialAugment"
    }


def test_an_existing_path_needs_no_quotes(empty: Path) -> None:
    (empty / "a, b=c [1]").mkdir()
    assert resolve(compose_config(["data.root=a, b=c [1]"]))["data"]["root"] == "a, b=c [1]"


@pytest.mark.parametrize("several", ["seed=0,1", "model=hybrid_tiny,vit_192", "data.fraction=range(3)"])
def test_one_configuration_has_one_value(several: str) -> None:
    with pytest.raises(ValueError, match=rf"^{re.escape(several)} has several values, for a sweep; give one of them"):
        compose_config([several])


def test_values_reach_what_refers_to_them() -> None:
    spec = resolve(
        compose_config([NAMED, "model=hybrid_tiny", "model.embed_dim=64", "data=cifar10", "data.image_size=64"])
    )
    assert spec["name"] == "hybrid_tiny"
    assert spec["model"]["stem"]["embed_dim"] == 64
    assert spec["model"]["stem"]["img_size"] == 64
    assert spec["model"]["num_classes"] == 10
    assert "hydra" not in spec


def test_a_place_may_be_named_by_the_settings() -> None:
    cfg = compose_config(["seed=3", "model=hybrid_tiny", "hydra.verbose=true"])
    assert cfg.hydra.job.override_dirname == "model=hybrid_tiny,seed=3"
    assert compose_config([]).hydra.job.override_dirname == ""


@pytest.mark.parametrize("option", ["stdout", "disabled", "none"])
def test_a_log_may_have_no_file(option: str) -> None:
    handlers = compose_config([f"hydra/job_logging={option}"]).hydra.job_logging.get("handlers", {})
    assert all("class" in handler for handler in handlers.values())


def test_options_may_lie_in_subfolders(tmp_path: Path) -> None:
    (tmp_path / "experiment" / "mine").mkdir(parents=True)
    (tmp_path / "experiment" / "mine" / "v1.5.yaml").write_text("# @package _global_\nseed: 7\n")
    look_in(str(tmp_path))
    try:
        assert compose_config(["experiment=mine/v1.5"]).seed == 7
    finally:
        look_in(None)


def test_each_of_several_paths_may_begin_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    override = parse_override("data.root=~/a,~/b c")
    assert [*override.sweep_string_iterator()] == ["'/home/me/a'", "'/home/me/b c'"]
    assert parse_override("data.root=~/a b").value() == "/home/me/a b"
    assert parse_override("data.root='x,y','~/z'").input_line == "data.root='x,y','~/z'"


def test_one_composition_does_not_leak_into_the_next() -> None:
    assert resolve(compose_config(["epochs=3", "model.stem.depth=2"]))["model"]["stem"]["depth"] == 2
    spec = resolve(compose_config([]))
    assert (spec["epochs"], spec["model"]["stem"]["depth"]) == (200, 3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", 90),
        ("30m", 1800),
        ("1h30m", 5400),
        ("2h", 7200),
        ("1.5h", 5400),
        ("1d1s", 86401),
        ("01:00:30:05", 88205),
    ],
)
def test_seconds(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "30", "m", "0s", "-3m", "30m1h", "1h 30m", "1:30", "00:00:00:00"])
def test_seconds_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a length of time; write e\.g\. 90s, 30m, 1h30m or 2h"):
        seconds(text)


def literals(part: Callable, name: str) -> tuple:
    """What a parameter may be, if its type says so."""
    hint = get_type_hints(part.__init__ if isinstance(part, type) else part).get(name)
    options = [option for option in get_args(hint) if get_origin(option) is Literal] if hint else []
    return tuple(value for option in ([hint] if get_origin(hint) is Literal else options) for value in get_args(option))


def test_the_choices_of_the_schema_are_those_of_the_parts() -> None:
    from hybrid_vit import models
    from hybrid_vit.fast.accelerator import choose
    from hybrid_vit.models.encoder import NORMS
    from hybrid_vit.training import distill, optim

    described = {node: getattr(models, target.rpartition(".")[2]) for target, node in schema.PARTS.items()}
    described |= {schema.Accelerator: choose, schema.Distill: distill.Distillation}
    described |= {schema.Optim: optim.Schedule}
    for node, part in described.items():
        for field in fields(node):
            if choices := literals(part, field.name):
                assert field.metadata["allowed"] == choices, (node, field.name)

    def allowed(node: type, name: str) -> tuple:
        return next(field.metadata["allowed"] for field in fields(node) if field.name == name)

    assert allowed(schema.Optim, "name") == tuple(optim.OPTIMIZERS)
    assert allowed(schema.Optim, "schedule") == tuple(optim.SHAPES)
    assert allowed(schema.Hybrid, "norm") == tuple(NORMS)


def test_the_defaults_of_the_schema_are_those_of_the_parts() -> None:
    from hybrid_vit.config.build import PARTS
    from hybrid_vit.training import distill, ema, optim

    described: dict[type, Callable] = {node: PARTS[target] for target, node in schema.PARTS.items() if target in PARTS}
    described |= {schema.Distill: distill.Distillation, schema.Average: ema.EMA, schema.Optim: optim.Schedule}
    assert {schema.Hybrid, schema.ConvStem, schema.Timm, schema.CvT, schema.WideResNet} <= {*described}
    for node, part in described.items():
        parameters = inspect.signature(part).parameters
        for key, value in defaults(node).items():
            if key in parameters and (default := parameters[key].default) is not inspect.Parameter.empty:
                default = [*default] if isinstance(default, tuple) else default
                assert (value or None) == (default or None), (node, key)


def test_every_argument_of_an_optimizer_can_be_set() -> None:
    from hybrid_vit.training import optim

    common = {"net", "lr", "weight_decay", "decay_all"}
    for name, part in optim.OPTIMIZERS.items():
        assert {*inspect.signature(part).parameters} - common == {*schema.OPTIMIZER_ARGUMENTS[name]}
    with pytest.raises(
        ValueError, match=r"optim\.momentum is not an argument of adamw, which takes optim\.betas, optim"
    ):
        check(["optim.momentum=0.8"])
    with pytest.raises(ValueError, match=r"optim\.betas=\[0\.9\] must be two numbers"):
        check(["optim.betas=[0.9]"])


def test_every_limit_can_be_met_and_holds_for_its_default() -> None:
    limited = [
        (node, part, part.metadata["allowed"])
        for node in vars(schema).values()
        if is_dataclass(node)
        for part in fields(node)
        if "allowed" in part.metadata
    ]
    assert len(limited) > 50
    for node, part, allowed in limited:
        outside = "nothing" if isinstance(allowed, tuple) else math.nan
        with pytest.raises(ValueError, match=f"{part.name}={outside}"):
            check_value(part.name, outside, allowed)
        if (value := defaults(node).get(part.name)) is not None:
            check_value(part.name, value, allowed)


@pytest.mark.parametrize(
    ("allowed", "inside", "outside"),
    [
        ("[0, 1)", (0, 0.99), (-0.1, 1, math.inf)),
        ("(0, 1]", (1e-9, 1), (0, 1.01)),
        ("(0, inf)", (1e-9, 1e300), (0, math.inf, -1)),
        ("[1, 1e9]", (1, 10**9), (0, 10**9 + 1)),
    ],
)
def test_an_interval_holds_its_ends_or_not(allowed: str, inside: tuple, outside: tuple) -> None:
    for value in inside:
        check_value("key", value, allowed)
    for value in outside:
        with pytest.raises(ValueError, match="key="):
            check_value("key", value, allowed)


def test_more_processes_than_cores_and_an_absent_gpu_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    check_machine("cpu", 2)
    with pytest.raises(ValueError, match=r"trainer\.devices=9 are more processes than the 2 cores here; use at most 2"):
        check_machine("cpu", 9)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(Path, "glob", lambda self, name: iter([]))
    with pytest.raises(ValueError, match="accelerator=gpu is not available here"):
        check_machine("gpu", 1)
    monkeypatch.setattr(Path, "glob", lambda self, name: iter([self / "nvidia0"]))
    check_machine("gpu", 8)


def test_a_choice_that_another_command_has_says_what_can_be_set() -> None:
    with pytest.raises(ValueError, match=r"has no group data; set data\.root, data\.num_workers"):
        check(["run=x", "data=cifar100"], "evaluate")
    with pytest.raises(ValueError, match="suite=fast is unknown"):
        check(["suite=fast"], "bench")


def test_a_saved_configuration_says_what_the_run_was(empty: Path) -> None:
    cfg = compose_config([NAMED, "model=hybrid_tiny", "epochs=7"])
    (empty / ".hydra").mkdir()
    hydra = OmegaConf.masked_copy(cfg, "hydra")
    task = OmegaConf.masked_copy(cfg, [key for key in cfg if key not in ("hydra", "checkpoint_minutes")])
    OmegaConf.save(task, empty / ".hydra" / "config.yaml")
    OmegaConf.save(hydra, empty / ".hydra" / "hydra.yaml")
    assert load_run_config(empty) == resolve(cfg)  # the key that the run had not yet has its default
    assert load_run_config(empty)["name"] == "hybrid_tiny"
    (empty / ".hydra" / "config.yaml").write_text("{")
    with pytest.raises(ValueError, match="cannot be read"):
        load_run_config(empty)
    with pytest.raises(ValueError, match="nowhere does not exist"):
        load_run_config(empty / "nowhere")
