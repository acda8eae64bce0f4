"""One line wraps a stock model: each call after it is smaller, and says what it left out. Runs offline."""

from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from vtc import embedded, reduce_tokens, restore
from vtc.embedded.samples import samples

sample = samples()[0]
model = AutoModelForImageTextToText.from_pretrained(embedded.path("tiny-llava"))
processor = AutoProcessor.from_pretrained(embedded.path("tiny-llava"))
text = f"USER: <image>\n{sample.question} ASSISTANT:"
inputs = processor(images=Image.open(sample.path), text=text, return_tensors="pt")

reduce_tokens(model, "kcenter", keep=0.25)
answer = model.generate(**inputs)[:, inputs.input_ids.shape[1] :]
print(f"{sample.question} {processor.decode(answer[0], skip_special_tokens=True)} (truth: {sample.answer})")
print(model.vtc.report)
restore(model)
