"""Embedded models: small vision-language models that really answer, for tests, demos and offline trials.

They are stock transformers classes. The tiny ones were trained from scratch by `python -m tools.train_embedded.train`
and are packaged whole; of `small-llava` the language model is fetched once. What is measured on them is said of them
only.
"""

import difflib
from pathlib import Path

from vtc.core.files import sha256_of

# Which view of the drawn world (`vtc.embedded.spec.VIEWS`) each model is asked about.
VIEW_OF = {"tiny-llava": "square", "tiny-internvl": "native", "tiny-qwen": "native", "small-llava": "square"}
FETCHED = ("small-llava",)
"""Models of which a part is fetched once, see `vtc.embedded.small_llava`."""
NAMES = tuple(name for name in VIEW_OF if name not in FETCHED)
"""Models that are packaged whole."""

_ROOT = Path(__file__).parent


def path(name: str) -> Path:
    """The directory of the embedded model `name`, as `from_pretrained` takes it.

    Raises:
        ValueError: an unknown name, or weights that are not those that were packaged.
        FileNotFoundError: the weights are not in the installation, or were not fetched.
    """
    if name in FETCHED:
        from .small_llava import path

        return path()
    if name not in NAMES:
        near = difflib.get_close_matches(str(name), VIEW_OF, n=1, cutoff=0.0)[0]
        raise ValueError(f"name={name!r} is no embedded model; did you mean {near!r}? Known: {', '.join(VIEW_OF)}")
    directory = _ROOT / "weights" / name
    weights = directory / "model.safetensors"
    if not weights.is_file():
        raise FileNotFoundError(
            f"the weights of {name!r} are missing from {directory}; reinstall vtc, "
            f"or train them with `python -m tools.train_embedded.train {name}`"
        )
    found, expected = sha256_of(weights), sums().get(name)
    if found != expected:
        raise ValueError(
            f"the weights of {name!r} in {directory} are not those that were packaged (sha256 {found[:12]}..., "
            f"expected {(expected or 'none')[:12]}...); reinstall vtc"
        )
    return directory


def sums() -> dict[str, str]:
    """The sha256 of what is packaged of each model's weights, by its name."""
    lines = (_ROOT / "weights" / "SHA256SUMS").read_text().splitlines()
    return {line.split("  ")[1].split("/")[0]: line.split("  ")[0] for line in lines}
