"""Package a trained model: `python -m tools.train_embedded.publish runs/tiny-llava/tiny-llava`.

Copies the finished directory to `vtc/embedded/weights/` (its card stays as it is) and writes the sums that
`vtc.embedded.path` checks.
"""

import argparse
import shutil
from pathlib import Path

from vtc.core.files import sha256_of
from vtc.embedded import NAMES

WEIGHTS = Path(__file__).parents[2] / "vtc" / "embedded" / "weights"


def main(arguments: list[str] | None = None) -> None:
    """Entry point; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="tools.train_embedded.publish", description=__doc__)
    parser.add_argument("directory", type=Path, help="a finished directory, named like its model")
    options = parser.parse_args(arguments)
    directory: Path = options.directory
    if directory.name not in NAMES:
        parser.error(f"{directory} is not named like a model; known: {', '.join(NAMES)}")
    if not (directory / "model.safetensors").is_file():
        parser.error(f"{directory} holds no model.safetensors; name the finished directory of a run")
    shutil.copytree(directory, WEIGHTS / directory.name, dirs_exist_ok=True)
    write_sums(WEIGHTS)


def write_sums(weights: Path) -> None:
    """Write `SHA256SUMS` of every model in the folder `weights`, as `sha256sum --check` reads it."""
    files = sorted(weights.glob("*/*.safetensors"))
    lines = [f"{sha256_of(file)}  {file.relative_to(weights)}\n" for file in files]
    (weights / "SHA256SUMS").write_text("".join(lines))


if __name__ == "__main__":
    main()
