"""The state of a training run: models, data, settings, checkpoints and log."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tools.train_embedded.dataset import Dataset, SceneGroup
from tools.train_embedded.model_specs.base import ModelSpec
from tools.train_embedded.optim import (
    MixedOptimizer,
    PhaseProgress,
    log,
)
from tools.train_embedded.pretrain_vision import Heads, batches_in_order, to_pixels
from vtc.core.files import replacing

PHASES = ("vision", "language", "videos", "hard", "both")
SHARES = {"vision": 0.35, "language": 0.3, "videos": 0.2, "hard": 0.2, "both": 0.15}  # of --hours
SECONDS_BETWEEN_LOGS = 240


@dataclass
class TrainingRun:
    """Models (fp32 `master` and its bfloat16 `worker`), read-outs, data and settings of a training run."""

    model_spec: ModelSpec
    master: PreTrainedModel
    worker: PreTrainedModel
    heads: Heads
    dataset: Dataset
    hard: Dataset
    validation: Dataset
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
        """A group of scenes, as likely as it is large; of the hard ones too in the last two phases.

        There videos, if the model sees any, are as likely as images: their skills are the slowest to learn. In "hard"
        they are hard ones only, and "videos" has nothing else.
        """
        late = phase in ("hard", "both")
        dataset = self.dataset + self.hard if late else self.dataset
        if phase == "videos":
            dataset = [group for group in self.hard if group.channels == 6]
        if phase == "hard":
            dataset = [group for group in self.dataset if group.channels == 3] + self.hard
        sizes = np.array([len(group) for group in dataset], float)
        videos = np.array([group.channels == 6 for group in dataset])
        if late and videos.any():
            sizes[videos] *= sizes[~videos].sum() / sizes[videos].sum()
        return dataset[int(rng.choice(len(sizes), p=sizes / sizes.sum()))]

    def rows(self, group: SceneGroup, rng: np.random.Generator, batch: int, most: int | None = None) -> np.ndarray:
        """The numbers of `batch` scenes of `group` with at most `most` things, or as few as there are."""
        fit = np.arange(len(group)) if most is None else np.flatnonzero(group.things <= max(most, group.things.min()))
        return np.sort(rng.choice(fit, batch, replace=len(fit) < batch))

    def encode_scenes(
        self, group: SceneGroup, rows: np.ndarray | slice, noise: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """All looks of the scenes `rows`, encoded: tokens `[n * looks, t, width]` and the tower's hidden states."""
        return self.encode(np.concatenate(group.pixels[rows]), noise)

    def encode(self, pixels: np.ndarray, noise: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Looks `[n, h, w, 3]` through the worker's tower and projector."""
        return self.model_spec.encode(self.worker, to_pixels(pixels, noise, torch.bfloat16).to(self.device))

    @torch.no_grad()
    def encode_validation(self) -> list[Tensor]:
        """The visual tokens of the validation scenes, `[n, v, width]` for each group."""
        return [
            torch.cat(
                [
                    self.encode_scenes(group, rows, None)[0].unflatten(0, (-1, group.looks)).flatten(1, 2)
                    for rows in batches_in_order(len(group), 16)
                ]
            )
            for group in self.validation
        ]

    def logger(
        self, phase: str, budget: PhaseProgress, optimizer: MixedOptimizer, accuracy: Callable[[], dict[str, Any]]
    ) -> Callable[[Tensor], None]:
        """A function that logs and checkpoints every few minutes; call it once a step with the loss."""
        last, recent = [time.monotonic()], []

        def log_step(loss: Tensor) -> None:
            budget.done_steps += 1
            recent.append(float(loss))
            if time.monotonic() - last[0] < SECONDS_BETWEEN_LOGS and budget.progress < 1:
                return
            mean = round(float(np.mean(recent)), 4)
            entry = {"phase": phase, "steps": budget.done_steps, "seconds": round(budget.spent, 1), "loss": mean}
            log(self.out, **entry, progress=round(budget.progress, 3), accuracy=accuracy())
            state = {"phase": phase, "done": self.done, "steps": budget.done_steps, "seconds": budget.spent}
            self.checkpoint({**state, "optimizers": optimizer.state()})
            recent.clear()
            last[0] = time.monotonic()

        return log_step

    def checkpoint(self, state: dict[str, Any]) -> None:
        """Write everything that `resumed` reads."""
        whole = {"model": self.master.state_dict(), "heads": self.heads.state_dict(), **state}
        with replacing(self.out / "checkpoint.pt") as draft:
            torch.save(whole, draft)

    def resumed(self) -> dict[str, Any]:
        """Load the checkpoint; answers where the run was."""
        state: dict[str, Any] = torch.load(self.out / "checkpoint.pt", map_location="cpu", weights_only=True)
        self.master.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        self.follow()
        return state
