"""The Prompt: what a model is shown, before any family's template turns it into text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from foveal.images import Picture


@dataclass(frozen=True)
class Prompt:
    """Pictures, the user's text and, at training time, the answer.

    Attributes:
        images: Pictures, shown before the text in this order; they are decoded when ``opened`` is called.
        user: The question.
        system: Instructions for families whose template has a system turn; others get it in front of ``user``.
        answer: The text that the model shall write, without the template's end-of-turn token.
        reply_start: What the model's turn already begins with, without white space at its ends; it is read, not
            learned, and the answer, with the space in front of it, goes on from there.
        turns: Further questions about the same pictures, each with its answer, that go on behind ``answer``: to learn
            several answers from one look at the pictures.
    """

    images: tuple[Picture | Image.Image, ...]
    user: str
    system: str | None = None
    answer: str | None = None
    reply_start: str = ""
    turns: tuple[tuple[str, str], ...] = ()

    def opened(self) -> list[Image.Image]:
        """The pictures, decoded.

        Raises:
            ImageError: One cannot be read.
        """
        return [image.open() if isinstance(image, Picture) else image for image in self.images]

    def messages(self) -> list[dict[str, Any]]:
        """The conversation up to the model's turn, in the form that ``processor.apply_chat_template`` takes."""
        turns: list[dict[str, Any]] = []
        if self.system:
            turns.append({"role": "system", "content": [{"type": "text", "text": self.system}]})
        content: list[dict[str, Any]] = [{"type": "image"} for _ in self.images]
        turns.append({"role": "user", "content": [*content, {"type": "text", "text": self.user}]})
        return turns

    def without_system(self) -> Prompt:
        """The same prompt with the system text moved in front of the question."""
        return replace(self, system=None, user=f"{self.system}\n{self.user}") if self.system else self
