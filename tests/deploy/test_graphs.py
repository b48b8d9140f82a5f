"""Graphs: every model of ours becomes one for batches of any size, with the same logits."""

import pytest
import torch

from hybrid_vit.config.build import build
from hybrid_vit.config.compose import compose_config, resolve
from hybrid_vit.deploy.graphs import Portable, trace
from hybrid_vit.fast import set_attention, set_hybrid

SMALL = ["model.embed_dim=32", "model.depth=1", "model.num_heads=2"]
MODELS = {
    "hybrid_192": SMALL,
    "hybrid_tiny": SMALL,
    "hybrid_384": SMALL,
    "cct_7_3x1": SMALL,
    "vit_192": SMALL,
    "deit_tiny_distilled": SMALL,
    "wrn_16_8": ["model.width=1"],
}
FORMS = {
    **{name: [f"model={name}", *small] for name, small in MODELS.items()},
    "conv_mlp": ["model=hybrid_tiny", "model.mlp=conv", "model.rel_pos_bias=true", "model.reg_tokens=2", *SMALL],
    "explicit": ["model=hybrid_tiny", *SMALL],
    "ensemble": ["model=hybrid_tiny", *SMALL],
}


# So small, hybrids are hybrid_tiny with other strides of the stem; deit_tiny_distilled has the patches of vit_192.
SLOW = ("hybrid_192", "hybrid_384", "vit_192")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in FORMS]
)
def test_a_graph_takes_a_batch_of_any_size(name: str) -> None:
    torch.manual_seed(0)
    spec = resolve(compose_config(FORMS[name]))["model"] | {"num_classes": 7}
    if name == "ensemble":
        spec = {"_target_": "hybrid_vit.models.Ensemble", "members": [spec, spec]}
    net = build(spec).eval()
    set_hybrid(net, 2)
    if name == "explicit":
        set_attention(net, "explicit")
    graph = trace(Portable(net), 32).module()
    for images in (1, 2, 7):
        x = torch.randn(images, 3, 32, 32)
        torch.testing.assert_close(graph(x), net(x), rtol=1e-5, atol=1e-5)
