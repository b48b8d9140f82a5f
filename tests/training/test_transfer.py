"""Transfer: what stays as it was to the bit, which rate each layer has, and whole runs that start from another."""

import json
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from small_runs import TINY, assert_same_run, no_pictures, run, summary
from torch import Tensor, nn

import hybrid_vit
from hybrid_vit.cli.command import check
from hybrid_vit.config.build import build
from hybrid_vit.config.compose import as_train, compose_config, resolve
from hybrid_vit.config.validation import check_together
from hybrid_vit.deploy.scoring import load_data, score_test_set
from hybrid_vit.deploy.trained import adopt, origin
from hybrid_vit.deploy.weights import write_weights
from hybrid_vit.fast.accelerator import choose
from hybrid_vit.models import ConvStem
from hybrid_vit.models import hybrid_vit as hybrid
from hybrid_vit.models.layers import layers
from hybrid_vit.training.callbacks import Stopped, latest
from hybrid_vit.training.optim import OPTIMIZERS
from hybrid_vit.training.parts import make_data, make_net, may_know_validation
from hybrid_vit.training.run import train
from hybrid_vit.training.task import Classification
from hybrid_vit.training.transfer import decay_rates, freeze, train_unfrozen
from hybrid_vit.utils.files import write_json
from hybrid_vit.utils.paths import PUBLISHED

pytestmark = pytest.mark.usefixtures("without_pictures")

# 7 steps: an epoch, a validation, and two more.
FROM = ["steps=7", "optim.warmup_epochs=0", "ema.decay=0.5", "model.drop_path_rate=0.5"]


def small_net(**choices) -> nn.Module:
    rates = dict.fromkeys(("pos_drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate"), 0.5)
    return hybrid(stem=ConvStem(embed_dim=32, depth=2), num_classes=5, embed_dim=32, depth=2, **rates, **choices)


def learning(net: nn.Module) -> set[str]:
    return {name for name, weight in net.named_parameters() if weight.requires_grad}


def test_what_is_frozen_does_not_learn() -> None:
    net = small_net()
    *body, head = layers(net)
    freeze(net, 1)
    assert learning(net) == {*body[-1], *head}
    freeze(net, 0)
    assert learning(net) == {"head.weight", "head.bias"}
    whole = small_net()
    freeze(whole, 4)
    assert learning(whole) == {name for name, _ in whole.named_parameters()}
    with pytest.raises(ValueError, match=r"unfreeze=5 is more than the 4 layers before the classifier .* use 1 to 4"):
        freeze(net, 5)


@pytest.mark.parametrize("unfrozen", [0, 1])
def test_a_frozen_part_drops_nothing_and_keeps_its_statistics(unfrozen: int) -> None:
    torch.manual_seed(0)
    net, images = small_net(), torch.randn(8, 3, 32, 32)
    freeze(net, unfrozen)
    train_unfrozen(net)
    before = {name: value.clone() for name, value in net.named_buffers()}
    seen: list[Tensor] = []
    net.blocks[1 if unfrozen else -1].register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    logits = [net(images) for _ in range(2)]
    assert torch.equal(*seen)
    assert torch.equal(*logits) == (not unfrozen)  # the block that learns drops at random
    assert all(torch.equal(value, before[name]) for name, value in net.named_buffers())
    assert net.training and net.head.training and net.blocks[1].drop_path.training == bool(unfrozen)


def test_a_distillation_token_is_asked_for_while_the_head_alone_learns() -> None:
    net = small_net(pool="distilled")
    freeze(net, 0)
    train_unfrozen(net)
    assert net(torch.randn(2, 3, 32, 32)).shape == (2, 2, 5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_layer_has_the_rate_of_the_formula(name: str) -> None:
    net = small_net()
    optimizer = OPTIMIZERS[name](net, lr=0.1, weight_decay=0.05)
    before = {weight: group for group in optimizer.param_groups for weight in group["params"]}
    decay_rates(optimizer, net, 0.5)
    depth = {net.get_parameter(name): depth for depth, names in enumerate(layers(net)) for name in names}
    seen = []
    for group in optimizer.param_groups:
        for weight in group["params"]:
            seen.append(weight)
            assert group["lr"] == pytest.approx(before[weight]["lr"] * 0.5 ** (4 - depth[weight]), rel=1e-12)
            rest = group.keys() - {"params", "lr"}
            assert {key: group[key] for key in rest} == {key: before[weight][key] for key in rest}
    assert len(seen) == len({*seen}) == len(before)
    # What is logged: the highest rate; with Muon that of the last matrices, one layer below the classifier.
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05 if name == "muon" else 0.1)


