"""The hybrid against a plain implementation of the published table and timm, its options, its initial weights."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybrid_vit.fast import set_hybrid
from hybrid_vit.models import (
    ConvStem,
    HybridViT,
    MobileStem,
    PatchStem,
    ResNetStem,
    TokenizerStem,
    WhitenedStem,
    hybrid_vit,
)

PUBLISHED: dict[str, dict[str, Any]] = {
    "hybrid_192": {
        "grid": 16,
        "model": {"embed_dim": 192, "depth": 6},
        "plain": {"strides": (1, 2, 1), "blocks": 6, "heads": 6},
    },
    "hybrid_384": {
        "grid": 8,
        "model": {"embed_dim": 384, "depth": 8, "num_heads": 6, "qkv_bias": False},
        "plain": {"strides": (1, 2, 2), "blocks": 8, "heads": 6},
    },
}


def published(name: str, rate: float = 0.0) -> HybridViT:
    arguments = PUBLISHED[name]["model"]
    return hybrid_vit(
        stem=ConvStem(embed_dim=arguments["embed_dim"], grid=PUBLISHED[name]["grid"]),
        num_classes=100,
        pos_drop_rate=rate,
        proj_drop_rate=rate,
        drop_path_rate=rate,
        **arguments,
    )


def plain_hybrid(
    w: dict[str, Tensor], x: Tensor, *, strides: tuple[int, ...], blocks: int, heads: int, training: bool
) -> Tensor:
    """The published table written out, without a module."""
    for i, stride in enumerate(strides):
        x = F.conv2d(x, w[f"patch_embed.{i}.0.weight"], stride=stride, padding=1)
        norm = f"patch_embed.{i}.1."
        statistics = (None, None) if training else (w[norm + "running_mean"], w[norm + "running_var"])
        x = F.batch_norm(x, *statistics, w[norm + "weight"], w[norm + "bias"], training, eps=1e-5).clamp(min=0)
    B, D, h, width = x.shape
    x = x.reshape(B, D, h * width).permute(0, 2, 1)
    x = torch.cat([w["cls_token"].repeat(B, 1, 1), x], 1) + w["pos_embed"]

    def norm_of(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (D,), w[name + ".weight"], w[name + ".bias"], 1e-6)

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ w[name + ".weight"].T + w.get(name + ".bias", torch.zeros(1))

    for i in range(blocks):
        b = f"blocks.{i}."
        q, k, v = linear(norm_of(x, b + "norm1"), b + "attn.qkv").split(D, dim=-1)
        q, k, v = (part.reshape(B, -1, heads, D // heads).transpose(1, 2) for part in (q, k, v))
        weights = torch.softmax(q @ k.transpose(2, 3) / (D // heads) ** 0.5, dim=-1)
        x = x + linear((weights @ v).transpose(1, 2).reshape(B, -1, D), b + "attn.proj")
        hidden = linear(norm_of(x, b + "norm2"), b + "mlp.fc1")
        hidden = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
        x = x + linear(hidden, b + "mlp.fc2")
    return linear(norm_of(x, "norm")[:, 0], "head")


def shake(model: nn.Module) -> None:
    """Move every parameter and statistic from its initial value, so that none can be left out unnoticed."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 2)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_logits_are_those_of_the_published_table(name: str, training: bool) -> None:
    torch.manual_seed(0)
    model = published(name, rate=0.0 if training else 0.1).train(training)
    shake(model)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        logits = model(images)
        expected = plain_hybrid(state, images, **PUBLISHED[name]["plain"], training=training)
    assert logits.std() > 0.1
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


def test_dropout_acts_in_training() -> None:
    torch.manual_seed(0)
    model = hybrid_vit(stem=PatchStem(embed_dim=32, grid=4), num_classes=5, embed_dim=32, depth=1, pos_drop_rate=0.5)
    images = torch.randn(2, 3, 32, 32)
    assert not torch.equal(model(images), model(images))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # timm's own, while it is imported
