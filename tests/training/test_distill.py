"""Distillation: the loss against its formula, and whole trainings that start from another run or learn from it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

import hybrid_vit
from hybrid_vit.config.compose import as_train, compose_config, resolve
from hybrid_vit.training.distill import Distillation
from hybrid_vit.training.run import train
from hybrid_vit.utils.files import write_json

TINY = [
    *("data=digits", "augment=none", "logger=none", "accelerator=cpu", "epochs=1"),
    *("data.fraction=0.2", "batch_size=51"),
    *("model.embed_dim=32", "model.depth=1", "model.stem.depth=2", "model.stem.grid=8", "optim.warmup_epochs=0"),
]

pytestmark = pytest.mark.usefixtures("without_pictures")


def run(directory: Path, *overrides: str) -> Path:
    directory.mkdir()
    train(as_train(resolve(compose_config([*TINY, *overrides]))), directory)
    return directory


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("teacher") / "run")


@pytest.mark.parametrize("token", [False, True])
@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_the_loss_is_its_formula(kind: str, token: bool) -> None:
    torch.manual_seed(0)
    net, images = nn.Linear(3, 5), torch.randn(4, 3)
    answers = torch.randn(4, 2, 5) if token else torch.randn(4, 5)
    student, taught = answers[:, 1] if token else answers, net(images)
    if kind == "hard":
        lesson = -student.log_softmax(1)[range(4), taught.argmax(1)].mean()
    else:
        p, q = (taught / 2).softmax(1), (student / 2).softmax(1)
        lesson = 4 * (p * (p / q).log()).sum(1).mean()
    distill = Distillation(net, kind=kind, alpha=0.3, temperature=2.0)
    torch.testing.assert_close(distill(torch.tensor(7.0), answers, images), 0.7 * 7 + 0.3 * lesson)


def test_a_teacher_stays_as_it_is() -> None:
    net = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5))
    distill = Distillation(net).train()
    answers = torch.randn(4, 5, requires_grad=True)
    distill(F.cross_entropy(answers, torch.arange(4)), answers, torch.randn(4, 3)).backward()
    assert answers.grad is not None
    assert all(weight.grad is None for weight in net.parameters())
    assert (net[1].running_mean == 0).all()
    assert not net.training


def test_a_student_learns_from_a_run(teacher: Path, tmp_path: Path) -> None:
    alone, taught = run(tmp_path / "alone"), run(tmp_path / "taught", f"distill.teacher={teacher}", "distill.kind=soft")
    weights = [load_file(directory / "model.safetensors") for directory in (alone, taught)]
    assert weights[0].keys() == weights[1].keys()  # the teacher is no part of what is learned
    assert any(not torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    saved = torch.load(taught / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert not [key for key in saved if key.startswith("distill")]
    longer = as_train(resolve(compose_config([*TINY, f"distill.teacher={teacher}", "distill.kind=soft", "epochs=2"])))
    train(longer, taught, checkpoint=taught / "checkpoints/last.ckpt")
    assert json.loads((taught / "summary.json").read_text())["epochs"] == 2


def test_a_teacher_that_may_know_the_validation_images(
    teacher: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for seed in (0, 1):
        caplog.clear()
        run(tmp_path / f"{seed}", f"distill.teacher={teacher}", f"seed={seed}")
        assert ("perhaps on the" in caplog.text) is (seed == 1)  # another split than the teacher's


def test_a_distillation_token_learns_from_the_teacher(teacher: Path, tmp_path: Path) -> None:
    student = run(
        tmp_path / "student", f"distill.teacher={teacher}", "model.pool=distilled", "ema.decay=0", "score=raw"
    )
    net, images = hybrid_vit.load(student).net, torch.randn(2, 3, 32, 32)
    answers = net.train()(images)
    assert answers.shape == (2, 2, 10)
    answers[:, 1].sum().backward()
    assert net.head_dist.weight.grad.any()
    assert not (net.head.weight.grad is not None and net.head.weight.grad.any())


def test_a_teacher_that_may_have_seen_the_test_images(teacher: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(teacher, tmp_path / "teacher"))
    description = json.loads((other / "model.json").read_text())
    description["fingerprint"]["test"]["sha256"] = "of other images"
    write_json(other / "model.json", description)
    with pytest.raises(ValueError, match="was trained with another test set"):
        run(tmp_path / "student", f"distill.teacher={other}")


def test_a_teacher_of_other_data_is_a_sentence(teacher: Path, tmp_path: Path) -> None:
    description = json.loads((teacher / "model.json").read_text())
    other = tmp_path / "other"
    other.mkdir()
    for name in ("summary.json", "model.safetensors"):
        (other / name).write_bytes((teacher / name).read_bytes())
    (other / "model.json").write_text(json.dumps(description | {"mean": [0.0, 0.0, 0.0]}))
    with pytest.raises(ValueError, match=r"distill\.teacher=.* was trained on other classes"):
        run(tmp_path / "student", f"distill.teacher={other}")


def test_a_run_starts_from_another(teacher: Path, tmp_path: Path) -> None:
    rate = "optim.lr=1e-30"  # what it starts from is what it ends with
    there, fresh = load_file(teacher / "model.safetensors"), run(tmp_path / "fresh", rate, "ema.decay=0", "score=raw")
    started = run(tmp_path / "started", rate, "ema.decay=0", "score=raw", f"init_from={teacher}")
    ours = load_file(started / "model.safetensors")
    for key in ours:
        if "running" not in key and "tracked" not in key:
            torch.testing.assert_close(ours[key], there[key])
    assert [json.loads((path / "summary.json").read_text())["pretrained"] for path in (started, fresh)] == [True, False]
    with pytest.raises(ValueError, match=r"model\.safetensors holds the weights of another model"):
        run(tmp_path / "deeper", "model.depth=2", f"init_from={teacher}")
