"""The time that steps take, without what comes between them: evaluations and saving."""

from __future__ import annotations

import time

from gemtune.hardware import synchronize


class Clock:
    """Runs from the first step on until a line is due; a GPU has then done what it was told."""

    def __init__(self, device: str):
        self._device = device
        self._began: float | None = None
        self._seconds = 0.0

    def start(self) -> None:
        """Goes on, if it was stopped."""
        if self._began is None:
            self._began = time.perf_counter()

    def stop(self) -> None:
        """Waits for the GPU, where there is one, and keeps the time until now."""
        if self._began is not None:
            synchronize(self._device)
            self._seconds += time.perf_counter() - self._began
            self._began = None

    def read(self) -> float:
        """The seconds since the last reading."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds
