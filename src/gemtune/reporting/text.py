"""How values look in a report and on a terminal: numbers as digits, hostile text made harmless."""

from __future__ import annotations

import json
import math
import re

import regex
from markupsafe import Markup

from gemtune.errors import sign_of, visible
from gemtune.metrics.statistics import Difference, Interval

PREVIEW = 280  # characters of a text before it folds


def number(value: float | None) -> str:
    """Three significant digits, whole numbers in full.

    >>> number(0.87346), number(1234.56), number(0.00002), number(3.0)
    ('0.873', '1,235', '2e-05', '3')
    """
    if value is None:
        return ""
    return f"{value:,.0f}" if math.isfinite(value) and (abs(value) >= 100 or value == int(value)) else f"{value:.3g}"


def count(value: int | None) -> str:
    """How many, with thousands set apart."""
    return "" if value is None else f"{value:,}"


def big(value: float) -> str:
    """
    >>> big(268_098_176), big(3_796_992), big(99_600_000), big(640)
    ('268M', '3.8M', '100M', '640')
    """
    power, letter = next(((p, letter) for p, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")) if value >= p), (1.0, ""))
    return f"{value / power:.{1 if power > 1 and value / power < 9.95 else 0}f}{letter}"


def score(value: float | None, sign: bool = False) -> str:
    """A score from 0 to 1, or a difference of two, with a real minus sign.

    >>> score(0.6123), score(-0.05, sign=True)
    ('0.612', '−0.050')
    """
    if value is None or not math.isfinite(value):
        return "none"
    rounded = round(value, 3) + 0.0  # + 0.0: no minus zero
    return (f"{rounded:+.3f}" if sign and rounded else f"{rounded:.3f}").replace("-", "−")


def interval(side: Interval | Difference, sign: bool = False) -> Markup:
    """
    >>> str(interval(Interval(mean=0.6123, low=0.57, high=0.65)))
    '0.612 [0.570, 0.650]'
    """
    mean, low, high = (score(value, sign) for value in (side.mean, side.low, side.high))
    return Markup(f"{mean} [{low}, {high}]")  # noqa: S704 (digits only)


def duration(seconds: float | None) -> str:
    """
    >>> duration(7325.4), duration(95), duration(4.22)
    ('2 h 2 min', '1 min 35 s', '4.2 s')
    """
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


_ENDS = {"\n": "⏎\n", "\t": "⇥\t"}  # where the eye needs both: the sign, and what it does
_IN_EMOJI = "\u200d\ufe0f"
_MARKDOWN = re.compile(
    r"[\\`*\[<|~$]|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w+;)|(?<=http):|(?<=https):|(?<=ftp):|(?<=www)\.", re.IGNORECASE
)


def printable(text: str) -> str:
    """Like `visible`, for text that is read token by token: line ends, tabs and invisible characters are signs, too.

    >>> printable("a\\tb\\x07"), printable("non\\xa0breaking")
    ('a⇥\\tb␇', 'non⟨U+00A0⟩breaking')
    """
    return "".join(_ENDS.get(c) or (c if c.isprintable() or c in _IN_EMOJI else sign_of(c)) for c in text)


def preview(text: str, limit: int = PREVIEW, lines: int = 8) -> str:
    """The beginning of a text, cut between the letters a reader sees (never inside an emoji).

    >>> preview("👩‍🚀👩‍🚀👩‍🚀", limit=2)
    '👩‍🚀👩‍🚀'
    """
    start = "\n".join(text.split("\n", lines)[:lines])
    seen = regex.match(rf"\X{{0,{limit}}}", start[: limit * 8])  # 8: no known emoji has more code points
    return seen[0] if seen else ""


def one_line(text: str, limit: int) -> str:
    """
    >>> one_line("a\\n b  c", 9), one_line("abcdef", 3)
    ('a ⏎ b c', 'abc…')
    """
    line = re.sub(r"[ \t]+", " ", text.strip().replace("\r\n", "\n").replace("\n", " ⏎ "))
    short = preview(line, limit)
    return line if short == line else short + "…"


def markdown(value: object) -> str:
    """Any value as plain words in a Markdown paragraph or table cell; numbers made here (Markup) stay as they are.

    >>> print(markdown("a|b `c` [d](https://e)"))
    a\\|b \\`c\\` \\[d](https\\://e)
    """
    if isinstance(value, Markup):
        return str(value)
    line = re.sub(r"\s*\n\s*", " ⏎ ", visible(value_text(value)).replace("\t", " "))
    return _MARKDOWN.sub(lambda match: "\\" + match[0], line)


def plain(value: object) -> Markup:
    """What was made or checked here, for a line of code or an address: it stays as it is."""
    return Markup(visible(str(value)))  # noqa: S704 (not for what a file or a model says)


def plain_json(value: object) -> Markup:
    """JSON for a line of code, made here."""
    return plain(json.dumps(value, ensure_ascii=False))


def value_text(value: object) -> str:
    """A value of a recipe or a manifest as a person would write it."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else json.dumps(value, ensure_ascii=False)
