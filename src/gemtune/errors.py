"""The one exception tree, the words errors share, and hostile text made visible; the CLI prints an error's one line."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterable, Iterator

# Control characters, bidi embeddings and overrides, line separators, lone surrogates, noncharacters: what could change
# how the text around it looks. Joiners and direction marks (U+200C to U+200F) stay: emoji and Arabic need them.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufff9-\ufffb\ufffe\uffff]"
)
MOST = 1_000  # characters of an error's line, of which the end has the next move
_END = 300


# What PyTorch says of a GPU (also of Apple's), of the machine, and of a library on a GPU.
_NO_MEMORY = ("out of memory", "DefaultCPUAllocator", "ALLOC_FAILED")


class GemtuneError(Exception):
    """What was found, what was wanted and the next move, in one line that does nothing to a terminal.

    >>> str(DataError("column '\\x1b[31m' \\n is missing")), len(str(DataError("a" * 5000)))
    ("column '␛[31m' is missing", 1000)
    """

    exit_code = 2

    def __init__(self, text: str):
        line = visible(" ".join(text.split()))
        super().__init__(line if len(line) <= MOST else f"{line[: MOST - _END - 5]} ... {line[-_END:]}")


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


class DivergedError(GemtuneError):
    """A training that diverged; the report, and any good weights from before, are kept."""

    exit_code = 3


class VerificationError(GemtuneError):
    """An artifact that does not answer as the model that it was made from; it stays, marked so."""

    exit_code = 4


class CheckError(GemtuneError):
    """The batch contract does not hold."""


class RequestError(GemtuneError):
    """A request that `gemtune serve` does not answer: its HTTP status, the field at fault, and OpenAI's word for it."""

    def __init__(self, text: str, field: str | None = None, *, status: int = 400, code: str | None = None):
        super().__init__(text)
        self.field, self.status, self.code = field, status, code


class MissingExtra(GemtuneError):
    """An optional dependency that is not installed; the line to install it is in the message."""

    def __init__(self, what: str, extra: str):
        super().__init__(f"{what} needs an optional dependency that is not installed: pip install 'gemtune[{extra}]'")


@contextlib.contextmanager
def memory_errors(move: str) -> Iterator[None]:
    """Turns what Python, PyTorch and CUDA say when no memory is left into one line with the next move."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        said = (str(error).splitlines() or [""])[0][:200]
        raise GemtuneError(f"out of memory ({said or type(error).__name__}); {move}") from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device, or the machine, has no memory left.

    >>> [is_out_of_memory(error) for error in (MemoryError(), RuntimeError("CUDA out of memory"), ValueError("x"))]
    [True, True, False]
    """
    is_torchs = isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
    return is_torchs or isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def shown(value: object, most: int = 200) -> str:
    """A value in an error, cut: what is wrong with it can be read off its beginning.

    >>> shown("a" * 9, most=5), shown([1, 2]), shown(10**5000)
    ("'aaaa…", '[1, 2]', 'a number of many digits')
    """
    try:
        text = repr(value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "a number of many digits"
    except RecursionError:
        return "a value that is nested too deep"
    return text if len(text) <= most else text[:most] + "…"


def visible(text: str) -> str:
    """The text with everything that could act on the text around it, or on a terminal, shown as a sign.

    >>> visible("red \\x1b[31m, \\u202eflipped")
    'red ␛[31m, ⟨U+202E⟩flipped'
    """
    return _UNSAFE.sub(lambda match: sign_of(match[0]), text.replace("\r\n", "\n"))


def json_visible(text: str) -> str:
    r"""JSON with what could act on a terminal as escapes, which say the same to a program.

    >>> json_visible('"a\u202eb"')
    '"a\\u202eb"'
    """
    return _UNSAFE.sub(lambda match: match[0] if match[0] == "\r" else f"\\u{ord(match[0]):04x}", text)


def sign_of(character: str) -> str:
    """What is shown for a character that would act, or could not be seen."""
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    return "\ufffd" if 0xD800 <= code <= 0xDFFF else f"⟨U+{code:04X}⟩"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is almost this one, in any case.

    >>> nearest("Emojis", ["text", "emoji"]), nearest("sql", ["text", "emoji"])
    ('emoji', None)
    """
    name_of = {known_name.lower(): known_name for known_name in known}
    matches = difflib.get_close_matches(name.lower(), name_of, 1, 0.6)
    return name_of[matches[0]] if matches else None


def did_you_mean(name: str, known: Iterable[str], move: str) -> str:
    """The end of an error about an unknown name: the nearest known one, if any is near, and the next move.

    >>> did_you_mean("emojis", ["text", "emoji"], "mend it"), did_you_mean("sql", ["text", "emoji"], "mend it")
    ("; did you mean 'emoji'? mend it", '; mend it')
    """
    near = nearest(name, known)
    return f"; did you mean {near!r}? {move}" if near else f"; {move}"


def listed(names: Iterable[str], most: int = 20) -> str:
    """The names in one line, cut after `most` of them.

    >>> listed(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    names = list(names)
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "nothing") + rest
