"""What is chosen on which machine, what overrides it, and the sentence for a machine that is not there."""

import platform
from copy import deepcopy
from pathlib import Path

import pytest
import torch

from hybrid_vit import build_model
from hybrid_vit.fast import accelerator
from hybrid_vit.fast.accelerator import Choice, choose, cpu_name


def machine(
    monkeypatch: pytest.MonkeyPatch,
    *,
    amx: bool = False,
    dot: bool = False,
    cuda: bool = False,
    bf16: bool = True,
    mps: bool = False,
    triton: bool = True,
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: dot)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16 and not including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA Test")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(accelerator, "can_compile", lambda: triton)
    monkeypatch.setattr(accelerator, "cpu_name", lambda: "Test CPU")


def parts(choice: Choice) -> tuple[str, str, str, bool]:
    return choice.accelerator, choice.precision, choice.attention, choice.compile


@pytest.mark.parametrize(
    ("there", "expected", "reason"),
    [
        ({}, ("cpu", "32-true", "fused", False), "Test CPU: no bf16 units"),
        ({"dot": True}, ("cpu", "bf16-mixed", "explicit", False), "Test CPU: bf16 dot products"),
        ({"amx": True, "dot": True}, ("cpu", "bf16-mixed", "explicit", False), "Test CPU: bf16 matrix units"),
        ({"cuda": True}, ("gpu", "bf16-mixed", "fused", True), "NVIDIA Test: bf16"),
        ({"cuda": True, "amx": True}, ("gpu", "bf16-mixed", "fused", True), "NVIDIA Test"),
        ({"cuda": True, "bf16": False}, ("gpu", "32-true", "fused", True), "NVIDIA Test: no bf16"),
        ({"cuda": True, "triton": False}, ("gpu", "bf16-mixed", "fused", False), "NVIDIA Test: bf16, Triton cannot"),
        ({"mps": True}, ("mps", "32-true", "fused", False), "Apple GPU: fp32"),
    ],
)
def test_auto_takes_what_is_fast_there(
    monkeypatch: pytest.MonkeyPatch, there: dict[str, bool], expected: tuple, reason: str
) -> None:
    machine(monkeypatch, **there)
    choice = choose()
    assert parts(choice) == expected
    assert choice.reason.startswith(reason)
    assert "\n" not in choice.reason


def test_an_accelerator_is_taken_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, cuda=True, mps=True, amx=True)
    assert [choose(kind).accelerator for kind in ("cpu", "gpu", "mps", "auto")] == ["cpu", "gpu", "mps", "gpu"]


@pytest.mark.parametrize("there", [{}, {"dot": True}, {"amx": True}])
def test_each_part_is_overridden_alone_and_the_reason_says_so(
    monkeypatch: pytest.MonkeyPatch, there: dict[str, bool]
) -> None:
    machine(monkeypatch, **there)
    kind, precision, attention, compiled = parts(choose("cpu"))
    assert parts(choose("cpu", precision="64-true")) == (kind, "64-true", "fused", compiled)
    assert parts(choose("cpu", attention="fused")) == (kind, precision, "fused", compiled)
    assert parts(choose("cpu", compile=not compiled)) == (kind, precision, attention, not compiled)
    reason = choose("cpu", precision="32-true", compile=False).reason
    assert reason.endswith("; as asked: precision=32-true, compile=False")
    assert ", fused attention, eager" in reason
    assert "as asked" not in choose("cpu").reason


@pytest.mark.parametrize(
    ("kind", "there", "sentence"),
    [
        ("gpu", {}, r"accelerator=gpu is not available here; available: cpu \(accelerator=auto chooses\)"),
        ("mps", {"cuda": True}, r"accelerator=mps is not available here; available: gpu, cpu "),
        ("gpu", {"mps": True}, r"available: mps, cpu "),
    ],
)
def test_a_machine_that_is_not_there_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, kind: str, there: dict[str, bool], sentence: str
) -> None:
    machine(monkeypatch, **there)
    with pytest.raises(ValueError, match=sentence):
        choose(kind)


def test_precisions_have_one_name_each_and_an_apple_gpu_has_no_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, mps=True)
    assert [choose("cpu", given).precision for given in ("32", "bf16")] == ["32-true", "bf16-mixed"]
    with pytest.raises(ValueError, match="an Apple GPU has no float64; use accelerator=cpu"):
        choose("auto", "64-true")


def test_this_machine_has_a_choice_and_a_name() -> None:
    assert choose("cpu").accelerator == "cpu"
    assert cpu_name()
    info = Path("/proc/cpuinfo")
    if info.exists() and platform.machine() == "x86_64":
        assert f": {cpu_name().partition(' (family')[0]}\n" in info.read_text()


def test_generations_of_one_name_are_told_apart(tmp_path: Path) -> None:
    def name(*lines: str) -> str:
        (tmp_path / "cpuinfo").write_text("\n".join([*lines, "", "processor\t: 1", "model name\t: Another", ""]))
        return cpu_name(tmp_path / "cpuinfo")

    generations = [
        name("processor\t: 0", f"cpu family\t: {family}", f"model\t\t: {model}", "model name\t: AMD EPYC")
        for family, model in ((25, 17), (26, 2))
    ]
    assert generations == ["AMD EPYC (family 25 model 17)", "AMD EPYC (family 26 model 2)"]
    assert name("processor\t: 0", "model name\t: ARMv8") == "ARMv8"
    assert cpu_name(tmp_path / "none")


@pytest.mark.parametrize(("cores", "expected"), [(1, 1), (2, 4), (8, 16)])
def test_the_cores_share_a_batch_where_nothing_is_compiled(
    monkeypatch: pytest.MonkeyPatch, cores: int, expected: int
) -> None:
    machine(monkeypatch, cuda=True)
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    assert choose("cpu").shards == expected
    assert choose("cpu", shards=3).shards == 3
    assert choose("cpu", precision="bf16-mixed").shards == expected
    assert [choice.shards for choice in (choose("cpu", compile=True), choose("gpu"))] == [1, 1]


@pytest.mark.parametrize("given", [{"compile": True}, {"kind": "gpu"}])
def test_shards_that_would_not_be_made_are_a_sentence(monkeypatch: pytest.MonkeyPatch, given: dict) -> None:
    machine(monkeypatch, cuda=True)
    with pytest.raises(ValueError, match=r"accelerator\.shards=4 is for a CPU that computes eagerly"):
        choose(**{"kind": "cpu", **given}, shards=4)


def test_tuned_it_computes_the_same() -> None:
    torch.manual_seed(0)
    net = build_model("hybrid_tiny").eval()
    tuned = deepcopy(net)
    choose("cpu", shards=2).tune(tuned)
    assert (tuned.shards, tuned.blocks[0].attn.path) == (2, choose("cpu").attention)
    assert tuned.patch_embed[1][0].weight.is_contiguous(memory_format=torch.channels_last)
    x = torch.randn(16, 3, 32, 32)
    torch.testing.assert_close(tuned(x), net(x), rtol=1e-5, atol=1e-5)
