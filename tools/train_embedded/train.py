"""Train an embedded model from scratch: `python -m tools.train_embedded.train tiny-llava --hours 1.5`.

Four phases: the vision tower alone with the labels of every patch; the language model, tower frozen; the same with
more questions of the skills that are slow to learn; both together at a low rate. A fifth, `videos`, is run where it is
named: videos with hard questions alone, those of few actors first.
A killed run goes on with `--resume`. Everything it keeps lies in `--out`: checkpoints, drawn scenes, `log.jsonl`,
at last the finished directory, to be copied to `vtc/embedded/weights/`. `--start` goes on from a finished directory.
On a CPU one thread a run is the quickest (`OMP_NUM_THREADS=1`): two runs side by side get through twice the work.
"""

import argparse
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tools.train_embedded.dataset import SceneGroup, load_dataset
from tools.train_embedded.model_specs import MODEL_SPECS
from tools.train_embedded.model_specs.base import WIDTH
from tools.train_embedded.model_specs.weight_transfer import load_language_model
from tools.train_embedded.optim import (
    MixedOptimizer,
    cosine,
    log,
    plain_attention,
    use_attention,
)
from tools.train_embedded.packing import pack
from tools.train_embedded.pretrain_vision import (
    Heads,
    some_looks,
    vision_accuracy,
    vision_loss,
)
from tools.train_embedded.run import PHASES, TrainingRun
from tools.train_embedded.train_language import (
    around,
    block_attention,
    language_accuracy,
    language_loss,
)
from vtc.embedded.spec import VALIDATION, VERSION

RATES = {"vision": 3e-3, "language": 3e-3, "videos": 2e-3, "hard": 2e-3, "both": 5e-4}
PATCHES = 32 * 196  # of a batch of phase one
SCENES = 16  # of a batch of the other phases
QUESTIONS = 18
VISION_SHARE = 0.1  # of the vision tower's own loss in the last phase


