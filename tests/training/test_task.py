"""The task, trained for a few steps by Lightning: its loss, clipping, learning rate, and whose scores it reports."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn

from hybrid_vit.training.ema import EMA
from hybrid_vit.training.optim import Schedule, adamw, sgd
from hybrid_vit.training.task import Classification

# Lightning 2.6 asks torch's trees in a way that torch 2.14 deprecates.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning"),
    # The average is in eval mode, and is meant to be.
    pytest.mark.filterwarnings("ignore:Found . module.s. in eval mode at the start of training"),
]

CLASSES = 7
Batches = list[tuple[Tensor, Tensor]]


def batches(count: int, *, size: int = 16, seed: int = 0, scale: float = 1.0) -> Batches:
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            scale * torch.randn(size, 3, 4, 4, generator=generator),
            torch.randint(CLASSES, (size,), generator=generator),
        )
        for _ in range(count)
    ]


def network(dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(48, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, CLASSES)
    )


def plain_sgd(net: nn.Module) -> torch.optim.Optimizer:
    return sgd(net, lr=1.0, weight_decay=0.0, momentum=0.0, nesterov=False)


def classification(net: nn.Module, *, epochs: int = 1, steps: int = 1, **arguments: Any) -> Classification:
    return Classification(
        **{
            "net": net,
            "optimizer": plain_sgd,
            "schedule": Schedule(lr=1.0, epochs=epochs),
            "steps_per_epoch": steps,
            **arguments,
        }
    )


class Loader:
    """Batches in their order; a list would be several loaders to Lightning."""

    def __init__(self, data: Batches) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.data)


class Watch(Callback):
    """Every step's loss and every learning rate that was used."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.rates: list[float] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: torch.optim.Optimizer) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(float(outputs["loss"]))


def fit(task: Classification, train: Batches, *val: Batches, epochs: int = 1, precision: Any = "32-true") -> Watch:
    watch = Watch()
    trainer = Trainer(
        accelerator="cpu",
        precision=precision,
        max_epochs=epochs,
        callbacks=[watch],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )
    trainer.fit(task, Loader(train), [Loader(data) for data in val or [batches(1, seed=9)]])
    return watch


