"""Train `small-llava`: `python -m tools.train_embedded.small_llava.train --language DIR --easy-vqa DIR --hours 2`.

Two phases. `align`: tower and projector, without the language model, learn to say in word embeddings what each patch
shows (see `targets`). `answer`: the language model reads them; projector and LoRA first, the tower along with them
later, at a low rate. A killed run goes on with `--resume`; log and checkpoints lie in `--out`.
"""

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoTokenizer

from tools.train_embedded.model_specs.base import WIDTH
from tools.train_embedded.optim import MixedOptimizer, PhaseProgress, cosine, log, plain_attention, use_attention
from tools.train_embedded.pretrain_vision import EMPTY_WEIGHT, Heads, to_pixels, vision_loss
from tools.train_embedded.small_llava.examples import EasyVqa, TrainingExample, Wording, scene_example
from tools.train_embedded.small_llava.model import SmallLlava, add_lora, build
from tools.train_embedded.small_llava.packing import Bins, Dialogue, bin_attention, fill_bins
from tools.train_embedded.small_llava.targets import Targets
from vtc.core.files import replacing
from vtc.embedded.spec import VALIDATION

SPEC = SmallLlava()
ALIGN_SCENES = 8192
HELD_IMAGES = 200  # of easy-VQA's train split, for validation
EASY_SHARE = 0.15  # of the steps
HARD_SHARE, HARD_FROM = 0.7, 0.4  # of the scenes, from then on: with more questions of the slow skills
PLAIN_EVERY = 10  # steps
SIMPLE_UNTIL = 0.12  # of the phase: scenes of few things
TOWER_FROM = 0.4
RATES = {"align": 1e-3, "lora": 3e-3, "projector": 1e-3, "tower": 2e-4}
SECONDS_BETWEEN_LOGS = 420


@dataclass
class Run:
    """Everything that both phases use."""

    model: Any
    tokenizer: Any
    wording: Wording
    targets: Targets
    easy: EasyVqa
    plain: list[tuple[str, str]]
    out: Path
    seed: int
    batch: int

    def pixels(self, examples: list[TrainingExample], generator: torch.Generator | None) -> Tensor:
        """The examples as the processor would give them, bfloat16 `[b, 3, 128, 128]`."""
        return to_pixels(np.stack([e.pixels for e in examples]), generator, torch.bfloat16)


