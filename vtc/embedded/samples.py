"""Four drawn scenes and a video with questions and true answers, packaged for demos.

The scenes are the first unseen seeds whose scene has three shapes or more and a plate, the video is that of the first
unseen seed, asked the first question of each skill; no model had a say in the choice.
`python -m vtc.embedded.samples` draws them again.
"""

import json
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

from vtc.core.registry import nearest

from .exam import exact
from .questions import SceneQuestion
from .scene import HELD_OUT, Scene
from .video import Video

FOLDER = Path(__file__).parent / "samples"
VIDEO = "video1.mp4"
QUESTIONS = FOLDER / "questions.jsonl"
"""Questions about the first scene and the video, as `vtc batch` takes them."""
_WANTED = (
    ("text", "color", "where"),
    ("what", "count", "text"),
    ("shape", "exists", "pattern"),
    ("relation", "count"),
)


@dataclass(frozen=True)
class Sample:
    """A packaged image or video (`file` in `FOLDER`) with one question, its true answer and its skill."""

    file: str
    question: str
    answer: str
    skill: str

    @property
    def path(self) -> Path:
        """Where the file lies."""
        return FOLDER / self.file


def samples() -> list[Sample]:
    """The packaged samples: four images, two or three questions each. FileNotFoundError if they are missing."""
    index = FOLDER / "samples.json"
    if not index.is_file():
        raise FileNotFoundError(f"{index} is missing; reinstall vtc or run `python -m vtc.embedded.samples`")
    return [Sample(**entry) for entry in json.loads(index.read_text())]


def video_samples() -> list[Sample]:
    """The packaged video's questions, one of each skill. FileNotFoundError if they are missing."""
    index = FOLDER / "videos.json"
    if not index.is_file():
        raise FileNotFoundError(f"{index} is missing; reinstall vtc or run `python -m vtc.embedded.samples`")
    return [Sample(**entry) for entry in json.loads(index.read_text())]


def sample_media() -> list[Path]:
    """The files that `QUESTIONS` names."""
    return list(dict.fromkeys(sample.path for sample in _in_a_batch()))


def _in_a_batch() -> list[Sample]:
    first = samples()[0].file
    return [*(sample for sample in samples() if sample.file == first), *video_samples()]


def true_answer(path: str | Path, question: str) -> str | None:
    """The true answer to `question` about the file at `path`, where that is a packaged sample and it is known."""
    known = [sample for sample in (*samples(), *video_samples()) if exact(sample.question, question)]
    if not known or not Path(path).is_file():
        return None
    content = Path(path).read_bytes()
    return next((sample.answer for sample in known if sample.path.read_bytes() == content), None)


def sample_path(name: str) -> Path:
    """Where the packaged image or video `name` (`scene1`, `video1`) lies. ValueError for an unknown one."""
    found = {path.stem: path for path in sorted((*FOLDER.glob("*.png"), *FOLDER.glob("*.mp4")))}
    if name not in found:
        raise ValueError(f"sample:{name} is unknown{nearest(name, found)} (known: {', '.join(found)})")
    return found[name]


def _choose() -> list[tuple[Scene, list[SceneQuestion]]]:
    chosen: list[tuple[Scene, list[SceneQuestion]]] = []
    for seed in count(HELD_OUT):
        if len(chosen) == len(_WANTED):
            return chosen
        scene = Scene(seed)
        by_skill = {q.skill: q for q in sorted(scene.questions, key=lambda q: len(q.answer))}
        wanted = _WANTED[len(chosen)]
        if len(scene.things) >= 3 and scene.plates and all(s in by_skill for s in wanted):
            chosen.append((scene, [by_skill[s] for s in wanted]))
    raise AssertionError("count() ends never")


def main() -> None:
    """Draw the samples into `FOLDER`."""
    FOLDER.mkdir(exist_ok=True)
    entries = []
    for i, (scene, questions) in enumerate(_choose()):
        file = f"scene{i + 1}.png"
        scene.image.save(FOLDER / file, optimize=True)
        entries += [asdict(Sample(file, q.question, q.answer, q.skill)) for q in questions]
    (FOLDER / "samples.json").write_text(json.dumps(entries, indent=1) + "\n")
    video = Video(HELD_OUT)
    video.save(FOLDER / VIDEO)
    first = {q.skill: q for q in reversed(video.questions)}
    asked = [q for q in video.questions if first[q.skill] is q]
    rows = [asdict(Sample(VIDEO, q.question, q.answer, q.skill)) for q in asked]
    (FOLDER / "videos.json").write_text(json.dumps(rows, indent=1) + "\n")
    lines = [
        {
            "id": str(number),
            "video" if one.file == VIDEO else "image": one.file,
            "question": one.question,
            "answer": one.answer,
        }
        for number, one in enumerate(_in_a_batch(), 1)
    ]
    QUESTIONS.write_text("".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    main()
