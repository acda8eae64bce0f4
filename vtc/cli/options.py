"""Options that several commands take, with their help."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from vtc.core.budget import Keep

VIDEOS = "Options of videos"
READERS = ("pyav", "opencv", "decord", "torchcodec")
Media = Annotated[
    Path,
    typer.Argument(
        metavar="MEDIA",
        help="An image or a video, or sample:NAME for a packaged image (scene1 to scene4). Animated GIF and PNG are "
        "videos; of an animated WebP the first frame is taken.",
        show_default=False,
    ),
]
MODELS = (
    "small-llava (fetched once), tiny-llava, tiny-internvl or tiny-qwen (packaged, work offline), a directory, or a "
    "hub id."
)
Model = Annotated[str, typer.Option(help=MODELS)]
AnyModel = Annotated[
    str | None,
    typer.Option(
        help=f"{MODELS} Default: small-llava for an image; tiny-qwen, which was trained on videos, for a video."
    ),
]
AnyRecipe = Annotated[
    str | None,
    typer.Option(
        help="A name from `vtc recipes`, or a recipe file (.json). Default: kcenter for an image, video for a video."
    ),
]
Fps = Annotated[float | None, typer.Option(help="Frames a second to take. Default: 2.", rich_help_panel=VIDEOS)]
Frames = Annotated[
    int | None,
    typer.Option(help="Frames at most, spread over all of a longer video. Default: 64.", rich_help_panel=VIDEOS),
]
Start = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", help="Where to begin. Default: at its first frame.", rich_help_panel=VIDEOS),
]
End = Annotated[
    float | None, typer.Option(metavar="SECONDS", help="Where to stop. Default: at its end.", rich_help_panel=VIDEOS)
]
Look = Annotated[
    float | None,
    typer.Option(
        metavar="FPS",
        help="Frames a second to look at in a video that is longer than --frames reach, where the recipe chooses "
        "among them; 0: none but those evenly spaced. Default: 1.",
        rich_help_panel=VIDEOS,
    ),
]
Slack = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="Look at a keyframe instead where one lies so near, which is faster where there are many. Default: 0.",
        rich_help_panel=VIDEOS,
    ),
]
Track = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Which track of a file with several, as `vtc probe` numbers them. Default: the one that players show.",
        rich_help_panel=VIDEOS,
    ),
]
Reader = Annotated[
    str | None,
    typer.Option(
        metavar="|".join(READERS),
        help="What decodes: pyav is exact on all it reads; the others refuse where they are not. Default: pyav.",
        rich_help_panel=VIDEOS,
    ),
]
Keyframes = Annotated[
    str | None,
    typer.Option(
        "--keyframes",
        metavar="NAME[:PARAMETER=VALUE,...]",
        help="How the recipe chooses frames, in place of its own way: maxmin, change, dcode, kffocus, segments, "
        "uniform; or by the question: aks, mmr (mmr:relevance=0.7).",
        rich_help_panel=VIDEOS,
    ),
]
Scorer = Annotated[
    str | None,
    typer.Option(
        metavar="model|clip:FOLDER",
        help="What scores frames for aks and mmr: the model's own tokens, or a CLIP or SigLIP model. Default: model.",
        rich_help_panel=VIDEOS,
    ),
]
SegmenterText = Annotated[
    str | None,
    typer.Option(
        "--segmenter",
        metavar="NAME[:PARAMETER=VALUE,...]",
        help="What cuts the recipe's clips: neighbour, density, even (even:parts=4), tdc, dyseg, content, adaptive, "
        "hash.",
        rich_help_panel=VIDEOS,
    ),
]
Features = Annotated[
    str | None,
    typer.Option(
        "--features",
        metavar="color-layout|tower|timm:NAME",
        help="What frames are compared by: colors, the model's own vision tower, or a timm model.",
        rich_help_panel=VIDEOS,
    ),
]
KeepText = Annotated[
    str | None,
    typer.Option(
        metavar="NUMBER",
        help="At most 1: the share of the visual tokens to keep (1 is all of them). A whole number of 2 or more: at "
        "most that many. Default: the recipe's own, 0.25 for the named ones.",
    ),
]
Positions = Annotated[
    str | None,
    typer.Option(metavar="original|compact", help="Coordinates of kept tokens. Default: the recipe's own."),
]
Device = Annotated[str, typer.Option(help="auto (a GPU where there is one), cpu, cuda, ...")]
Dtype = Annotated[str, typer.Option(help="auto (the checkpoint's own), float32, bfloat16 or float16.")]
Offline = Annotated[
    bool,
    typer.Option("--offline", help="Fetch nothing: without small-llava on this machine, tiny-llava answers."),
]
BatchModel = Annotated[
    str | None,
    typer.Option(
        help=f"{MODELS} Of an endpoint: its name there. Default: tiny-qwen, or the endpoint's only one.",
        show_default=False,
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        metavar="local|vllm|ray",
        help="What answers: a model of transformers here, vLLM here, or models on a Ray cluster.",
    ),
]
ENGINES = "Options of vLLM and endpoints"
Endpoint = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Ask an OpenAI-compatible server, such as http://localhost:8000/v1; its key is OPENAI_API_KEY of the "
        "environment. Without --recipe and --keep it is left to its own.",
        rich_help_panel=ENGINES,
    ),
]
CheckEngine = Annotated[
    str,
    typer.Option(
        metavar="transformers|vllm", help="vllm: compare what vLLM keeps and answers with the same by transformers."
    ),
]
EngineArgs = Annotated[
    str | None,
    typer.Option(
        metavar="JSON",
        help="Arguments of vLLM, such as '{\"max_model_len\": 8192}'; or further fields of requests to the endpoint "
        "(null takes one out).",
        rich_help_panel=ENGINES,
    ),
]
Concurrency = Annotated[
    int | None,
    typer.Option(
        min=1, help="Requests in hand at once. Default: 64 of vLLM, 16 of an endpoint.", rich_help_panel=ENGINES
    ),
]
RequestTimeout = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", help="What an endpoint has for one answer. Default: 600.", rich_help_panel=ENGINES),
]
VideoAs = Annotated[
    str | None,
    typer.Option(
        metavar="frames|video",
        help="How a video goes to an endpoint: its frames as images, which every server takes, or one lossless video "
        "of them. Default: frames.",
        rich_help_panel=ENGINES,
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Throw away what --out holds of an earlier run.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON in place of a table.")]


def old(*names: str) -> Any:
    """A hidden spelling of an option of 0.1."""
    return typer.Option(*names, hidden=True, show_default=False)


def parts(text: str, option: str) -> list[str]:
    """Split what is parted by commas.

    Raises:
        typer.BadParameter: nothing is there, such as of a variable of the shell that is not set.
    """
    found = [part.strip() for part in text.split(",") if part.strip()]
    if not found:
        raise typer.BadParameter(f"{option} {text!r} names nothing; leave it out for its default")
    return found


def keep_number(text: str | None) -> Keep | None:
    """`--keep`: a whole number of 2 or more is a count, all else a share."""
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        accepted = "a share such as 0.25, or a count such as 64"
        raise typer.BadParameter(f"--keep {text!r} is no number; pass {accepted}") from None
    return int(number) if number >= 2 and number.is_integer() else number
