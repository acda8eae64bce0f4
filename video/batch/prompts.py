"""Prompts about one medium: what they share, up to the last visual token and a little further, and where they part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vtc.inference.prompting import Medium, processed

TYPES = ("token_type_ids", "mm_token_type_ids")


class SystemPromptProcessor:
    """A processor whose conversations begin with a system message. All else is the processor's own."""

    def __init__(self, processor: Any, system: str) -> None:
        self._processor, self._system = processor, system

    def __getattr__(self, name: str) -> Any:
        return getattr(self._processor, name)

    def apply_chat_template(self, conversations: list[Any], **options: Any) -> Any:
        """The processor's own, of conversations that begin with the system's turn."""
        turn = {"role": "system", "content": [{"type": "text", "text": self._system}]}
        return self._processor.apply_chat_template([[turn, *one] for one in conversations], **options)


def with_system_prompt(processor: Any, system: str | None) -> Any:
    """`processor`, with the system's turn in front of each conversation where there is one.

    Raises:
        ValueError: its chat template leaves the system's turn out.
    """
    if system is None:
        return processor
    found = SystemPromptProcessor(processor, system)
    if system.strip() not in _rendered(found, "?", "image"):
        raise ValueError(f"system={system!r}: the model's chat template leaves it out; put it into the question")
    return found


@dataclass(frozen=True)
class Prompts:
    """Prompts that differ in their question alone.

    Attributes:
        inputs: of one of them, as the processor made them, on the CPU.
        prefix: how many of its ids all prompts begin with; all visual tokens are among them.
        tails: of each prompt, its ids behind the prefix.
    """

    inputs: Mapping[str, Any]
    prefix: int
    tails: tuple[Tensor, ...]

    @classmethod
    def of(cls, processor: Any, made: str, questions: list[str], medium: Medium, inputs: Mapping[str, Any]) -> Prompts:
        """The prompts of `questions` about `medium`; `inputs` are what the processor made of the question `made`.

        The medium is processed once: what follows the last visual token is tokenised alone, which is what the whole
        prompt's tokens end in, since that token stands by itself. A processor of which that is not so processes each.
        """
        ids = inputs["input_ids"][0]
        kind = "video" if "pixel_values_videos" in inputs else "image"
        token = str(getattr(processor, f"{kind}_token", ""))
        own, *tails = (_tail(processor, question, kind, token) for question in (made, *questions))
        if own is None or any(tail is None for tail in tails) or not _ends_in(ids, own):
            whole = [processed(processor, [question], [medium])["input_ids"][0] for question in questions]
            prefix = _common([ids, *whole])
            return cls(inputs, prefix, tuple(one[prefix:] for one in whole))
        return cls(inputs, len(ids) - len(own), tuple(tail for tail in tails if tail is not None))

    def shared(self) -> dict[str, Any]:
        """The model's inputs of the prefix."""
        given = dict(self.inputs)
        for name in ("input_ids", "attention_mask", *TYPES):
            if name in given:
                given[name] = given[name][:, : self.prefix]
        return given

    def whole(self, i: int) -> dict[str, Any]:
        """The model's inputs of prompt `i`."""
        given, tail = self.shared(), self.tails[i][None]
        for name in ("attention_mask", *TYPES):
            if name in given:
                rest = torch.full_like(tail, int(name == "attention_mask"), dtype=given[name].dtype)
                given[name] = torch.cat([given[name], rest], dim=1)
        given["input_ids"] = torch.cat([given["input_ids"], tail], dim=1)
        return given

    def batch(self, rows: list[int], pad: int) -> tuple[Tensor, Tensor]:
        """Ids and mask of prompts `rows`, `[B, L]` each; padding stands between the prefix and shorter tails.

        There the cached prefix, which has none, goes on for every row.
        """
        longest = max(len(self.tails[i]) for i in rows)
        prefix = self.inputs["input_ids"][0, : self.prefix]
        ids, mask = [], []
        for i in rows:
            filling = torch.full((longest - len(self.tails[i]),), pad)
            ids.append(torch.cat([prefix, filling, self.tails[i]]))
            mask.append(torch.ones_like(ids[-1]))
            mask[-1][self.prefix : self.prefix + len(filling)] = 0
        return torch.stack(ids), torch.stack(mask)


def _tail(processor: Any, question: str, kind: str, token: str) -> Tensor | None:
    """Return the ids behind the last placeholder of the medium; None if the tokenizer has no such token."""
    text = _rendered(processor, question, kind)
    # A question that names the placeholder itself would be cut there.
    if not token or token in question or token not in text:
        return None
    known = processor.tokenizer.convert_tokens_to_ids(token)
    after = processor.tokenizer(token + text.rpartition(token)[2], add_special_tokens=False)["input_ids"]
    return torch.tensor(after[after.index(known) + 1 :]) if known in after else None


def _rendered(processor: Any, question: str, kind: str) -> str:
    content = [{"type": kind}, {"type": "text", "text": question}]
    turn = [[{"role": "user", "content": content}]]
    return str(processor.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)[0])


def _ends_in(ids: Tensor, tail: Tensor) -> bool:
    return len(tail) < len(ids) and torch.equal(ids[len(ids) - len(tail) :], tail)


def _common(whole: list[Tensor]) -> int:
    """Return how many ids all begin with, and leave each at least one."""
    shortest = min(map(len, whole)) - 1
    same = torch.stack([one[:shortest] == whole[0][:shortest] for one in whole]).all(dim=0)
    return shortest if bool(same.all()) else int((~same).nonzero()[0])
