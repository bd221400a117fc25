"""Names that the user has listed: found on a page without any label, in every spelling of Arabic."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from gemtune.documents.personal_data.labels import spellings
from gemtune.documents.personal_data.reading_orders import fold
from gemtune.errors import RecipeError
from gemtune.files import READING, os_errors

MOST = 5_000  # names; a page takes a second with so many


def known_names(path: Path) -> re.Pattern[str]:
    """A pattern of the names in a file, one a line, for a folded text; RecipeError where there is none in it."""
    try:
        with os_errors(path, READING):
            text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: cannot be read as UTF-8 text ({error}); save it as UTF-8") from error
    names = sorted({name for line in text.splitlines() if (name := " ".join(line.split()))}, key=len, reverse=True)
    if not 0 < len(names) <= MOST:
        raise RecipeError(f"privacy.names: {path} has {len(names):,} names; wanted 1 to {MOST:,}, one a line")
    return pattern_of(names)


def pattern_of(names: list[str]) -> re.Pattern[str]:
    """
    >>> [match["name"] for match in pattern_of(["منى عادل", "Ali Hassan"]).finditer("حضرت مني  عادل، وعلى ALI HASSAN")]
    ['مني  عادل', 'ALI HASSAN']
    """
    folded = (spellings(fold(unicodedata.normalize("NFC", name)).text).replace(r"\ ", r"\s{1,3}") for name in names)
    return re.compile(rf"(?<!\w)[وفبلك]?(?P<name>{'|'.join(folded)})(?!\w)", re.IGNORECASE)
