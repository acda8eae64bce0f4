"""Train an embedded model from scratch: `python -m vtc.tiny.train tiny-llava`.

Three phases: the eye alone with the truth of every patch; the language model, eye frozen; both together at a low rate.
A killed run goes on with `--resume`. Everything it keeps lies in `--out`: checkpoints, drawn scenes, `log.jsonl`,
at last the finished directory, to be copied to `vtc/tiny/weights/`. On a busy CPU set OMP_WAIT_POLICY=passive: threads
that spin while they wait for each other made training 4 times slower.
"""

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration

from vtc.tiny import NAMES
from vtc.tiny.bank import Bank, load_bank
from vtc.tiny.build import build_model, save
from vtc.tiny.eye import Heads, batches_in_order, encode, eye_accuracy, eye_loss, shape_attention, to_pixels
from vtc.tiny.loop import Budget, Learner, cosine, log, plain_attention, save_atomically, use_attention
from vtc.tiny.mind import block_attention, mind_accuracy, mind_loss, pack
from vtc.tiny.world import HELD_OUT

# Scenes that watch over training come from far behind the seeds that `evaluate` uses.
WATCH_SEED = 2 * HELD_OUT
PHASES = ("eye", "mind", "both")
STEPS = {"eye": 1400, "mind": 1700, "both": 600}
SHARES = {"eye": 0.3, "mind": 0.4, "both": 0.3}  # of --minutes
RATES = {"eye": 3e-3, "mind": 3e-3, "both": 8e-4}
BATCHES = {"eye": 32, "mind": 16, "both": 16}
QUESTIONS = 16
EYE_SHARE = 0.1  # of the eye's own loss in phase three


@dataclass
class Run:
    """What a training run works on: fp32 `master`, its bfloat16 `worker`, the read-outs, data and settings."""

    master: LlavaForConditionalGeneration
    worker: LlavaForConditionalGeneration
    heads: Heads
    bank: Bank
    watch: Bank
    out: Path
    device: str
    seed: int
    minutes: float | None
    steps: int | None

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


