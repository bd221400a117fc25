"""What a reader sees as one emoji, and the scores of a reply that should be emoji."""

import functools

import emoji
import regex

from gemtune.metrics.text import overlap

_SEPARATORS = set(",;|/、，")  # what people write between emoji
_FLAG = r"[\U0001F1E6-\U0001F1FF]"
_CLUSTER = regex.compile(rf"{_FLAG}{{2}}[\p{{M}}\u200d\U0001F3FB-\U0001F3FF]*|\X")
_TEXT_STYLE, _EMOJI_STYLE, _JOINER = "\ufe0e", "\ufe0f", "\u200d"


def emoji_clusters(text: str) -> list[str]:
    """The emoji in a text, one string for each that a reader sees, without variation selector 16.

    A family, a flag or a keycap is one emoji, and a skin tone makes another one. A heart counts with and without the
    selector; a digit, half a flag, and a heart that asks for text style do not.

    >>> emoji_clusters("2 hearts: ❤️❤ and 1️⃣ 👨‍👩‍👧 🇪🇬") == ["❤", "❤", "1\\u20e3", "👨‍👩‍👧", "🇪🇬"]
    True
    """
    return [cluster for cluster in map(_as_emoji, clusters_of(text)) if cluster]


def clusters_of(text: str) -> list[str]:
    """What a reader sees as one character each.

    Flags are paired here: regex counts back to the first of them from each, 23 s for 80,000.
    """
    clusters: list[str] = _CLUSTER.findall(text)  # regex.findall with a compiled pattern takes ten times as long
    return clusters


def is_only_emoji(text: str) -> bool:
    """Whether a text is emoji and white space, and some of the first.

    >>> is_only_emoji("🏊 🌊"), is_only_emoji("🏊!"), is_only_emoji(" ")
    (True, False, False)
    """
    clusters = [cluster for cluster in clusters_of(text) if not cluster.isspace()]
    return bool(clusters) and all(map(_as_emoji, clusters))


@functools.lru_cache(maxsize=4096)
def _as_emoji(cluster: str) -> str:
    """The cluster without variation selectors if it is an emoji, else an empty string."""
    plain = cluster.replace(_EMOJI_STYLE, "")
    if not plain or _TEXT_STYLE in plain or plain.endswith(_JOINER):
        return ""
    return plain if emoji.is_emoji(plain) or emoji.purely_emoji(plain) else ""


def emoji_scores(reply: str, gold: str) -> dict[str, float]:
    """Scores of a reply that should be emoji: valid (nothing but emoji and white space), exact (the same in the same
    order), and precision, recall and f1 of its emoji, each as often as it occurs.

    >>> emoji_scores("🏖️ 🌊", "🏖🌊☀️")
    {'valid': 1.0, 'exact': 0.0, 'precision': 1.0, 'recall': 0.6666666666666666, 'f1': 0.8}
    """
    reply_emoji, gold_emoji = emoji_clusters(reply), emoji_clusters(gold)
    scores = {"valid": float(is_only_emoji(reply)), "exact": float(reply_emoji == gold_emoji)}
    return {**scores, **overlap(reply_emoji, gold_emoji)}


def emoji_and_words(text: str) -> list[str]:
    """The emoji of a text, and an empty one for every piece of something else between them.

    >>> emoji_and_words("Sure: 🌊 and 🏖️!")
    ['', '🌊', '', '🏖', '']
    """
    kept: list[str] = []
    in_word = False
    for cluster in clusters_of(text):
        piece, is_between = _as_emoji(cluster), cluster.isspace() or cluster in _SEPARATORS
        if piece or not (is_between or in_word):
            kept.append(piece)
        in_word = not piece and not is_between
    return kept
