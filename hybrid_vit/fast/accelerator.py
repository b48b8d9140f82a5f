"""The machine: what was asked for and what is there -> device, precision, attention, compilation, shards, together.

The choice follows measurements, and its reason is one line of the log. On a CPU bf16 pays only with instructions for it
(Intel's AMX, AVX-512's dot products); without them a bf16 matrix product is emulated, many times slower than in fp32.
The backward pass of fused attention is slow in bf16 on a CPU, so there attention is explicit.
"""

import ctypes
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils._triton import has_triton

from hybrid_vit.fast import (
    AttentionPath,
    folded,
    packed,
    set_attention,
    set_dropout,
    set_hybrid,
    set_pooled,
    set_strided_depthwise,
    set_winograd,
)
from hybrid_vit.utils.errors import UserError


@dataclass(frozen=True)
class Choice:
    """Lightning's accelerator and precision, the attention path, whether to compile, parts of a batch, and why."""

    accelerator: str
    precision: str
    attention: AttentionPath
    compile: bool
    shards: int
    reason: str

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return torch.device("cuda" if self.accelerator == "gpu" else self.accelerator)

    @property
    def device_name(self) -> str:
        """The model name of that."""
        return torch.cuda.get_device_name() if self.accelerator == "gpu" else cpu_name()

    @property
    def bf16(self) -> bool:
        """Whether it computes in bf16."""
        return self.precision.startswith("bf16")

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return torch.float64 if self.precision == "64-true" else torch.float32

    def tune(self, net: nn.Module) -> None:
        """Set `net` up for this machine, in place; it computes the same."""
        set_attention(net, self.attention)
        set_dropout(net)
        set_hybrid(net, self.shards)
        set_strided_depthwise(net, fp32=self.accelerator == "cpu" and self.bf16 and not self.compile)
        if self.accelerator == "cpu" and self.precision in ("32", "32-true") and not self.compile:
            set_winograd(net)
        if not self.compile:
            set_pooled(net)
        if self.accelerator == "cpu":
            net.to(memory_format=torch.channels_last)  # convolutions then neither repack nor transpose

    def serve(self, net: nn.Module) -> nn.Module:
        """A copy of `net` for inference only: BatchNorm folded, weights in the precision and layout that are fast here.

        Images must come in that precision. In fp32 logits differ by rounding only, in bf16 by its three digits.
        """
        net = folded(net).to(self.device, torch.bfloat16 if self.bf16 else None)
        if not self.compile:
            set_pooled(net)  # before Winograd's, which is faster for gradients alone
        self.tune(net)
        if self.compile:
            net.compile()  # the second batch size makes it dynamic: the last batch has another one
        elif self.accelerator == "cpu" and torch.backends.mkldnn.is_available():
            packed(net)
        return net


def choose(
    kind: str = "auto",
    precision: str | None = None,
    attention: AttentionPath | None = None,
    compile: bool | None = None,
    shards: int | None = None,
) -> Choice:
    """What is fast here, each part overridden by what is given.

    Raises:
        UserError: an accelerator that this machine does not have.
    """
    there = {"cpu": True, "gpu": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if kind == "auto":
        kind = next(name for name in ("gpu", "mps", "cpu") if there[name])
    if not there[kind]:
        here = ", ".join(name for name in ("gpu", "mps", "cpu") if there[name])
        raise UserError(f"accelerator={kind} is not available here; available: {here} (accelerator=auto chooses)")
    if kind == "mps" and precision == "64-true":
        raise UserError("an Apple GPU has no float64; use accelerator=cpu, or accelerator.precision=32-true")
    best: tuple[str, bool, str]
    if kind == "gpu" and torch.cuda.is_bf16_supported(including_emulation=False):
        best = ("bf16-mixed", can_compile(), f"{torch.cuda.get_device_name()}: bf16")
    elif kind == "gpu":
        best = ("32-true", can_compile(), f"{torch.cuda.get_device_name()}: no bf16 units, so fp32")
    elif kind == "mps":
        best = ("32-true", False, "Apple GPU: fp32 is the safe precision there")
    elif torch.cpu._is_avx512_bf16_supported():
        units = "matrix units" if torch.cpu._is_amx_tile_supported() else "dot products"
        best = ("bf16-mixed", False, f"{cpu_name()}: bf16 {units}")
    else:
        best = ("32-true", False, f"{cpu_name()}: no bf16 units, so fp32")
    given = {"precision": precision, "attention": attention, "compile": compile, "shards": shards}
    asked = ", ".join(f"{key}={value}" for key, value in given.items() if value is not None)
    precision = {"32": "32-true", "bf16": "bf16-mixed"}.get(precision or "", precision) or best[0]
    why = ", Triton cannot compile here" if kind == "gpu" and compile is None and not best[1] else ""
    compile = best[1] if compile is None else compile
    shardable = kind == "cpu" and not compile
    if shards is None:
        cores = torch.get_num_threads()
        # Two for each core, so that a core which is held up can do fewer.
        shards = 2 * cores if shardable and cores > 1 else 1
    if shards > 1 and not shardable:
        raise UserError(
            f"accelerator.shards={shards} is for a CPU that computes eagerly; leave it out, "
            "or set accelerator=cpu accelerator.compile=false"
        )
    attention = attention or ("explicit" if kind == "cpu" and precision.startswith("bf16") else "fused")
    return Choice(
        accelerator=kind,
        precision=precision,
        attention=attention,
        compile=compile,
        shards=shards,
        reason=f"{best[2]}{why}, {attention} attention, {'compiled' if compile else 'eager'}"
        + (f", up to {shards} shards of a batch" if shards > 1 else "")
        + (f"; as asked: {asked}" if asked else ""),
    )


def can_compile() -> bool:
    """Whether Triton can compile for the GPU: it is not too old, and there is a C compiler."""
    return has_triton() and bool(os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang"))


def cpu_name(info: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name; on Linux with family and model, since virtual machines call all generations by one name."""
    first = info.read_text().partition("\n\n")[0] if info.exists() else ""
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
    name = told.get("model name") or platform.processor() or platform.machine()
    return f"{name} (family {told['cpu family']} model {told['model']})" if "cpu family" in told else name


def keep_memory() -> None:
    """Let glibc keep freed memory: a large tensor mapped anew for every operation costs more than the operation.

    By default malloc maps each block over 32 MB and unmaps it when freed: every activation of every step is paged in
    again. Measured on a Xeon (2 cores, fp32): GELU of 128 x 257 x 768 takes 95 ms, and 30 ms with memory that stays.
    Other C libraries are left alone.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    m_trim_threshold, m_mmap_max, m_arena_max = -1, -4, -8
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(m_mmap_max, 0)
    mallopt(m_trim_threshold, -1)
    mallopt(m_arena_max, 1)
