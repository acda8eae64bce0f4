"""What is wrong with a request, in the form that OpenAI's clients read."""

from __future__ import annotations

from typing import Any

TYPES = {400: "invalid_request_error", 429: "rate_limit_error"}
LONGEST = 2000
"""Characters of a message, which may quote a request."""


class RequestError(Exception):
    """A request that is refused.

    Attributes:
        message: what is wrong, what was given and what would be accepted.
        status: the HTTP status.
        code: a word for programs.
    """

    def __init__(self, message: str, status: int = 400, code: str = "invalid_value") -> None:
        message = message if len(message) <= LONGEST else f"{message[:LONGEST]} ..."
        super().__init__(message)
        self.message, self.status, self.code = message, status, code

    def body(self) -> dict[str, Any]:
        """The body of the answer."""
        kind = TYPES[429] if self.status == 429 else TYPES[400] if self.status < 500 else "server_error"
        return {"error": {"message": self.message, "type": kind, "param": None, "code": self.code}}
