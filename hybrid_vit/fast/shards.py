"""Shards: a function of samples, computed on parts of the batch side by side, one core of a CPU each.

An operation that is spread over the cores makes all of them wait for the slowest, a few hundred times a step. Here
each core takes a whole shard through all layers, forwards and then backwards, and they wait for each other twice.
The result is the same: (B, ...) -> (B, ...), gradients summed over the shards in their order.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from hybrid_vit.fast.dropout import drawing_from

# Numbers in a shard. With fewer, threads wait for Python's lock longer than cores did for each other: a step of a model
# with 64 tokens of width 64 at batch 64 took 35 ms whole and 63 ms in four shards; docs/performance.md has the others.
SMALLEST = 2**19


def sharded(function: Callable[[Tensor], Tensor], x: Tensor, parameters: Iterable[Tensor], shards: int) -> Tensor:
    """`function(x)`, computed on up to `shards` parts of the batch; it must treat every sample of `x` by itself.

    The parts are halved in number until they are large enough to be worth it.

    Args:
        function: (b, ...) -> (b, ...) with any b; what it drops at random is another in every shard.
        x: (B, ...).
        parameters: the tensors besides `x` that may want a gradient.
    """
    while shards > 1 and x.numel() < shards * SMALLEST:
        shards //= 2
    if shards < 2 or x.device.type != "cpu":
        return function(x)
    function = _as_here(function)
    wanted = [parameter for parameter in parameters if parameter.requires_grad]
    seeds = torch.randint(2**63 - 1, (shards,)).tolist()
    if torch.is_grad_enabled() and (wanted or x.requires_grad):
        return _Sharded.apply(function, seeds, x, *wanted)
    return torch.cat(_side_by_side(functools.partial(_forward, function, torch.no_grad()), x.chunk(shards), seeds))


class _Sharded(torch.autograd.Function):
    """Each shard has a graph of its own, which its backward pass runs through."""

    @staticmethod
    def forward(ctx, function: Callable[[Tensor], Tensor], seeds: list[int], x: Tensor, *parameters: Tensor) -> Tensor:
        parts = [part.detach().requires_grad_(ctx.needs_input_grad[2]) for part in x.chunk(len(seeds))]
        results = _side_by_side(functools.partial(_forward, function, torch.enable_grad()), parts, seeds)
        ctx.graphs, ctx.parameters = (results, parts), parameters
        return torch.cat([result.detach() for result in results])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):
        results, parts = ctx.graphs
        ctx.graphs = None

        def one(result: Tensor, part: Tensor, grad: Tensor) -> tuple[Tensor | None, ...]:
            if part.requires_grad:
                return torch.autograd.grad(result, [part, *ctx.parameters], grad)
            return None, *torch.autograd.grad(result, ctx.parameters, grad)

        (first, *total), *others = _side_by_side(one, results, parts, grad.chunk(len(parts)))
        for _, *grads in others if total else ():  # of a frozen network none
            total = torch._foreach_add(total, grads)  # not in place: several of one graph may share memory
        return None, None, None if first is None else torch.cat([first, *(grads[0] for grads in others)]), *total


def _forward(function: Callable[[Tensor], Tensor], mode: Any, part: Tensor, seed: int) -> Tensor:
    with mode, drawing_from(torch.Generator().manual_seed(seed)):
        return function(part)


def _as_here(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """`function` under this thread's autocast, in any thread."""
    enabled, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

    def same(x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype, enabled=enabled, cache_enabled=False):
            return function(x)

    return same


def _side_by_side(function: Callable[..., Any], *arguments: Sequence[Any]) -> list[Any]:
    """`function` of each tuple of arguments, on as many threads as torch has; each works on one core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return list(_pool(threads).map(function, *arguments))
    finally:
        torch.set_num_threads(threads)


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="shard")