def flat(net: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().clone().flatten() for parameter in net.parameters()])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_cross_entropy_with_smoothed_labels(smoothing: float) -> None:
    net = network()
    ((images, labels),) = train = batches(1)
    log_p = net(images).detach().log_softmax(1)
    smoothed = (1 - smoothing) * F.one_hot(labels, CLASSES) + smoothing / CLASSES
    expected = float(-(smoothed * log_p).sum(1).mean())
    task = classification(net, label_smoothing=smoothing)
    assert fit(task, train).losses == [pytest.approx(expected, rel=1e-5)]
    assert float(task.trainer.callback_metrics["train_loss"]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("clip_norm", [0.05, 1e6, None])
def test_clipping_bounds_the_global_norm(clip_norm: float | None) -> None:
    net = network()
    train = batches(1)
    gradients = torch.autograd.grad(F.cross_entropy(net(train[0][0]), train[0][1]), [*net.parameters()])
    norm = float(torch.cat([gradient.flatten() for gradient in gradients]).norm())
    assert norm > 0.1
    before = flat(net)
    fit(classification(net, clip_norm=clip_norm), train)
    moved = flat(net) - before  # with plain SGD and lr 1: minus the clipped gradient
    assert float(moved.norm()) == pytest.approx(min(norm, clip_norm or norm), rel=1e-4)
    direction = -torch.cat([gradient.flatten() for gradient in gradients]) / norm
    torch.testing.assert_close(moved / moved.norm(), direction, rtol=1e-3, atol=1e-5)


def test_clipping_with_a_fused_optimizer_in_mixed_precision() -> None:
    norms: list[float] = []

    def watched(net: nn.Module) -> torch.optim.Optimizer:
        optimizer = adamw(net, lr=0.01, weight_decay=0.05)
        optimizer.register_step_post_hook(
            lambda *_: norms.append(float(torch.cat([p.grad.flatten() for p in net.parameters()]).norm()))
        )
        return optimizer

    task = classification(network(), steps=3, optimizer=watched, clip_norm=0.05)
    fit(task, batches(3), precision="bf16-mixed")
    assert norms == [pytest.approx(0.05, rel=1e-3)] * 3


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_the_learning_rate_follows_the_schedule(interval: Any) -> None:
    schedule = Schedule(lr=1.0, epochs=5, warmup_epochs=2, interval=interval)
    watch = fit(classification(network(), schedule=schedule, steps=3), batches(3), epochs=5)
    times = [i / 3 if interval == "step" else i // 3 for i in range(15)]
    assert watch.rates == pytest.approx([schedule.factor(t) for t in times])
    assert len(set(watch.rates)) > 2


def by_hand(net: nn.Module, data: Batches) -> dict[str, float]:
    net.eval()
    logits = torch.cat([net(images) for images, _ in data]).detach()
    labels = torch.cat([labels for _, labels in data])
    return {
        "loss": float(F.cross_entropy(logits, labels)),
        "top1": 100 * float((logits.argmax(1) == labels).float().mean()),
        "top5": 100 * float((logits.argsort(1, descending=True)[:, :5] == labels[:, None]).any(1).float().mean()),
    }


@pytest.mark.parametrize("score", ["ema", "raw"])
def test_the_scored_network_is_the_one_it_says(score: str) -> None:
    net = network()
    ema = EMA(net, decay=0.9, warmup=False)
    task = classification(
        net, steps=4, schedule=Schedule(lr=1.0, epochs=9), ema=ema, score=score, eval_names=("val", "published_test")
    )
    val, published = [*batches(2, seed=1), *batches(1, seed=2, size=5)], batches(2, seed=3)
    fit(task, batches(4), val, published, epochs=2)
    assert ema.num_updates == 8
    assert task.scored is (ema.net if score == "ema" else net)
    metrics = {key: float(value) for key, value in task.trainer.callback_metrics.items()}
    for name, data in (("val", val), ("published_test", published)):
        raw, averaged = by_hand(net, data), by_hand(ema.net, data)
        assert raw["loss"] != pytest.approx(averaged["loss"], rel=1e-3), "the test cannot tell them apart"
        for key, value in (averaged if score == "ema" else raw).items():
            assert metrics[f"{name}_{key}"] == pytest.approx(value, rel=1e-5)


def test_without_an_average_the_network_itself_is_scored() -> None:
    net = network()
    task = classification(net, ema=None)
    data = batches(2, seed=5)
    fit(task, batches(1), data)
    assert task.scored is net
    for key, value in by_hand(net, data).items():
        assert float(task.trainer.callback_metrics[f"val_{key}"]) == pytest.approx(value, rel=1e-5)


def test_train_scores_are_those_of_the_last_epoch_alone() -> None:
    task = classification(network(), steps=3, schedule=Schedule(lr=0.1, epochs=2))
    watch = fit(task, batches(3), epochs=2)
    assert float(task.trainer.callback_metrics["train_loss"]) == pytest.approx(sum(watch.losses[3:]) / 3, rel=1e-5)


def test_the_average_follows_the_weights_after_each_step() -> None:
    net = network()
    ema = EMA(net, decay=0.9)
    expected = flat(net)
    seen: list[Tensor] = []

    def watched(net: nn.Module) -> torch.optim.Optimizer:
        optimizer = plain_sgd(net)
        optimizer.register_step_post_hook(lambda *_: seen.append(flat(net)))
        return optimizer

    fit(classification(net, steps=4, ema=ema, optimizer=watched), batches(4))
    assert len(seen) == 4
    for n, weights in enumerate(seen):
        d = min(0.9, (1 + n) / (10 + n))
        expected = d * expected + (1 - d) * weights
    torch.testing.assert_close(flat(ema.net), expected, rtol=1e-5, atol=1e-6)


def trained(seed: int) -> tuple[Tensor, list[float]]:
    net = network(dropout=0.5)
    torch.manual_seed(torch.seed())  # what was drawn before must not matter
    task = classification(net, steps=4, schedule=Schedule(lr=0.5, epochs=2), seed=seed)
    watch = fit(task, batches(4), epochs=2)
    return flat(net), watch.losses


def test_the_seed_determines_the_training_to_the_bit() -> None:
    (first, losses), (again, losses_again), (other, _) = trained(1), trained(1), trained(2)
    assert torch.equal(first, again)
    assert losses == losses_again
    assert not torch.equal(first, other)


def test_dropout_differs_from_step_to_step_and_from_epoch_to_epoch() -> None:
    draws: list[Tensor] = []

    class Recorder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(48, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                draws.append(torch.rand(8))
            return self.linear(x.flatten(1))

    fit(classification(Recorder(), steps=2, schedule=Schedule(lr=0.1, epochs=2)), batches(2), epochs=2)
    assert len({tuple(draw.tolist()) for draw in draws}) == len(draws) == 4
