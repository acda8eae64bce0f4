"""How long a prompt may be: what the model's configuration says, and what the caller asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vtc.inference.context_window import context_of, rotary
from vtc.recipes.composition import Recipe


@dataclass(frozen=True)
class PromptLimits:
    """Bounds of a prompt, in tokens.

    Attributes:
        context: what the model can take; None where its configuration does not say.
        asked: of `--max-prompt`, over all tokens that the stock model would read; None: no bound.
        grid: whether visual tokens have coordinates of rows and columns, so that only those that are kept take room.
    """

    context: int | None
    asked: int | None = None
    grid: bool = False

    @classmethod
    def of(cls, model: Any, asked: int | None = None) -> PromptLimits:
        """The limits of `model`."""
        return cls(context_of(model), asked, "mrope_section" in rotary(model))

    def refusal(self, own: int, visual: int, recipe: Recipe | None) -> ValueError | None:
        """Return why a prompt cannot be asked; None where it can.

        Args:
            own: its tokens but the visual ones.
            visual: its visual tokens, as the stock model would read them.
            recipe: what they are reduced by.
        """
        whole = own + visual
        lengths = f"the prompt has {whole} tokens, {visual} of them visual"
        if self.asked is not None and whole > self.asked:
            return ValueError(f"{lengths}; max_prompt={self.asked}: shorten the question, or allow more (--max-prompt)")
        kept = visual if recipe is None or not self.grid else _kept(visual, recipe)
        if self.context is not None and own + kept >= self.context:
            left = "" if kept == visual else f" ({kept} are kept)"
            return ValueError(
                f"{lengths}{left}; the model takes {self.context} (max_position_embeddings), its answer among them: "
                "shorten the question, or take fewer frames or a smaller keep"
            )
        return None

    def longest(self, own: int, visual: int, recipe: Recipe | None, asked: int) -> int:
        """Tokens that an answer may have of those `asked` for: it ends where the model's context does.

        Args:
            own, visual, recipe: of a prompt that is not refused, see `refusal`.
        """
        if self.context is None:
            return asked
        kept = visual if recipe is None or not self.grid else _kept(visual, recipe)
        return max(1, min(asked, self.context - own - kept))


def _kept(visual: int, recipe: Recipe) -> int:
    """Visual tokens that are left at least; what a stage drops inside of the decoder was read by its first layers."""
    if recipe.decoder:
        return visual
    return min(visual, recipe.keep) if isinstance(recipe.keep, int) else int(visual * recipe.keep)
