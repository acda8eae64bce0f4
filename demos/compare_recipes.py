"""Which recipe keeps the answers? The packaged questions, asked with all tokens and by four recipes. Runs offline."""

import sys
from pathlib import Path

from vtc.embedded.samples import samples
from vtc.inference.asking import greedy
from vtc.inference.loading import load
from vtc.inference.prompting import inputs
from vtc.media.images import load_image
from vtc.recipes.named import recipe
from vtc.reduction.api import reduced
from vtc.viz.overlays import before_after

out = Path(sys.argv[1] if len(sys.argv) > 1 else "vtc-demo")
out.mkdir(exist_ok=True)
model, processor = load("tiny-llava", device="cpu")
images = [load_image(sample.path) for sample in samples()]
asked = inputs(model, processor, [sample.question for sample in samples()], images)


def right() -> str:
    """How many of the questions the model answers as is true, all of them in one batch."""
    answers = model.generate(**asked, max_new_tokens=8, **greedy(model))[:, asked["input_ids"].shape[1] :]
    texts = processor.batch_decode(answers, skip_special_tokens=True)
    count = sum(text.strip() == sample.answer for text, sample in zip(texts, samples(), strict=True))
    return f"{count} of {len(texts)} right"


print(f"{'all tokens':<22} {right()}")
for name in ("kcenter", "cls-mean", "random", "pool"):
    for keep in (0.25, 0.05):
        chosen = recipe(name, keep=keep)
        with reduced(model, chosen):
            answer_text, report = right(), model.vtc.report
        print(f"{f'{name}, keep {keep}':<22} {answer_text}, {report.after} of {report.before} tokens")
        before_after(images[0], processor.image_processor, report, chosen).save(out / f"{name}-{keep}.png")
