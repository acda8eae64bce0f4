"""One page about a run: what `vtc batch` answered or `vtc bench quality` measured, as a single HTML file."""

from .write import write_report

__all__ = ["write_report"]