@pytest.mark.parametrize(
    ("name", "both", "theirs", "ours"),
    [
        ("vit_tiny_patch16_224", {"depth": 12}, {}, {}),
        ("deit_tiny_distilled_patch16_224", {}, {}, {"pool": "distilled"}),
        ("vit_tiny_patch16_224", {"reg_tokens": 3}, {}, {}),
        ("vit_tiny_patch16_224", {"init_values": 0.1, "qk_norm": True}, {}, {}),
        ("vit_tiny_patch16_224", {"qk_norm": True}, {"norm_layer": "rmsnorm"}, {"norm": "rms"}),
        (
            "vit_tiny_patch16_224",
            {"reg_tokens": 2},
            {"class_token": False, "global_pool": "avg", "fc_norm": False},
            {"pool": "mean"},
        ),
        (
            "vit_relpos_small_patch16_224",
            {"init_values": 0.1, "qk_norm": True, "qkv_bias": False},
            {"class_token": False, "fc_norm": False, "rel_pos_type": "bias"},
            {"pool": "mean", "pos_embed": "none", "rel_pos_bias": True},
        ),
    ],
    ids=["plain", "distilled", "registers", "layer scale, qk norm", "rms", "registers, mean", "relative positions"],
)
def test_a_timm_vit_loads_and_gives_its_logits(name: str, both: dict, theirs: dict, ours: dict) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    both = {"num_classes": 100, "embed_dim": 192, "depth": 2, "num_heads": 3, **both}
    theirs = timm.create_model(name, img_size=32, patch_size=4, **both, **theirs).eval()
    shake(theirs)
    ours = hybrid_vit(stem=PatchStem(embed_dim=192, grid=8), **both, **ours).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.forward_features(images), theirs.forward_features(images), rtol=1e-5, atol=1e-5)
    assert {*theirs.no_weight_decay()} & ours.state_dict().keys() <= ours.no_weight_decay()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # timm's own, while it is imported
@pytest.mark.parametrize("indices", [None, 2, [0, 2], [-1], [2, 0, -3], 0, []])
@pytest.mark.parametrize("norm", [False, True])
def test_intermediate_maps_are_timms(indices: Any, norm: bool) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    both = {"num_classes": 100, "embed_dim": 192, "depth": 3, "num_heads": 3, "reg_tokens": 2}
    theirs = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=4, dynamic_img_size=True, **both).eval()
    shake(theirs)
    ours = hybrid_vit(stem=PatchStem(embed_dim=192, grid=8), **both).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    set_hybrid(ours, 2)
    images = torch.randn(2, 3, 24, 40)
    with torch.no_grad():
        features, maps = ours.forward_intermediates(images, indices, norm=norm)
        torch.testing.assert_close(features, ours.forward_features(images), rtol=0, atol=0)
        if not indices and indices is not None:  # timm has no answer to nothing
            assert maps == []
            return
        torch.testing.assert_close(
            (features, maps), theirs.forward_intermediates(images, indices, norm=norm), rtol=1e-5, atol=2e-5
        )
    assert maps[0].shape == (2, 192, 6, 10)


@pytest.mark.parametrize("indices", [3, -1, [2], [-3, 0]])
def test_a_block_that_is_not_there_is_a_sentence(indices: Any) -> None:
    model = hybrid_vit(stem=PatchStem(embed_dim=32, grid=4), num_classes=3, embed_dim=32, depth=2)
    with pytest.raises(ValueError, match=r"of 2 blocks; use 0 to 1, or -1 for the last"):
        model.forward_intermediates(torch.zeros(1, 3, 32, 32), indices)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # timm's own, while it is imported
@pytest.mark.parametrize("size", [(32, 32), (24, 40), (64, 32), (16, 16)])
def test_images_of_other_sizes_give_the_logits_of_timms_dynamic_vit(size: tuple[int, int]) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    both = {"num_classes": 100, "embed_dim": 192, "depth": 2, "num_heads": 3, "reg_tokens": 2}
    theirs = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=4, dynamic_img_size=True, **both).eval()
    shake(theirs)
    ours = hybrid_vit(stem=PatchStem(embed_dim=192, grid=8), **both).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pool", ["cls", "mean", "sequence"])
