"""The one exception tree: the command line prints a GemtuneError as one line and exits 2."""

from __future__ import annotations


class GemtuneError(Exception):
    """What was found, what was wanted and the next move, in one line."""


class RecipeError(GemtuneError):
    """A recipe key or value that cannot be used."""


class DataError(GemtuneError):
    """An input file that cannot be read as rows."""


class RowError(GemtuneError):
    """One row that cannot become a conversation; `reason` is the short name it is counted under."""

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.reason = reason


class ModelError(GemtuneError):
    """A model or tokenizer that cannot be found, loaded or used for this recipe."""


class RunError(GemtuneError):
    """A run directory that is missing, locked, of another version or damaged."""


class CheckError(GemtuneError):
    """The batch contract does not hold."""


class MissingExtra(GemtuneError):
    """An optional dependency that is not installed; the line to install it is in the message."""

    def __init__(self, what: str, extra: str):
        super().__init__(f"{what} needs an optional dependency that is not installed: pip install 'gemtune[{extra}]'")