def main(arguments: list[str] | None = None) -> None:
    """Entry point; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="tools.train_embedded.small_llava.train", description=__doc__)
    parser.add_argument("--language", type=Path, required=True, help="SmolLM2-135M-Instruct, a folder")
    parser.add_argument("--easy-vqa", type=Path, required=True, help="the folder `data` of the package easy-vqa")
    parser.add_argument("--plain", type=Path, required=True, help="what `plain_english` wrote")
    parser.add_argument("--align-minutes", type=float, default=8)
    parser.add_argument("--hours", type=float, default=2.0, help="of the second phase")
    parser.add_argument("--batch", type=int, default=4, help="images of a step of the second phase")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/small-llava"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    run = _start(options)
    state: dict[str, Any] = {}
    if options.resume:
        state = torch.load(options.out / "checkpoint.pt", weights_only=True)
    aligned = options.out / "aligned.pt"
    if not aligned.is_file():
        align(run, options.align_minutes * 60)
        torch.save(_trained(run.model, "vision_tower", "multi_modal_projector"), aligned)
    run.model.load_state_dict(torch.load(aligned, weights_only=True), strict=False)
    add_lora(run.model)
    answer(run, options.hours * 3600, state)


def _start(options: argparse.Namespace) -> Run:
    model = build(options.language).requires_grad_(False)
    tokenizer = AutoTokenizer.from_pretrained(options.language)
    use_attention(model.model.vision_tower, plain_attention)
    use_attention(model.model.language_model, bin_attention)
    plain = [tuple(pair) for pair in json.loads(options.plain.read_text())]
    targets = Targets(tokenizer, model.get_input_embeddings().weight)
    easy = EasyVqa(options.easy_vqa)
    return Run(model, tokenizer, Wording(tokenizer), targets, easy, plain, options.out, options.seed, options.batch)


def _trained(model: nn.Module, *parts: str) -> dict[str, Tensor]:
    return {n: p for n, p in model.state_dict().items() if any(part in n for part in parts)}


def _pairs(model: nn.Module, *parts: str) -> list[tuple[str, nn.Parameter, nn.Parameter]]:
    """Name, fp32 master and parameter of everything with one of `parts` in its name; sets them trainable."""
    chosen = [(n, p) for n, p in model.named_parameters() if any(part in n for part in parts)]
    for _, p in chosen:
        p.requires_grad_()
    return [(n, nn.Parameter(p.detach().float()), p) for n, p in chosen]


# Phase one.


def align(run: Run, seconds: float) -> None:
    """Tower and projector learn `targets`, and what `pretrain_vision` asks of them."""
    with ProcessPoolExecutor(2) as pool:
        scenes = list(pool.map(scene_example, range(ALIGN_SCENES), chunksize=64))
        unseen = list(pool.map(scene_example, range(VALIDATION, VALIDATION + 128), chunksize=64))
    images = [i for i in run.easy.named if i in set(run.easy.images[:-HELD_IMAGES])]
    model, heads = run.model, Heads(run.model.config.text_config.hidden_size, WIDTH, 1)
    fast = MixedOptimizer(
        [*_pairs(model, "multi_modal_projector"), *((n, p, p) for n, p in heads.named_parameters())], 3e-3
    )
    slow = MixedOptimizer(_pairs(model, "vision_tower"), RATES["align"])
    rng, noise = np.random.default_rng(run.seed), torch.Generator().manual_seed(run.seed)
    progress, last, recent = PhaseProgress(None, seconds), time.monotonic(), []
    while progress.progress < 1:
        some = [scenes[i] for i in rng.integers(0, len(scenes), 26)]
        numbers = [images[i] for i in rng.integers(0, len(images), 6)]
        pixels = run.pixels(some + [run.easy.example(i) for i in numbers], noise)
        patches = np.stack([e.patches for e in some if e.patches is not None])
        wanted = torch.cat(
            [
                run.targets.of_patches(patches),
                torch.stack([run.targets.of_shape(*run.easy.patches(i)) for i in numbers]),
            ]
        )
        tokens, hidden = SPEC.encode(model, pixels)
        labels = torch.from_numpy(patches).long()
        facts = torch.from_numpy(np.stack([e.facts for e in some if e.facts is not None]))
        shown = (tokens[: len(some)], hidden[: len(some)])
        dense = vision_loss(SPEC, model, heads, shown, (labels, facts), (128, 128))
        distance = ((tokens.float() - wanted) ** 2).mean(-1) / wanted.var()
        empty = torch.cat([labels[..., 0] == 0, torch.zeros(len(numbers), 256, dtype=torch.bool)])
        weight = torch.where(empty, EMPTY_WEIGHT, 1.0)
        alignment = (distance * weight).sum() / weight.sum()
        (20 * alignment + dense).backward()
        for optimizer in (fast, slow):
            optimizer.step(cosine(progress.progress))
        progress.done_steps += 1
        recent.append(float(alignment.detach()))
        if time.monotonic() - last > 60 or progress.progress >= 1:
            left = round(float(np.mean(recent)), 4)
            log(run.out, phase="align", steps=progress.done_steps, unexplained=left, fields=_fields(run, heads, unseen))
            last, recent = time.monotonic(), []
    model.requires_grad_(False)


@torch.no_grad()
def _fields(run: Run, heads: Heads, unseen: list[TrainingExample]) -> dict[str, float]:
    tokens, _ = SPEC.encode(run.model, run.pixels(unseen, None))
    labels = torch.from_numpy(np.stack([e.patches for e in unseen if e.patches is not None])).long()
    out = {}
    for i, (name, logits) in enumerate(
        zip(("shape", "color", "striped", "symbol"), heads.fields(tokens), strict=False)
    ):
        there = labels[..., 3 if name == "symbol" else 0] > 0
        out[name] = round(float((logits[:, :, 0].argmax(-1) == labels[..., i])[there].float().mean()), 3)
    return out


# Phase two.


def answer(run: Run, seconds: float, state: dict[str, Any]) -> None:
    """Projector and LoRA, later the tower too, learn to answer."""
    model = run.model
    lora, projector, tower = (_pairs(model, part) for part in ("lora_", "multi_modal_projector", "vision_tower"))
    optimizers = [
        MixedOptimizer(pairs, RATES[name])
        for name, pairs in (("lora", lora), ("projector", projector), ("tower", tower))
    ]
    progress = PhaseProgress(None, seconds, state.get("steps", 0), state.get("seconds", 0.0))
    if state:
        _restore([*lora, *projector, *tower], optimizers, state)
    rng = np.random.default_rng([run.seed, 1, progress.done_steps])
    noise = torch.Generator().manual_seed(run.seed + progress.done_steps)
    last, recent = time.monotonic(), []
    while progress.progress < 1:
        tower_trains = progress.progress > TOWER_FROM
        for _, _, p in tower:
            p.requires_grad_(tower_trains)
        if progress.done_steps % PLAIN_EVERY == PLAIN_EVERY - 1:
            loss = plain_loss(run, rng)
        else:
            loss = image_loss(run, draw(run, rng, progress.progress), rng, noise)
            recent.append(float(loss.detach()))
        loss.backward()
        for optimizer in optimizers if tower_trains else optimizers[:2]:
            optimizer.step(cosine(progress.progress))
        progress.done_steps += 1
        if time.monotonic() - last > SECONDS_BETWEEN_LOGS or progress.progress >= 1:
            entry = {"phase": "answer", "steps": progress.done_steps, "seconds": round(progress.spent)}
            log(run.out, **entry, loss=round(float(np.mean(recent)), 4), accuracy=accuracy(run))
            _checkpoint(run.out, [*lora, *projector, *tower], optimizers, progress)
            last, recent = time.monotonic(), []
    torch.save(_trained(model, "lora_", "multi_modal_projector", "vision_tower"), run.out / "trained.pt")


def _checkpoint(out: Path, pairs: list[Any], optimizers: list[MixedOptimizer], progress: PhaseProgress) -> None:
    whole = {
        "masters": {n: m.detach() for n, m, _ in pairs},
        "optimizers": [o.state() for o in optimizers],
        "steps": progress.done_steps,
        "seconds": progress.spent,
    }
    with replacing(out / "checkpoint.pt") as draft:
        torch.save(whole, draft)


@torch.no_grad()
def _restore(pairs: list[Any], optimizers: list[MixedOptimizer], state: dict[str, Any]) -> None:
    for name, master, worker in pairs:
        master.copy_(state["masters"][name])
        worker.copy_(master)
    for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load(kept)


def draw(run: Run, rng: np.random.Generator, progress: float) -> list[TrainingExample]:
    """A batch of new scenes, most with hard questions, or of images of easy-VQA, which have fewer questions."""
    if rng.random() < EASY_SHARE:
        return [run.easy.example(int(i)) for i in rng.choice(run.easy.images[:-HELD_IMAGES], run.batch)]
    out: list[TrainingExample] = []
    while len(out) < run.batch:
        hard = progress > HARD_FROM and rng.random() < HARD_SHARE
        example = scene_example(int(rng.integers(ALIGN_SCENES, 2**31)), "hard" if hard else "every")
        few = (example.description or "").count(" at the ") <= 3
        if progress > SIMPLE_UNTIL or few:
            out.append(example)
    return out


def image_loss(
    run: Run, examples: list[TrainingExample], rng: np.random.Generator, noise: torch.Generator | None
) -> Tensor:
    """Weighted cross-entropy of the answers' tokens."""
    bins = fill_bins([run.wording.dialogues(e, rng) for e in examples])
    logits, truth, weight, _ = answer_logits(run, run.pixels(examples, noise), bins, rng)
    return (F.cross_entropy(logits, truth, reduction="none") * weight).sum() / weight.sum()


