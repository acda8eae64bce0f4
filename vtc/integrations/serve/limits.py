"""How much one request may take, and how many may wait."""

from __future__ import annotations

from dataclasses import dataclass, fields

from vtc.core.validation import check_int, check_number


@dataclass(frozen=True)
class ServerLimits:
    """Limits of a server.

    Attributes:
        body: bytes of a request, its media in base64 among them; also those of one medium that is fetched.
        media: images and videos of a conversation.
        waiting: requests that may wait while one is answered; more are refused with 429.
        answer: tokens of an answer, also where a request does not say.
        prompt: tokens of a prompt as the stock model would read it; None: what the model takes.
        frames: of a video, spread over all of a longer one.
        fps: frames a second that are taken of a video.
    """

    body: int = 64 << 20
    media: int = 16
    waiting: int = 32
    answer: int = 1024
    prompt: int | None = None
    frames: int = 64
    fps: float = 2.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "fps" and not (field.name == "prompt" and value is None):
                check_int(field.name, value, 0 if field.name == "waiting" else 1)
        check_number("fps", self.fps, 0, ends="()", expected="a number of frames a second above 0, such as 2")