def main(arguments: list[str] | None = None) -> None:
    """Entry point; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="vtc.tiny.train", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--minutes", type=float, help="minutes of training, all phases together")
    parser.add_argument("--steps", type=int, help=f"steps of each phase; without either: {STEPS}")
    parser.add_argument("--scenes", type=int, default=40960, help="how many scenes to draw")
    parser.add_argument("--watch", type=int, default=192, help="how many unseen scenes watch over training")
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=list(PHASES))
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    parser.add_argument("--out", type=Path, default=Path("runs/tiny-llava"))
    options = parser.parse_args(arguments)
    if options.scenes < 128:
        parser.error(f"--scenes={options.scenes} is too few to fill a batch of the simplest scenes; give 128 or more")

    if options.resume and not (options.out / "checkpoint.pt").is_file():
        parser.error(f"--resume found no checkpoint.pt in --out={options.out}; leave it out, or name the run's folder")

    torch.set_flush_denormal(True)  # Adam's dying moments would cost ten times the time on a CPU
    torch.manual_seed(options.seed)
    run = _start(options)
    state = _resumed(run) if options.resume else {}
    done = state.get("done", [])
    for phase in options.phases:
        if phase not in done:
            (_teach_eye if phase == "eye" else _teach_mind)(run, phase, state if state.get("phase") == phase else {})
            done = [*done, phase]
            _checkpoint(run, {"done": done})
    save(run.master.state_dict(), options.out / options.name)


def _start(options: argparse.Namespace) -> Run:
    started = time.monotonic()
    options.out.mkdir(parents=True, exist_ok=True)
    bank = load_bank(options.out, 0, options.scenes, options.workers)
    watch = load_bank(options.out, WATCH_SEED, options.watch, options.workers)
    master, worker = build_model(), build_model().bfloat16()
    shape_attention(master)
    use_attention(worker.model.vision_tower, plain_attention)
    use_attention(worker.model.language_model, block_attention)
    master.to(options.device)
    worker.to(options.device)
    width, vision_width = master.lm_head.in_features, worker.model.vision_tower.post_layernorm.normalized_shape[0]
    heads = Heads(width, vision_width, bank.pairs.shape[1])
    heads.to(options.device)
    run = Run(
        master,
        worker,
        heads,
        bank,
        watch,
        options.out,
        options.device,
        options.seed,
        options.minutes,
        options.steps,
    )
    run.follow()
    log(options.out, event="start", scenes=len(bank), data_seconds=round(time.monotonic() - started, 1))
    return run


def _checkpoint(run: Run, state: dict[str, Any]) -> None:
    whole = {"model": run.master.state_dict(), "heads": run.heads.state_dict(), **state}
    save_atomically(run.out / "checkpoint.pt", lambda path: torch.save(whole, path))


def _resumed(run: Run) -> dict[str, Any]:
    state = torch.load(run.out / "checkpoint.pt", map_location="cpu", weights_only=True)
    run.master.load_state_dict(state["model"])
    run.heads.load_state_dict(state["heads"])
    run.follow()
    return state


def _budget(run: Run, phase: str, state: dict[str, Any]) -> Budget:
    """`--steps` if given, else `--minutes` if given, else the steps that the packaged weights were trained for."""
    steps = run.steps if run.steps is not None or run.minutes is not None else STEPS[phase]
    seconds = (run.minutes or 0.0) * 60 * SHARES[phase]
    return Budget(steps, seconds, state.get("steps", 0), state.get("seconds", 0.0))


def _watcher(
    run: Run, phase: str, budget: Budget, learner: Learner
) -> Callable[[Tensor, Callable[[], dict[str, Any]]], None]:
    """A function that logs and checkpoints now and then; call it once a step with the loss."""
    last, recent = [time.monotonic()], []

    def watch(loss: Tensor, accuracy: Callable[[], dict[str, Any]]) -> None:
        budget.done_steps += 1
        recent.append(float(loss))
        if time.monotonic() - last[0] < 60 and budget.progress < 1:
            return
        mean = round(float(np.mean(recent)), 4)
        entry = {"phase": phase, "steps": budget.done_steps, "seconds": round(budget.spent, 1), "loss": mean}
        log(run.out, **entry, progress=round(budget.progress, 3), accuracy=accuracy())
        done = list(PHASES[: PHASES.index(phase)])
        state = {"phase": phase, "done": done, "steps": budget.done_steps, "seconds": budget.spent}
        _checkpoint(run, {**state, "optimizers": learner.state()})
        recent.clear()
        last[0] = time.monotonic()

    return watch


def _draws(run: Run, phase: str, budget: Budget) -> tuple[np.random.Generator, torch.Generator]:
    """Random numbers for data and for pixel noise, other ones after a resumption."""
    data = np.random.default_rng([run.seed, PHASES.index(phase), budget.done_steps])
    return data, torch.Generator().manual_seed(run.seed + budget.done_steps)


def _teach_eye(run: Run, phase: str, state: dict[str, Any]) -> None:
    budget = _budget(run, phase, state)
    eye = run.pairs("model.vision_tower", "model.multi_modal_projector")
    learner = Learner(eye + run.heads_pairs(), RATES[phase])
    if state:
        learner.load(state["optimizers"])
    rng, generator = _draws(run, phase, budget)
    watch = _watcher(run, phase, budget, learner)
    while budget.progress < 1:
        rows = np.sort(rng.choice(len(run.bank), BATCHES[phase], replace=False))
        loss = _eye_loss(run, rows, *_encode(run, run.bank, rows, generator))
        loss.backward()
        learner.step(cosine(budget.progress))
        watch(loss.detach(), lambda: eye_accuracy(run.worker, run.heads, run.watch))


def _encode(run: Run, bank: Bank, rows: np.ndarray | slice, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    return encode(run.worker, to_pixels(bank.pixels[rows], generator, torch.bfloat16).to(run.device))


def _eye_loss(run: Run, rows: np.ndarray, tokens: Tensor, hidden: Tensor) -> Tensor:
    patches, pairs = (torch.from_numpy(a[rows]).long().to(run.device) for a in (run.bank.patches, run.bank.pairs))
    return eye_loss(run.worker, run.heads, tokens, hidden, patches, pairs)


@torch.no_grad()
def _look(run: Run) -> Tensor:
    """The visual tokens of the watched pictures, bfloat16 `[n, 144, width]`."""
    return torch.cat([_encode(run, run.watch, rows, None)[0] for rows in batches_in_order(len(run.watch), 64)])


def _curriculum(progress: float) -> int:
    """At most how many shapes a picture may hold at this point of phase two."""
    return 1 if progress < 0.04 else 2 if progress < 0.12 else 3 if progress < 0.2 else 5


def _teach_mind(run: Run, phase: str, state: dict[str, Any]) -> None:
    """Phase two with the eye frozen; phase three with the eye learning on, from the answers and from its own truth."""
    frozen = phase == "mind"
    budget = _budget(run, phase, state)
    parts = run.pairs("model.language_model", "lm_head") if frozen else run.pairs("") + run.heads_pairs()
    learner = Learner(parts, RATES[phase])
    if state:
        learner.load(state["optimizers"])
    rng, generator = _draws(run, phase, budget)
    watch = _watcher(run, phase, budget, learner)
    things = run.bank.pairs[:, -6:].argmax(1)
    while budget.progress < 1:
        most = _curriculum(budget.progress) if frozen else 5
        rows = np.sort(rng.choice(np.flatnonzero(things <= most), BATCHES[phase], replace=False))
        with torch.set_grad_enabled(not frozen):
            tokens, hidden = _encode(run, run.bank, rows, generator)
        turns = int(rng.choice((1, 2, 3), p=(0.8, 0.1, 0.1)))
        loss = mind_loss(run.worker, pack(run.bank, rows, rng, QUESTIONS, turns, spread=True), tokens)
        teach = loss if frozen else loss + EYE_SHARE * _eye_loss(run, rows, tokens, hidden)
        teach.backward()
        learner.step(cosine(budget.progress))

        def accuracy() -> dict[str, Any]:
            seen = _look(run)
            return {s: mind_accuracy(run.worker, run.watch, seen, s == "spread") for s in ("compact", "spread")}

        watch(loss.detach(), accuracy)


if __name__ == "__main__":
    main()
