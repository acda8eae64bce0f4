"""Four drawn scenes with questions and true answers, packaged for demos.

They are the first unseen seeds whose scene has three shapes or more and a plate; no model had a say in the choice.
`python -m vtc.embedded.samples` draws them again.
"""

import json
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

from vtc.core.registry import nearest

from .questions import SceneQuestion
from .scene import HELD_OUT, Scene

FOLDER = Path(__file__).parent / "samples"
_WANTED = (
    ("text", "color", "where"),
    ("what", "count", "text"),
    ("shape", "exists", "pattern"),
    ("relation", "count"),
)


@dataclass(frozen=True)
class Sample:
    """A packaged image (`file`, a PNG in `FOLDER`) with one question, its true answer and its skill."""

    file: str
    question: str
    answer: str
    skill: str

    @property
    def path(self) -> Path:
        """Where the image lies."""
        return FOLDER / self.file


def samples() -> list[Sample]:
    """The packaged samples: four images, two or three questions each. FileNotFoundError if they are missing."""
    index = FOLDER / "samples.json"
    if not index.is_file():
        raise FileNotFoundError(f"{index} is missing; reinstall vtc or run `python -m vtc.embedded.samples`")
    return [Sample(**entry) for entry in json.loads(index.read_text())]


def sample_path(name: str) -> Path:
    """Where the packaged image `name` (`scene1`) lies. ValueError for an unknown one."""
    found = {path.stem: path for path in sorted(FOLDER.glob("*.png"))}
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


if __name__ == "__main__":
    main()
