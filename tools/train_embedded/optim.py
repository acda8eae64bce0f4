"""Training helpers: fast arithmetic on a CPU, optimisers, schedule, checkpoints, log."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS


def plain_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    scaling: float = 1.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention by two products and a softmax: in torch 2.15 the fused kernel's backward on CPUs is 6 times slower."""
    scores = (query * scaling) @ key.transpose(-1, -2)
    if mask is not None:
        scores = scores + mask
    return (scores.softmax(-1) @ value).transpose(1, 2), None


def use_attention(model: nn.Module, attention: Callable[..., tuple[Tensor, None]]) -> None:
    """Let `model` (all its parts) attend with the function `attention`."""
    name = f"vtc_training_{attention.__name__}"
    ALL_ATTENTION_FUNCTIONS.register(name, attention)
    for module in model.modules():
        if hasattr(module, "config"):
            setattr(module.config, "_attn_implementation", name)  # noqa: B010 - a union to mypy


class MixedOptimizer:
    """Steps `master` (fp32) with the gradients of `worker`, its bfloat16 copy on the device.

    Matrices inside the layers are stepped by Muon (orthogonalised momentum), everything else by AdamW.
    """

    def __init__(self, pairs: list[tuple[str, nn.Parameter, nn.Parameter]], rate: float, decay: float = 0.02) -> None:
        """`pairs` are name, master parameter and worker parameter; needs torch 2.9 for Muon."""
        self.pairs = [(m, w) for _, m, w in pairs]
        inner = [
            m
            for n, m, _ in pairs
            if m.ndim == 2 and any(part in n for part in (".layer", "projector", ".blocks.", "merger"))
        ]
        chosen = {id(m) for m in inner}
        outer = [m for _, m, _ in pairs if id(m) not in chosen]
        self.rate = rate
        self.optimizers: list[torch.optim.Optimizer] = []
        if outer:
            self.optimizers.append(torch.optim.AdamW(outer, lr=rate, weight_decay=0.0, betas=(0.9, 0.98)))
        if inner:
            muon = torch.optim.Muon(inner, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
            self.optimizers.append(muon)

    def step(self, share: float) -> None:
        """One step at `share` of the full rate; then the worker follows the master."""
        for master, worker in self.pairs:
            if master is not worker:  # read-outs are their own workers
                master.grad = None if worker.grad is None else worker.grad.to(torch.float32)
                worker.grad = None
        torch.nn.utils.clip_grad_norm_([m for m, _ in self.pairs if m.grad is not None], 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.rate * share
            optimizer.step()
            optimizer.zero_grad()
        with torch.no_grad():
            torch._foreach_copy_([w for _, w in self.pairs], [m for m, _ in self.pairs])

    def state(self) -> list[dict[str, Any]]:
        """The optimisers' states, for a checkpoint."""
        return [o.state_dict() for o in self.optimizers]

    def load(self, states: list[dict[str, Any]]) -> None:
        """Take back what `state` gave."""
        for optimizer, state in zip(self.optimizers, states, strict=True):
            optimizer.load_state_dict(state)


def cosine(progress: float, warm_up: float = 0.02, floor: float = 0.02) -> float:
    """The share of the full rate at `progress` (0..1): a short rise, then half a cosine."""
    if progress < warm_up:
        return max(progress / warm_up, 0.02)
    turn = (min(progress, 1.0) - warm_up) / (1 - warm_up)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * turn))


class PhaseProgress:
    """How far a phase has come: by steps if `steps` is given, else by seconds of work (resumed work counts)."""

    def __init__(self, steps: int | None, seconds: float, done_steps: int = 0, done_seconds: float = 0.0) -> None:
        """`steps` of the phase or `seconds` for it; `done_*` is the work of earlier runs."""
        self.steps, self.seconds = steps, seconds
        self.done_steps, self._before, self._start = done_steps, done_seconds, time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds of work so far."""
        return self._before + time.monotonic() - self._start

    @property
    def progress(self) -> float:
        """0 at the start, 1 or more at the end."""
        return self.done_steps / self.steps if self.steps is not None else self.spent / self.seconds


def log(folder: Path, **entry: object) -> None:
    """Append one JSON line to `folder/log.jsonl`, and show it."""
    line = json.dumps({"time": round(time.time(), 1), **entry})
    with (folder / "log.jsonl").open("a") as file:
        file.write(line + "\n")
    print(line, flush=True)
