"""Tells a caption as it grows. Knows text only."""

from __future__ import annotations

from pipelines.core.streaming import Job, TextDelta


class Telling:
    """Turns the whole text after each step into the piece that is new."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._told = ""

    def tell(self, text: str) -> None:
        """A character of several tokens is told when whole; some tokenizers rewrite what they said before."""
        if len(text) > len(self._told) and text.startswith(self._told) and not text.endswith("\ufffd"):
            self._job.emit(TextDelta(text[len(self._told) :]))
            self._told = text