def test_the_rates_of_the_published_model_and_those_of_timm() -> None:
    net = hybrid_vit.build_model("hybrid_fast")
    optimizer = OPTIMIZERS["adamw"](net, lr=1.0, weight_decay=0.05)
    decay_rates(optimizer, net, 0.75)
    rate = {weight: group["lr"] for group in optimizer.param_groups for weight in group["params"]}
    expected = {"head.weight": 0, "norm.weight": 1, "blocks.0.attn.qkv.weight": 1, "pos_embed": 2}
    expected |= {f"patch_embed.groups.{i}.residual.0.weight": 4 - i for i in range(3)} | {"patch_embed.white.bias": 5}
    for name, power in expected.items():
        assert rate[net.get_parameter(name)] == pytest.approx(0.75**power)
    timm_optim = pytest.importorskip("timm.optim")
    for group in timm_optim.param_groups_layer_decay(net, layer_decay=0.75):
        assert all(rate[weight] == pytest.approx(group["lr_scale"]) for weight in group["params"])


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run on ten classes."""
    directory = tmp_path_factory.mktemp("source") / "run"
    with no_pictures():
        run(directory, "steps=4", "data.val_size=0", "model.depth=2", "optim.warmup_epochs=0")
    return directory


@pytest.fixture(scope="module")
def three_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey pictures of 40 pixels in three classes."""
    root, random = tmp_path_factory.mktemp("grey"), np.random.default_rng(0)
    for label in "abc":
        (root / label).mkdir()
        for i in range(12):
            Image.fromarray(random.integers(0, 256, (40, 44), dtype=np.uint8)).save(root / label / f"{i}.png")
    return root


def test_of_the_classifier_the_classes_that_both_know_are_kept(source: Path) -> None:
    spec = resolve(compose_config([f"init_from={source}", "data=digits"]))["model"]
    net = build(spec | {"num_classes": 4})
    assert adopt(net, source, ["7", "horse", "0", "ship"]) == 2
    there = weights(source)
    for key, value in net.state_dict().items():
        if key.startswith("head."):
            assert torch.equal(value[[0, 2]], there[key][[7, 0]]) and not value[[1, 3]].any()
        else:
            assert torch.equal(value, there[key])