def plain_loss(run: Run, rng: np.random.Generator) -> Tensor:
    """The same of plain questions, without an image."""
    rows = [[_plain(run, i) for i in rng.integers(0, len(run.plain), 7)] for _ in range(2)]
    logits, truth, weight, _ = answer_logits(run, None, fill_bins(rows), rng)
    return (F.cross_entropy(logits, truth, reduction="none") * weight).sum() / weight.sum()


def _plain(run: Run, number: int) -> Dialogue:
    chat = [{"role": "user", "content": run.plain[number][0]}]
    whole = run.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    ids = run.tokenizer(whole, add_special_tokens=False).input_ids
    text = run.plain[number][1].split("<|im_end|>")
    given = run.tokenizer(text[0], add_special_tokens=False).input_ids
    given += [run.tokenizer.convert_tokens_to_ids("<|im_end|>")] if len(text) > 1 else []
    return Dialogue(ids + given, [0.0] * len(ids) + [1.0] * len(given))


def answer_logits(
    run: Run, pixels: Tensor | None, bins: Bins, rng: np.random.Generator, spread: bool = True
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits `[m, vocabulary]` where an answer's token comes next, that token, its weight `[m]`, its dialogue `[m, 2]`.

    Without `pixels` the head is the first token of a conversation alone.
    """
    model, (b, n, t) = run.model, bins.ids.shape
    embed = model.get_input_embeddings()
    opening = run.wording.opening if pixels is not None else run.wording.opening[:1]
    head = embed(torch.tensor(opening)).expand(b, -1, -1)
    if pixels is not None:
        visual, _ = SPEC.encode(model, pixels)
        after = embed(torch.tensor(run.wording.after_image)).expand(b, -1, -1)
        head = torch.cat([head, visual.to(head.dtype), after], 1)
    else:  # a dialogue brings its own first token
        head = head[:, :1]
    steps = np.ones((b, head.shape[1]), np.int64)
    if spread and pixels is not None:
        mean = rng.uniform(0, 3, (b, 1)) * (rng.random((b, 1)) < 2 / 3)
        steps[:, len(opening) :] += np.floor(rng.exponential(1.0, steps[:, len(opening) :].shape) * mean).astype(int)
    places = torch.from_numpy(steps.cumsum(1) - 1)
    later = bins.places.flatten(1) + places[:, -1:] + 1
    hidden = model.model.language_model(
        inputs_embeds=torch.cat([head, embed(bins.ids).flatten(1, 2)], 1),
        attention_mask=bins.mask.to(head.dtype),
        position_ids=torch.cat([places, later], 1),
        use_cache=False,
    ).last_hidden_state[:, head.shape[1] :]
    hidden = hidden.view(b, n, t, -1)[:, :, :-1]
    wanted = bins.weight[:, :, 1:] > 0
    dialogue = torch.stack([wanted.nonzero()[:, 0], bins.which[:, :, 1:][wanted]], 1)
    return (
        model.lm_head(hidden[wanted]).float(),
        bins.ids[:, :, 1:][wanted],
        bins.weight[:, :, 1:][wanted],
        dialogue,
    )


@torch.no_grad()
def accuracy(run: Run, scenes: int = 48, images: int = 16, batch: int = 4) -> dict[str, float]:
    """Share of unseen questions whose every answer token is the likeliest, by skill."""
    rng = np.random.default_rng(0)
    examples = [scene_example(VALIDATION + i) for i in range(scenes)]
    examples += [run.easy.example(i) for i in run.easy.images[-HELD_IMAGES : -HELD_IMAGES + images]]
    right: dict[str, list[bool]] = {}
    for start in range(0, len(examples), batch):
        some = examples[start : start + batch]
        rows = [[run.wording.turn(q.question, q.answer) for q in e.questions] for e in some]
        logits, truth, _, dialogue = answer_logits(
            run, run.pixels(some, None), fill_bins(rows, most=None), rng, spread=False
        )
        wrong = set(map(tuple, dialogue[logits.argmax(-1) != truth].tolist()))
        for i, example in enumerate(some):
            for j, question in enumerate(example.questions):
                right.setdefault(question.skill, []).append((i, j) not in wrong)
    drawn = [r for skill, rs in right.items() if skill != "easy-vqa" for r in rs]
    by_skill = {skill: round(float(np.mean(rs)), 3) for skill, rs in sorted(right.items())}
    return {"all": round(float(np.mean(drawn)), 4), **by_skill}


if __name__ == "__main__":
    main()
