"""The state of a training run: what it works on, its checkpoints, its log."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tools.train_embedded.dataset import Bank, SceneGroup
from tools.train_embedded.model_specs.base import Student
from tools.train_embedded.optim import (
    Learner,
    PhaseProgress,
    log,
    save_atomically,
)
from tools.train_embedded.pretrain_vision import Heads, batches_in_order, to_pixels

PHASES = ("eye", "mind", "videos", "drill", "both")
SHARES = {"eye": 0.35, "mind": 0.3, "videos": 0.2, "drill": 0.2, "both": 0.15}  # of --hours
SECONDS_BETWEEN_NOTES = 240


@dataclass
class TrainingRun:
    """What a training run works on: fp32 `master`, its bfloat16 `worker`, the read-outs, data and settings."""

    student: Student
    master: PreTrainedModel
    worker: PreTrainedModel
    heads: Heads
    bank: Bank
    drilled: Bank
    watch: Bank
    out: Path
    device: str
    seed: int
    hours: float
    steps: int | None
    done: list[str] = field(default_factory=list)  # phases

    def pairs(self, *parts: str) -> list[tuple[str, nn.Parameter, nn.Parameter]]:
        """Name, master and worker parameter of everything whose name starts with one of `parts`."""
        worker = dict(self.worker.named_parameters())
        return [(n, p, worker[n]) for n, p in self.master.named_parameters() if n.startswith(parts)]

    def heads_pairs(self) -> list[tuple[str, nn.Parameter, nn.Parameter]]:
        """The same of the read-outs, which are fp32 and their own workers."""
        return [(n, p, p) for n, p in self.heads.named_parameters()]

    def follow(self) -> None:
        """Copy the master into the worker."""
        self.worker.load_state_dict(self.master.state_dict())

    def budget(self, phase: str, state: dict[str, Any]) -> PhaseProgress:
        """`--steps` of each phase if given, else its share of `--hours`."""
        seconds = self.hours * 3600 * SHARES[phase]
        return PhaseProgress(self.steps, seconds, state.get("steps", 0), state.get("seconds", 0.0))

    def draws(self, phase: str, budget: PhaseProgress) -> tuple[np.random.Generator, torch.Generator]:
        """Random numbers for data and for pixel noise, other ones after a resumption."""
        data = np.random.default_rng([self.seed, PHASES.index(phase), budget.done_steps])
        return data, torch.Generator().manual_seed(self.seed + budget.done_steps)

    def group(self, rng: np.random.Generator, phase: str) -> SceneGroup:
        """A group of scenes, as likely as it is large; of the drilled ones too in the last two phases.

        There videos, if the model sees any, are as likely as images: their skills are the slowest to learn. In "drill"
        they are drilled ones only, and "videos" has nothing else.
        """
        late = phase in ("drill", "both")
        bank = self.bank + self.drilled if late else self.bank
        if phase == "videos":
            bank = [group for group in self.drilled if group.channels == 6]
        if phase == "drill":
            bank = [group for group in self.bank if group.channels == 3] + self.drilled
        sizes = np.array([len(group) for group in bank], float)
        videos = np.array([group.channels == 6 for group in bank])
        if late and videos.any():
            sizes[videos] *= sizes[~videos].sum() / sizes[videos].sum()
        return bank[int(rng.choice(len(sizes), p=sizes / sizes.sum()))]

    def rows(self, group: SceneGroup, rng: np.random.Generator, batch: int, most: int | None = None) -> np.ndarray:
        """The numbers of `batch` scenes of `group` with at most `most` things, or as few as there are."""
        fit = np.arange(len(group)) if most is None else np.flatnonzero(group.things <= max(most, group.things.min()))
        return np.sort(rng.choice(fit, batch, replace=len(fit) < batch))

    def see(self, group: SceneGroup, rows: np.ndarray | slice, noise: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """All looks of the scenes `rows`, encoded: tokens `[n * looks, t, width]` and the tower's hidden states."""
        return self.encode(np.concatenate(group.pixels[rows]), noise)

    def encode(self, pixels: np.ndarray, noise: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Looks `[n, h, w, 3]` through the worker's tower and projector."""
        return self.student.encode(self.worker, to_pixels(pixels, noise, torch.bfloat16).to(self.device))

    @torch.no_grad()
    def look(self) -> list[Tensor]:
        """The visual tokens of the watched scenes, `[n, v, width]` for each group."""
        return [
            torch.cat(
                [
                    self.see(group, rows, None)[0].unflatten(0, (-1, group.looks)).flatten(1, 2)
                    for rows in batches_in_order(len(group), 16)
                ]
            )
            for group in self.watch
        ]

    def watcher(
        self, phase: str, budget: PhaseProgress, learner: Learner, accuracy: Callable[[], dict[str, Any]]
    ) -> Callable[[Tensor], None]:
        """A function that logs and checkpoints every few minutes; call it once a step with the loss."""
        last, recent = [time.monotonic()], []

        def watch(loss: Tensor) -> None:
            budget.done_steps += 1
            recent.append(float(loss))
            if time.monotonic() - last[0] < SECONDS_BETWEEN_NOTES and budget.progress < 1:
                return
            mean = round(float(np.mean(recent)), 4)
            entry = {"phase": phase, "steps": budget.done_steps, "seconds": round(budget.spent, 1), "loss": mean}
            log(self.out, **entry, progress=round(budget.progress, 3), accuracy=accuracy())
            state = {"phase": phase, "done": self.done, "steps": budget.done_steps, "seconds": budget.spent}
            self.checkpoint({**state, "optimizers": learner.state()})
            recent.clear()
            last[0] = time.monotonic()

        return watch

    def checkpoint(self, state: dict[str, Any]) -> None:
        """Write everything that `resumed` reads."""
        whole = {"model": self.master.state_dict(), "heads": self.heads.state_dict(), **state}
        save_atomically(self.out / "checkpoint.pt", lambda path: torch.save(whole, path))

    def resumed(self) -> dict[str, Any]:
        """Load the checkpoint; answers where the run was."""
        state: dict[str, Any] = torch.load(self.out / "checkpoint.pt", map_location="cpu", weights_only=True)
        self.master.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        self.follow()
        return state