def main(arguments: list[str] | None = None) -> None:
    """Entry point; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="tools.train_embedded.train", description=__doc__)
    parser.add_argument("name", choices=tuple(MODEL_SPECS))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--hours", type=float, default=1.5, help="hours of training, all phases together")
    parser.add_argument("--steps", type=int, help="steps of each phase, in place of --hours")
    parser.add_argument(
        "--scenes", type=int, default=40960, help="how many scenes to draw; half as many more get hard questions"
    )
    parser.add_argument(
        "--videos",
        type=int,
        default=8192,
        help="how many videos to draw, and again as many with hard questions, for a model that sees videos",
    )
    parser.add_argument(
        "--validation", type=int, default=192, help="how many unseen scenes to measure on during training"
    )
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=[phase for phase in PHASES if phase != "videos"])
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    parser.add_argument("--start", type=Path, help="start from the weights in this directory")
    parser.add_argument(
        "--language", type=Path, help="start the language model from that of this directory, of any embedded model"
    )
    parser.add_argument("--vision", type=Path, help="start the tower from that of this run of tiny-llava (its --out)")
    parser.add_argument("--out", type=Path, help="default: runs/NAME")
    options = parser.parse_args(arguments)
    options.out = options.out or Path("runs") / options.name
    if options.scenes < 128:
        parser.error(f"--scenes={options.scenes} is too few to fill a batch of the simplest scenes; give 128 or more")
    for name in ("steps", "validation", "workers"):
        value = getattr(options, name)
        if value is not None and value < 1:
            parser.error(f"--{name}={value} must be 1 or more")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device=cuda: torch finds no GPU here; leave it out to train on the CPU")
    if options.vision and options.name != "tiny-internvl":
        parser.error(f"--vision: the tower of {options.name} cannot start from that of tiny-llava")
    if options.hours <= 0:
        parser.error(f"--hours={options.hours} must be more than 0")
    if options.resume and not (options.out / "checkpoint.pt").is_file():
        parser.error(f"--resume found no checkpoint.pt in --out={options.out}; leave it out, or name the run's folder")
    for name in ("start", "language"):
        folder = getattr(options, name)
        if folder and not (folder / "model.safetensors").is_file():
            parser.error(f"--{name}={folder} holds no model.safetensors; name a finished directory")
    if options.vision and not (options.vision / "checkpoint.pt").is_file():
        parser.error(f"--vision={options.vision} holds no checkpoint.pt; name the --out of a run of tiny-llava")

    torch.set_flush_denormal(True)  # Adam's dying moments would cost ten times the time on a CPU
    torch.manual_seed(options.seed)
    run = _start(options)
    state = run.resumed() if options.resume else {}
    run.done = state.get("done", [])
    for phase in options.phases:
        if phase not in run.done:
            train_phase = _train_vision if phase == "vision" else _train_language
            train_phase(run, phase, state if state.get("phase") == phase else {})
            run.done = [*run.done, phase]
            run.checkpoint({"done": run.done})
    run.model_spec.save(run.master.state_dict(), options.out / options.name)


def _start(options: argparse.Namespace) -> TrainingRun:
    started = time.monotonic()
    options.out.mkdir(parents=True, exist_ok=True)
    model_spec = MODEL_SPECS[options.name]
    videos = options.videos if model_spec.videos else 0
    dataset = load_dataset(options.out, model_spec, 0, options.scenes, options.workers, videos)
    hard = load_dataset(
        options.out, model_spec, options.scenes, options.scenes // 2, options.workers, videos, hard=True
    )
    validation = load_dataset(
        options.out, model_spec, VALIDATION, options.validation, options.workers, min(videos, options.validation)
    )
    master, worker = model_spec.build_model(), model_spec.build_model().bfloat16()
    model_spec.prepare(master)
    if options.start:
        master.load_state_dict(type(master).from_pretrained(options.start, local_files_only=True).state_dict())
    if options.language:
        load_language_model(master, options.language)
    if options.vision:
        other = MODEL_SPECS["tiny-llava"]
        trained = other.build_model()
        trained.load_state_dict(torch.load(options.vision / "checkpoint.pt", weights_only=True)["model"])
        model_spec.start_vision_from(master, other, trained)
    use_attention(model_spec.tower(worker), plain_attention)
    use_attention(model_spec.language_model(worker), block_attention)
    master.to(options.device)  # type: ignore[arg-type]
    worker.to(options.device)  # type: ignore[arg-type]
    heads = Heads(WIDTH, WIDTH, model_spec.merge**2, 2 if model_spec.videos else 1).to(options.device)
    settings = (options.out, options.device, options.seed, options.hours, options.steps)
    run = TrainingRun(model_spec, master, worker, heads, dataset, hard, validation, *settings)
    run.follow()
    drawn = sum(len(group) for group in dataset)
    log(options.out, event="start", world=VERSION, scenes=drawn, data_seconds=round(time.monotonic() - started, 1))
    return run


def _train_vision(run: TrainingRun, phase: str, state: dict[str, Any]) -> None:
    budget = run.budget(phase, state)
    optimizer = MixedOptimizer(run.pairs(*run.model_spec.vision_prefixes) + run.heads_pairs(), RATES[phase])
    if state:
        optimizer.load(state["optimizers"])
    rng, noise = run.draws(phase, budget)
    log_step = run.logger(
        phase, budget, optimizer, lambda: vision_accuracy(run.model_spec, run.worker, run.heads, run.validation)
    )
    while budget.progress < 1:
        group = run.group(rng, phase)
        rows = run.rows(group, rng, max(1, PATCHES // group.patches.shape[2]))
        pixels, patches, facts = some_looks(group, rows, rng)
        loss = _vision_loss(run, group, run.encode(pixels, noise), patches, facts)
        loss.backward()
        optimizer.step(cosine(budget.progress))
        log_step(loss.detach())


def _vision_loss(
    run: TrainingRun, group: SceneGroup, encoded: Any, patches: np.ndarray, facts: np.ndarray
) -> torch.Tensor:
    truth = torch.from_numpy(patches).long().to(run.device), torch.from_numpy(facts).to(run.device)
    return vision_loss(run.model_spec, run.worker, run.heads, encoded, truth, group.size)


def _curriculum(phase: str, progress: float) -> int | None:
    """At most how many things an image or video may hold at this point of a phase; None: any number."""
    if phase == "videos":
        return 2 if progress < 0.2 else 3 if progress < 0.5 else None
    if phase != "language":
        return None
    return 1 if progress < 0.05 else 2 if progress < 0.12 else 5 if progress < 0.25 else None


def _train_language(run: TrainingRun, phase: str, state: dict[str, Any]) -> None:
    """Train on answers, tower frozen; unfrozen in the last phase, with its own loss too if this run pretrained it."""
    frozen = phase != "both"
    budget = run.budget(phase, state)
    parts = run.pairs(*run.model_spec.language_prefixes) if frozen else run.pairs("") + run.heads_pairs()
    optimizer = MixedOptimizer(parts, RATES[phase])
    if state:
        optimizer.load(state["optimizers"])
    rng, noise = run.draws(phase, budget)

    def accuracy() -> dict[str, Any]:
        seen = run.encode_validation()
        ways = ("compact", "spread")
        return {w: language_accuracy(run.model_spec, run.worker, run.validation, seen, w == "spread") for w in ways}

    log_step = run.logger(phase, budget, optimizer, accuracy)
    extra = sum(len(ids) for ids in around(run.model_spec))
    while budget.progress < 1:
        group = run.group(rng, phase)
        rows = run.rows(group, rng, SCENES, _curriculum(phase, budget.progress))
        with torch.set_grad_enabled(not frozen):
            tokens, hidden = run.encode_scenes(group, rows, noise)
        visual = tokens.unflatten(0, (-1, group.looks)).flatten(1, 2)
        together = 2 if group.channels == 3 and rng.random() < 0.12 else 1
        turns = int(rng.choice((1, 2, 3), p=(0.8, 0.1, 0.1)))
        packed = pack(
            group,
            rows.reshape(-1, together),
            rng,
            visual.shape[1] + extra,
            QUESTIONS * together,
            turns,
            spread=True,
            chatter=bool(rng.random() < 0.25),
        )
        loss = language_loss(run.model_spec, run.worker, packed, visual.unflatten(0, (-1, together)), group)
        if not frozen and "vision" in run.done:  # untrained read-outs would undo the tower
            patches, facts = np.concatenate(group.patches[rows]), np.concatenate(group.facts[rows])
            loss = loss + VISION_SHARE * _vision_loss(run, group, (tokens, hidden), patches, facts)
        loss.backward()
        optimizer.step(cosine(budget.progress))
        log_step(loss.detach())


if __name__ == "__main__":
    main()
