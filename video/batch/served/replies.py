"""What a server's answers hold: the text, and what it says of visual tokens, which need not be anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PIL import Image

from .client import Client, EndpointError
from .content import image_part
from .in_flight import Reply
from .reading import ReadMedium

FIELD = "mm_processor_kwargs"
"""The field of a request in which vLLM takes what its processor is to do."""
STOCK = {"recipe": "kcenter", "keep": 1.0}
"""What leaves all tokens, whatever the server does by itself."""
FEW = {"recipe": "kcenter", "keep": 0.1}
SIDE = 224


def reply_of(answer: Mapping[str, Any], read: ReadMedium) -> Reply:
    """The reply in a chat completion.

    Raises:
        EndpointError: there is no text in it.
    """
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, dict) else None
    text = message.get("content") if isinstance(message, dict) else None
    if not isinstance(text, str):
        why = f" (finish_reason={first.get('finish_reason')!r})" if isinstance(first, dict) else ""
        raise EndpointError(f"the answer holds no text{why}; an answer that only thinks needs more --max-new-tokens")
    full, kept = visual_tokens(answer, read)
    return Reply(text.strip(), full, kept)


def visual_tokens(answer: Mapping[str, Any], read: ReadMedium) -> tuple[int | None, int | None]:
    """Visual tokens that the stock model would have got of the whole medium, and those that the server's did.

    `vtc serve` says both in `usage.prompt_tokens_details`, for what it was sent; vLLM, where it is asked for details,
    how many it read, and with vtc's middleware both in `X-VTC-Report`. What a server does not say nobody knows.
    """
    details: Any = answer
    for name in ("usage", "prompt_tokens_details"):
        details = details.get(name) if isinstance(details, dict) else None
    details = details if isinstance(details, dict) else {}
    report = answer.get("vtc")
    report = report if isinstance(report, dict) else {}
    by_kind = details.get("multimodal_tokens")
    read_ones = list(by_kind.values()) if isinstance(by_kind, dict) else []
    after = _count(details.get("visual_tokens", report.get("after")))
    if after is None and read_ones and None not in map(_count, read_ones):
        after = sum(read_ones)
    before = _count(details.get("visual_tokens_full", report.get("before")))
    if before is not None and read.given > read.chosen:  # frames that were left out here, each as large as those sent
        before = before // read.chosen * read.given if before % read.chosen == 0 else None
    return before, after


def _count(value: Any) -> int | None:
    """A number of tokens, or None for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def check_reducing(client: Client, model: str) -> None:
    """Find out by two short requests whether the server reduces visual tokens when it is asked to.

    One that ignores the field would answer a whole batch from all tokens, and say nothing.

    Raises:
        ValueError: it does not, or refuses the field.
        OSError, EndpointRefusal: see `Client`.
    """
    remedy = (
        'vLLM needs vtc\'s plug-in, --hf-overrides \'{"vtc": {"keep": 1.0}}\' and --trust-request-mm-kwargs; or leave '
        "--recipe and --keep out, and the server follows its own"
    )
    counts = []
    for asked in (STOCK, FEW):
        parts = [image_part(Image.linear_gradient("L").resize((SIDE, SIDE)).convert("RGB"))]
        turn = {"role": "user", "content": [*parts, {"type": "text", "text": "?"}]}
        try:
            answer = client.chat({"model": model, "messages": [turn], "max_tokens": 1, FIELD: {"vtc": asked}})
        except EndpointError as error:
            raise ValueError(f"endpoint={client.endpoint} takes no recipe: {error}; {remedy}") from error
        usage = answer.get("usage")
        counts.append(usage.get("prompt_tokens") if isinstance(usage, dict) else None)
    full, few = counts
    if not isinstance(full, int) or not isinstance(few, int):
        raise ValueError(
            f"endpoint={client.endpoint} says no usage.prompt_tokens, so that nobody could know whether it heeds the "
            f"recipe; {remedy}"
        )
    if full == few:
        raise ValueError(
            f"endpoint={client.endpoint} ignores the recipe: prompts of keep=1.0 and {FEW['keep']} have {full} tokens "
            f"each; {remedy}"
        )
