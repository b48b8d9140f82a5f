"""A command line -> a configuration or one sentence; nothing is written on the way."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from hybrid_vit.command import CHOICES, check
from hybrid_vit.config import composed, plain, saved
from hybrid_vit.durations import seconds

NAMED = "name=${hydra:runtime.choices.model}"  # a value that only Hydra knows

MISTAKES = [
    # names
    ("model.dept=3", "model.dept is not a key; did you mean model.depth?"),
    ("modle=hybrid_192", "did you mean model?"),
    ("optm.lr=1", "did you mean optim.lr?"),
    ("lr=1", "did you mean optim.lr?"),
    ("depth=3", "did you mean model.stem.depth or model.depth?"),
    ("nonsense=1", "nonsense is not a key; `--help`"),
    ("nonsense/x=1", "nonsense/x is not a key; `--help`"),
    ("hydra.rundir=x", "did you mean hydra.run.dir?"),
    ("model=hybrid_129", "did you mean hybrid_192? model is one of cct_7_3x1, "),
    ("model=hybrid_schema", "model is one of cct_7_3x1, "),
    ("optim=3", "optim is one of adamw, sgd"),
    ("stem=patch", "did you mean stem@model.stem?"),
    ("model.stem=patch", "did you mean stem@model.stem?"),
    ("trainer=3", "set one of trainer.max_epochs"),
    ("stem@model.stem=patch model.stem.depth=3", "model.stem.depth is not a key"),
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
    ("accelerator.kind=tpu", "accelerator.kind is one of auto, cpu, gpu, mps"),
    # every value of a multirun
    ("-m model.depth=4,abc", "model.depth=abc: 'abc' is not a whole number"),
    ("-m model=hybrid_192,hybrid_129", "model=hybrid_129 does not exist"),
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
        "experiment=quickstart model.stem.depth=2",
        "stem@model.stem=patch model.stem.grid=8",
        "data=folder data.root=/nowhere",
        "optim={lr:0.1}",
        "+hydra.job.env_set.X=1",
        "-m model.stem.depth=2,3,4 model.depth=4,6 model.embed_dim=96,192 accelerator=cpu",
        "-m augment=glob(run*) seed=range(3)",
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


def test_a_place_that_cannot_be_written_is_refused(empty: Path) -> None:
    (empty / "file").write_text("")
    with pytest.raises(ValueError, match=r"file is a file; choose another place with hydra\.run\.dir=PATH"):
        check(["hydra.run.dir=file/run"])


def test_an_existing_path_needs_no_quotes(empty: Path) -> None:
    (empty / "a, b=c [1]").mkdir()
    assert plain(composed(["data.root=a, b=c [1]"]))["data"]["root"] == "a, b=c [1]"


def test_values_reach_what_refers_to_them() -> None:
    spec = plain(composed([NAMED, "model=hybrid_tiny", "model.embed_dim=64", "data=cifar10", "data.image_size=64"]))
    assert spec["name"] == "hybrid_tiny"
    assert spec["model"]["stem"]["embed_dim"] == 64
    assert spec["model"]["stem"]["img_size"] == 64
    assert spec["model"]["num_classes"] == 10
    assert "hydra" not in spec


def test_one_composition_does_not_leak_into_the_next() -> None:
    assert plain(composed(["epochs=3", "model.stem.depth=2"]))["model"]["stem"]["depth"] == 2
    spec = plain(composed([]))
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


def test_the_choices_known_here_are_those_of_the_parts() -> None:
    from hybrid_vit.accelerator import KINDS
    from hybrid_vit.optim import OPTIMIZERS

    assert CHOICES["accelerator.kind"] == KINDS
    assert CHOICES["optim.name"] == tuple(OPTIMIZERS)


def test_a_saved_configuration_says_what_the_run_was(empty: Path) -> None:
    cfg = composed([NAMED, "model=hybrid_tiny", "epochs=7"])
    (empty / ".hydra").mkdir()
    hydra = OmegaConf.masked_copy(cfg, "hydra")
    task = OmegaConf.masked_copy(cfg, [key for key in cfg if key not in ("hydra", "checkpoint_minutes")])
    OmegaConf.save(task, empty / ".hydra" / "config.yaml")
    OmegaConf.save(hydra, empty / ".hydra" / "hydra.yaml")
    assert saved(empty) == plain(cfg)  # the key that the run had not yet has its default
    assert saved(empty)["name"] == "hybrid_tiny"
    (empty / ".hydra" / "config.yaml").write_text("{")
    with pytest.raises(ValueError, match="cannot be read by this version"):
        saved(empty)
    with pytest.raises(ValueError, match="nowhere does not exist"):
        saved(empty / "nowhere")