@pytest.mark.parametrize("pos_embed", ["learned", "sincos", "none"])
@pytest.mark.parametrize("stem", [ConvStem, PatchStem])
def test_options_keep_the_shapes_and_train_every_parameter(stem: Any, pos_embed: Any, pool: Any) -> None:
    torch.manual_seed(0)
    model = hybrid_vit(
        stem=stem(embed_dim=32, grid=4), num_classes=7, embed_dim=32, depth=2, pos_embed=pos_embed, pool=pool
    )
    images = torch.randn(3, 3, 32, 32)
    tokens = 16 + (pool == "cls")
    assert model.forward_features(images).shape == (3, tokens, 32)
    logits = model(images)
    assert logits.shape == (3, 7)
    F.cross_entropy(logits, torch.tensor([0, 3, 6])).backward()
    still = [name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert set(still) <= {"pool.attention.bias"}  # a softmax does not see it
    assert ("cls_token" in model.state_dict()) == (pool == "cls")
    assert ("pos_embed" in dict(model.named_parameters())) == (pos_embed == "learned")


EVERYTHING = {
    "norm": "rms",
    "qk_norm": True,
    "init_values": 0.1,
    "mlp": "conv",
    "rel_pos_bias": True,
    "reg_tokens": 2,
}
OPTIONS = [{key: value} for key, value in EVERYTHING.items()]


@pytest.mark.parametrize("pool", ["cls", "mean", "sequence", "maxmean"])
@pytest.mark.parametrize("options", [*OPTIONS, EVERYTHING], ids=[*EVERYTHING, "everything"])
def test_encoder_options_train_every_parameter_record_and_do_not_depend_on_shards(options: dict, pool: Any) -> None:
    torch.manual_seed(0)
    model = hybrid_vit(stem=PatchStem(embed_dim=32, grid=4), num_classes=7, embed_dim=32, depth=2, pool=pool, **options)
    images, labels = torch.randn(32, 3, 32, 32), torch.arange(32) % 7
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    F.cross_entropy(model(images), labels).backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    still = {name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])}
    # A softmax does not see what all its scores share, nor a pool what the last block does to tokens it leaves out.
    unseen = {"pool.attention.bias", "blocks.0.attn.k_norm.bias", "blocks.1.attn.k_norm.bias"}
    left_out = "blocks.1.attn.rel_pos" if pool == "cls" else "blocks.1.mlp.recalibration"
    assert {name for name in still - unseen if not name.startswith(left_out)} == set()
    model.eval()
    with torch.no_grad():
        plain = model(images)
        set_hybrid(model, 3)
        torch.testing.assert_close(model(images), plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stem", [ConvStem, ResNetStem, MobileStem, TokenizerStem, PatchStem, WhitenedStem])
def test_every_stem_and_option_trains_on_rectangles_whole_in_shards_and_trimmed(stem: Any) -> None:
    torch.manual_seed(0)
    model = hybrid_vit(stem=stem(embed_dim=32, grid=4), num_classes=7, embed_dim=32, depth=2, **EVERYTHING)
    images = torch.randn(8, 3, 40, 56)
    F.cross_entropy(model(images), torch.arange(8) % 7).backward()
    for name in ("pos_embed", "blocks.0.attn.rel_pos.relative_position_bias_table"):
        assert model.get_parameter(name).grad.any()
    model.eval()
    with torch.no_grad():
        plain = model(images)
        assert model.forward_features(images).shape == (8, 3 + 5 * 7, 32)
        set_hybrid(model, 2)
        torch.testing.assert_close(model(images), plain, rtol=1e-4, atol=1e-5)


def test_registers_are_not_pooled_and_stand_after_the_class_token() -> None:
    torch.manual_seed(0)
    tokens = torch.randn(2, 1 + 3 + 16, 32)
    for pool, read in (("cls", tokens[:, :1]), ("mean", tokens[:, 4:])):
        model = hybrid_vit(
            stem=PatchStem(embed_dim=32, grid=4), num_classes=3, embed_dim=32, depth=1, pool=pool, reg_tokens=3
        )
        given = tokens if pool == "cls" else tokens[:, 1:]
        torch.testing.assert_close(model.forward_head(given), model.head(read.mean(dim=1)))
        assert model.pos_embed.shape == (1, given.shape[1], 32)


def test_what_is_off_leaves_no_trace() -> None:
    keys = hybrid_vit(stem=PatchStem(embed_dim=32), num_classes=3, embed_dim=32, depth=1).state_dict().keys()
    layers = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
    named = ["patch_embed.proj", *(f"blocks.0.{layer}" for layer in layers), "norm", "head"]
    assert {*keys} == {"cls_token", "pos_embed"} | {f"{name}.{part}" for name in named for part in ("weight", "bias")}


def test_pools_read_what_they_say() -> None:
    torch.manual_seed(0)
    tokens = torch.randn(2, 5, 32)
    pools = {}
    for name in ("cls", "mean", "sequence", "maxmean"):
        model = hybrid_vit(stem=PatchStem(embed_dim=32, grid=4), num_classes=3, embed_dim=32, depth=1, pool=name)
        pools[name] = model.pool
        torch.testing.assert_close(model.forward_head(tokens), model.head(model.pool(tokens)))
    assert torch.equal(pools["cls"](tokens), tokens[:, 0])
    torch.testing.assert_close(pools["mean"](tokens), tokens.sum(1) / 5)
    torch.testing.assert_close(pools["maxmean"](tokens), tokens.max(dim=1).values + tokens.sum(1) / 5)
    scores = (tokens @ pools["sequence"].attention.weight.T + pools["sequence"].attention.bias).exp()
    torch.testing.assert_close(pools["sequence"](tokens), (tokens * scores / scores.sum(1, keepdim=True)).sum(1))


def test_without_positions_the_order_of_the_patches_does_not_matter() -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 3, 32, 32)
    turned = images.roll(8, dims=2)
    differences = {}
    for pos_embed in ("none", "sincos"):
        model = hybrid_vit(
            stem=PatchStem(embed_dim=32, grid=4), num_classes=3, embed_dim=32, depth=2, pos_embed=pos_embed
        ).eval()
        with torch.no_grad():
            differences[pos_embed] = (model(images) - model(turned)).abs().max()
    assert differences["none"] < 1e-5 < 1e-3 < differences["sincos"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"pool": "max"}, r"model\.pool 'max' is unknown; use one of cls, distilled, mean, sequence"),
        ({"pos_embed": "rope"}, r"model\.pos_embed 'rope' is unknown; use one of learned, sincos, none"),
        ({"norm": "batch"}, r"model\.norm 'batch' is unknown; use one of layer, rms"),
        ({"mlp": "glu"}, r"model\.mlp 'glu' is unknown; use one of linear, conv"),
        (
            {"embed_dim": 30, "num_heads": 3, "pos_embed": "sincos"},
            r"pos_embed=sincos .*by 4, not 30; use 32",
        ),
    ],
)
def test_what_does_not_fit_is_a_sentence_with_the_remedy(arguments: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        hybrid_vit(
            stem=PatchStem(embed_dim=arguments.get("embed_dim", 32)),
            num_classes=3,
            **{"embed_dim": 32, "depth": 1, **arguments},
        )


def test_the_stem_is_as_wide_as_the_blocks() -> None:
    with pytest.raises(ValueError, match=r"stem\.embed_dim 64 is not model\.embed_dim 32; set both to one value"):
        hybrid_vit(stem=PatchStem(embed_dim=64), num_classes=3, embed_dim=32)


def test_initial_weights_have_the_published_distributions() -> None:
    torch.manual_seed(0)
    model = published("hybrid_192").requires_grad_(False)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            fan_out, fan_in = module.weight.shape
            bound = (6 / (fan_in + fan_out)) ** 0.5
            assert bound * 0.99 < module.weight.abs().max() <= bound, name
            assert module.weight.std() == pytest.approx(bound / 3**0.5, rel=0.02), name
        elif isinstance(module, nn.Conv2d):
            std = (2 / (module.out_channels * 9)) ** 0.5
            assert module.weight.std() == pytest.approx(std, rel=0.08), name
            assert module.weight.abs().max() > 2.5 * std, f"{name} is not normal"
        elif isinstance(module, nn.LayerNorm | nn.BatchNorm2d):
            assert torch.equal(module.weight, torch.ones_like(module.weight)), name
        if getattr(module, "bias", None) is not None:
            assert not module.bias.any(), name
    assert model.pos_embed.std() == pytest.approx(0.02, rel=0.02)
    assert model.cls_token.std() == pytest.approx(0.02, rel=0.25)
    assert abs(float(model.pos_embed.mean())) < 5 * 0.02 / model.pos_embed.numel() ** 0.5


def test_the_seed_determines_the_weights() -> None:
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(hybrid_vit(stem=ConvStem(embed_dim=32), num_classes=3, embed_dim=32, depth=1).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(states[0]["head.weight"], states[2]["head.weight"])
