"""Many questions about many videos in one resumable run, offline: each video is read and encoded once.

Start it again and nothing is answered twice; end it at any moment and start it again, and it goes on.
"""

import json
import sys
from pathlib import Path

from vtc.embedded.video import Video
from vtc.video import answer_batch

out = Path(sys.argv[1] if len(sys.argv) > 1 else "vtc-batch")
out.mkdir(exist_ok=True)
rows = []
for seed in range(4):
    video = Video(seed)
    if not (out / f"{seed}.mp4").exists():  # a file that is written again is another medium
        video.save(out / f"{seed}.mp4")
    for number, one in enumerate(video.questions[:3]):
        row = {"id": f"{seed}-{number}", "video": f"{seed}.mp4", "question": one.question, "answer": one.answer}
        rows.append(row)
questions = out / "questions.jsonl"
questions.write_text("".join(json.dumps(row) + "\n" for row in rows))

asked = {row["id"]: row for row in rows}

print(answer_batch(questions, out / "answers.jsonl", model="tiny-qwen", recipe="video", keep=0.25, max_new_tokens=8))
for line in (out / "answers.jsonl").read_text().splitlines():
    row = json.loads(line)
    video, kept = asked[row["id"]], f"{row['tokens_kept']} of {row['tokens_full']} visual tokens"
    right = "right" if row["correct"] else "wrong"
    print(f"{video['video']}: {video['question']} {row['answer']} ({right}, {kept})")