def test_a_norm_within_timms_head_is_no_classifier(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    spec = resolve(compose_config(["model=convnext_atto", "data=digits"]))["model"]
    net, other = build(spec).eval(), build(spec).eval()
    nn.init.normal_(net.head.norm.weight)
    write_weights(tmp_path, net.state_dict())
    names = [f"{i}" for i in range(10)]
    write_json(tmp_path / "model.json", json.loads((PUBLISHED / "quickstart/model.json").read_text()) | {"model": spec})
    assert adopt(other, tmp_path, names) == 10
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(other(images), net(images))


def test_a_source_that_may_know_the_test_images_is_told(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, images in (("same", 359), ("other", 358)):
        shutil.copytree(source, tmp_path / name)
        description = json.loads((source / "model.json").read_text())
        description["fingerprint"]["test"]["images"] = images
        write_json(tmp_path / name / "model.json", description)
        config = as_train(resolve(compose_config([*TINY, "model.depth=2", f"init_from={tmp_path / name}"])))
        caplog.clear()
        make_net(config, make_data(config), choose("cpu"), fresh=True)
        assert ("may have learned from the test images of this run" in caplog.text) == (name == "other")


def weights(directory: Path) -> dict[str, Tensor]:
    return load_file(directory / "model.safetensors")


ALL = {"head", "norm", "blocks.0", "blocks.1", "patch_embed.0", "patch_embed.1", "cls", "pos"}


@pytest.mark.parametrize(
    ("settings", "moved", "score"),
    [
        (["transfer=linear"], {"head"}, "ema"),
        (["transfer=linear"], {"head"}, "raw"),
        (["transfer=partial", "unfreeze=1"], {"head", "norm", "blocks.1"}, "ema"),
        (["transfer=partial", "unfreeze=1", "optim=muon"], {"head", "norm", "blocks.1"}, "raw"),
        (["transfer=full"], ALL, "ema"),
    ],
)
def test_frozen_weights_and_statistics_stay_to_the_bit(
    source: Path, tmp_path: Path, settings: list[str], moved: set[str], score: str
) -> None:
    run(tmp_path / "run", *FROM, f"init_from={source}", f"score={score}", "model.depth=2", *settings)
    before, after = weights(source), weights(tmp_path / "run")
    assert before.keys() == after.keys()
    different = {name for name in after if not torch.equal(before[name], after[name])}
    assert all(name.startswith(tuple(moved)) for name in different)
    assert all(any(name.startswith(part) for name in different) for part in moved)
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    learned = [
        value for name, value in after.items() if name.startswith(tuple(moved)) and not name.endswith(statistics)
    ]
    assert summary(tmp_path / "run")["trained_parameters"] == sum(value.numel() for value in learned)


def test_from_scratch_the_model_is_the_same_and_its_weights_are_not(source: Path, tmp_path: Path) -> None:
    spec = resolve(compose_config([f"init_from={source}", "transfer=scratch", "data=digits"]))
    assert spec["model"]["embed_dim"] == 32 and spec["model"]["depth"] == 2
    scratch = [*FROM, "steps=1", "optim.lr=1e-30", "score=raw", "ema.decay=0", "model.depth=2"]
    run(tmp_path / "scratch", *scratch, f"init_from={source}", "transfer=scratch")
    run(tmp_path / "alone", *scratch)
    for name, value in weights(tmp_path / "scratch").items():
        assert torch.equal(value, weights(tmp_path / "alone")[name]), name
    facts = summary(tmp_path / "scratch")
    assert facts["pretrained"] is False and "init_from" not in facts


def test_a_summary_names_what_a_run_started_from(source: Path, tmp_path: Path) -> None:
    run(tmp_path / "run", *FROM, "transfer=linear", f"init_from={source}", "model.depth=2")
    facts, there = summary(tmp_path / "run"), summary(source)
    assert facts["pretrained"] is True and facts["transfer"] == "linear"
    assert facts["init_from"] == {
        "run": str(source),
        "sha256": facts["init_from"]["sha256"],
        "data": "digits",
        "root": None,
        "test_top1": there["scores"]["test_top1"],
        "may_know_validation": True,  # the source had no validation images
    }
    with open(source / "model.safetensors", "rb") as file:
        assert facts["init_from"]["sha256"].encode() in file.read(4096)  # the checksum in its header


def test_other_classes_image_sizes_and_grey_pictures(source: Path, three_classes: Path, tmp_path: Path) -> None:
    """The whole way of a user: no model is named, and what comes out is evaluated and predicts."""
    data = ["data=folder", f"data.root={three_classes}", "data.image_size=48", "data.num_workers=0"]
    spec = resolve(compose_config(["experiment=finetune", *data, f"init_from={source}", "logger=none"]))
    assert spec["model"]["stem"]["img_size"] == 32 and spec["data"]["mean"] == pytest.approx([0.3053] * 3)
    check_together(spec)
    more = [
        "experiment=finetune",
        "model.depth=2",
        "data.fraction=1",
        "batch_size=8",
        "steps=2",
        "optim.warmup_epochs=null",
    ]
    run(tmp_path / "run", *more, *data, f"init_from={source}", "transfer=full")
    trained = hybrid_vit.load(tmp_path / "run")
    assert trained.class_names == ["a", "b", "c"] and trained.image_size == 48
    said = trained.predict(three_classes / "a" / "0.png")
    assert set(said.probabilities) == {"a", "b", "c"}
    again, _ = score_test_set(trained.net, load_data(trained, {}), choose("cpu"))
    assert again["top1"] == pytest.approx(summary(tmp_path / "run")["scores"]["test_top1"])


def test_a_transfer_that_was_stopped_goes_on_as_if_it_had_not_been(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["transfer=partial", "unfreeze=1", "optim.layer_decay=0.5", "model.depth=2", "epochs=2"]
    settings += ["optim.warmup_epochs=0", f"init_from={source}", "model.drop_path_rate=0.5"]
    config = as_train(resolve(compose_config([*TINY, *settings])))
    run(tmp_path / "whole", *settings)
    step = Classification.training_step

    def interrupted(task: Classification, batch, batch_idx: int):
        if task.global_step == 7:  # the third step of the second epoch
            signal.raise_signal(signal.SIGINT)
        return step(task, batch, batch_idx)

    monkeypatch.setattr(Classification, "training_step", interrupted)
    with pytest.raises(Stopped):
        run(tmp_path / "parts", *settings)
    monkeypatch.undo()
    moved = source.rename(source.with_name("moved"))  # a run that continues needs its source no more
    try:
        train(config, tmp_path / "parts", checkpoint=latest(tmp_path / "parts" / "checkpoints"))
    finally:
        moved.rename(source)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert summary(tmp_path / "whole")["init_from"] == summary(tmp_path / "parts")["init_from"]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["transfer=linear"], "transfer=linear needs trained weights; give init_from=RUN"),
        (["transfer=scratch"], "transfer=scratch trains the model of init_from without its weights"),
        (["init_from=fast_4m", "transfer=partial"], "transfer=partial needs unfreeze=K"),
        (["init_from=fast_4m", "unfreeze=2"], "unfreeze=K needs transfer=partial"),
        (["init_from=fast_4m", "transfer=partial", "unfreeze=0"], "unfreeze=0 must be positive"),
        (["optim.layer_decay=0"], r"optim\.layer_decay=0\.0 must lie in \(0, 1\]"),
    ],
)
def test_settings_that_do_not_go_together_are_a_sentence(settings: list[str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        check(settings)


def test_images_of_a_size_that_the_model_does_not_take(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    digits = ["data=digits", "data.fraction=0.01", "augment=none", "logger=none", "accelerator=cpu", "steps=1"]
    digits += ["data.val_size=0", "data.eval_batch_size=8", "trainer.limit_test_batches=1"]

    def start(name: str, *settings: str) -> None:
        (tmp_path / name).mkdir()
        train(as_train(resolve(compose_config([*digits, *settings]))), tmp_path / name)

    start("source", "model=convit_tiny")
    with pytest.raises(ValueError, match=r"does not take images of 48 pixels .*; set data\.image_size to that of its"):
        start("larger", f"init_from={tmp_path / 'source'}", "data.image_size=48")


def test_a_temperature_is_of_enough_images_that_are_new(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, settings in {
        "enough": ["data.val_size=180"],
        "few": ["data.val_size=90"],
        "same split": ["data.val_size=180", f"init_from={tmp_path / 'enough'}"],
        "seen": ["data.val_size=180", "seed=1", f"init_from={tmp_path / 'enough'}"],
    }.items():
        caplog.clear()
        run(tmp_path / name, "steps=2", "optim.warmup_epochs=0", *settings)
        assert ("perhaps on the 180 validation images" in caplog.text) is (name == "seen")  # another split
        description = json.loads((tmp_path / name / "model.json").read_text())
        assert ("temperature" in description) is (name in ("enough", "same split"))


def test_which_validation_images_a_source_may_know(tmp_path: Path) -> None:
    def run(name: str, source: str, root: str | None = None, before: str | None = None) -> str:
        data = {"source": source, "root": root, "val_size": 10}
        description = {"data": data, "class_names": [], "mean": [], "std": [], "image_size": 32, "seed": 0, "model": {}}
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "model.json", description)
        write_weights(tmp_path / name, nn.Linear(1, 1).state_dict())
        write_json(tmp_path / name / "summary.json", {"init_from": origin(tmp_path / before)} if before else {})
        return str(tmp_path / name)

    runs = {
        "folder": run("folder", "folder", str(tmp_path / "a")),
        "cifar100": run("cifar100", "cifar100"),
        "cifar10": run("cifar10", "cifar10", before="cifar100"),
        "cifar110": run("cifar110", "cifar110", before="cifar100"),
        "grandchild": run("grandchild", "folder", str(tmp_path / "a"), before="cifar10"),
    }
    for name, seed, source, root, expected in (
        ("folder", 1, "folder", "a", True),
        ("folder", 0, "folder", "a", False),
        ("folder", 1, "folder", "b", False),
        ("folder", 1, "cifar10", "a", False),
        ("cifar100", 0, "cifar100", "", False),
        ("cifar100", 0, "cifar10", "", False),
        ("cifar100", 0, "cifar110", "", True),
        ("cifar110", 0, "cifar10", "", True),
        ("cifar110", 0, "cifar100", "", True),
        ("cifar10", 0, "cifar100", "", True),
        ("grandchild", 0, "cifar100", "", True),
        ("grandchild", 0, "digits", "", False),
    ):
        settings = SimpleNamespace(source=source, root=str(tmp_path / root), val_size=10)
        config: Any = SimpleNamespace(seed=seed, data=settings)
        data: Any = SimpleNamespace(sizes={"val": 10})
        assert may_know_validation(runs[name], config, data) is expected, (name, seed, source, root)


def test_the_dropout_of_a_classifier_is_trained_with_it() -> None:
    net = nn.Module()
    net.body, net.head_drop, net.head = nn.Linear(2, 2), nn.Dropout(), nn.Linear(2, 2)
    net.body.requires_grad_(False)
    train_unfrozen(net)
    assert net.head_drop.training and net.head.training and not net.body.training


def test_validation_images_of_the_data_itself_are_not_known(tmp_path: Path) -> None:
    own, settings = {"images": 9, "sha256": "a"}, {"source": "medmnist", "root": str(tmp_path), "val_size": None}
    description = {"data": settings, "class_names": [], "mean": [], "std": [], "image_size": 32, "seed": 0, "model": {}}
    write_json(tmp_path / "model.json", description | {"fingerprint": {"class_names": [], "val": own}})
    write_weights(tmp_path, nn.Linear(1, 1).state_dict())
    write_json(tmp_path / "summary.json", {})
    config: Any = SimpleNamespace(seed=1, data=SimpleNamespace(**settings))
    for checksum, known in (("a", False), ("b", True)):
        data: Any = SimpleNamespace(sizes={"val": 9}, fingerprint=lambda s=checksum: {"val": own | {"sha256": s}})
        assert may_know_validation(str(tmp_path), config, data) is known
