"""Where a video's tokens go: it is cut into clips, each gets a budget by what happens in it. Runs offline."""

import sys
from pathlib import Path

from vtc.embedded.video import HELD_OUT, Video
from vtc.inference.asking import answer, prompt, report_on
from vtc.inference.loading import load
from vtc.recipes.named import recipe
from vtc.reduction.api import reduced
from vtc.video import Sampling, probe
from vtc.video.qa.token_usage import low_res_frames, token_usage
from vtc.viz.contact_sheets import contact_sheet
from vtc.viz.overlays import caption
from vtc.viz.timeline import timeline

out = Path(sys.argv[1] if len(sys.argv) > 1 else "vtc-demo")
out.mkdir(exist_ok=True)
path, video = out / "video.mp4", Video(HELD_OUT + 34)
video.save(path)
sampling = Sampling(fps=2, frames=16)
frames, _ = sampling.read(path, sampling.candidates(probe(path)))

model, processor = load("tiny-qwen", device="cpu")
question = video.questions[0]
inputs = prompt(model, processor, frames, question.question)
print(f"{question.question} (truth: {question.answer}; all tokens: {answer(model, processor, inputs, 8)})")
for name in ("uniform", "clip-budget", "video"):
    chosen = recipe(name, keep=0.25)
    with reduced(model, chosen):
        answer_text = answer(model, processor, inputs, 8)
    report, small = report_on(model, inputs, chosen), low_res_frames(model, inputs, chosen)
    found = token_usage(frames, report, chosen, small)
    print(f"{answer_text}\n  {found}")
    timeline(frames, report, chosen, video=small, title=question.question).save(out / f"{name}-timeline.png")
    encoded = [unit.encoded for unit in found.units]
    contact_sheet(frames, found.item, caption(report, chosen), encoded=encoded).save(out / f"{name}-frames.png")
