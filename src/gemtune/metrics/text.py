"""Scores of a reply against its gold text: exact match, token F1, ROUGE-L, chrF, CER and WER; pure functions.

Every score is a float from 0 (bad) to 1 (good), except the error rates `cer` and `wer`, where 0 is best.
"""

import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from itertools import pairwise

import regex
from rapidfuzz.distance import LCSseq, Levenshtein

# Putting marks in order takes quadratic time, 45 s for 160,000 of them on one letter; as in Unicode's Stream-Safe Text
# Format, a joiner that has no form of its own follows every 30.
_JOINER = "\u034f"
_MANY_MARKS = regex.compile(rf"(?V1)([\p{{M}}--[{_JOINER}]]{{30}})(?=[\p{{M}}--[{_JOINER}]])")

CHRF_ORDER, CHRF_BETA = 6, 2.0


def normalise_text(text: str) -> str:
    """Text for comparing: compatibility characters unified, case folded, white space collapsed.

    >>> normalise_text("  Ｓｔｒａße\\n１２ ")
    'strasse 12'
    """
    if text.isascii():
        return " ".join(text.lower().split())
    for _ in range(2):  # folding can make a character that composes, and composing one that folds
        text = _composed(text).casefold()
    return " ".join(_composed(text).split())


def _composed(text: str) -> str:
    return unicodedata.normalize("NFKC", stream_safe(text))


def stream_safe(text: str) -> str:
    """A text that is normalised in linear time, whatever is in it."""
    return _MANY_MARKS.sub(rf"\1{_JOINER}", text)


def exact(reply: str, gold: str) -> float:
    """1.0 where both are the same text after `normalise_text`, else 0.0.

    >>> exact(" Paris", "paris"), exact("Paris!", "paris")
    (1.0, 0.0)
    """
    return float(reply == gold or normalise_text(reply) == normalise_text(gold))


def token_f1(reply: str, gold: str) -> float:
    """F1 over normalised words, each as often as it occurs; 1.0 where neither has any.

    >>> token_f1("the red red car", "The red car")
    0.8571428571428571
    """
    return 1.0 if reply == gold else overlap(normalise_text(reply).split(), normalise_text(gold).split())["f1"]


def words(text: str) -> list[str]:
    """The words of a text after `normalise_text`, without their punctuation.

    >>> words("A Red, hand-made mug!")
    ['a', 'red', 'hand', 'made', 'mug']
    """
    return regex.findall(r"[\p{L}\p{M}\p{N}]+", normalise_text(text))


def rouge_l(reply: str, gold: str) -> float:
    """ROUGE-L: F1 of the longest common subsequence of words; 1.0 where neither has any.

    >>> rouge_l("the red mug", "the big red mug")
    0.8571428571428571
    """
    if reply == gold:
        return 1.0
    reply_words, gold_words = words(reply), words(gold)
    if not reply_words or not gold_words:
        return float(reply_words == gold_words)
    return 2 * LCSseq.similarity(reply_words, gold_words) / (len(reply_words) + len(gold_words))


def distinct_bigrams(text: str) -> float:
    """The share of pairs of neighbouring words that are not repeats of one before; 1.0 for fewer than two words.

    >>> distinct_bigrams("red mug red mug red mug")
    0.4
    """
    pairs = list(pairwise(words(text)))
    return len(set(pairs)) / len(pairs) if pairs else 1.0


def overlap(reply: Iterable[Hashable], gold: Iterable[Hashable]) -> dict[str, float]:
    """Precision, recall and F1 of two multisets; all 1.0 where both are empty, all 0.0 where one is."""
    reply_counts, gold_counts = Counter(reply), Counter(gold)
    if not reply_counts or not gold_counts:
        return dict.fromkeys(("precision", "recall", "f1"), float(reply_counts == gold_counts))
    shared = (reply_counts & gold_counts).total()
    return {
        "precision": shared / reply_counts.total(),
        "recall": shared / gold_counts.total(),
        "f1": 2 * shared / (reply_counts.total() + gold_counts.total()),
    }


def cer(reply: str, gold: str) -> float:
    """Character error rate: edits that turn the reply into the gold text, per gold character; above 1 if it rambles.

    Characters are compared as they are: pass both through `normalise_text` where case and forms do not matter. An
    empty gold text gives 0.0 for an empty reply, else 1.0.

    >>> cer("kitten", "sitting")
    0.42857142857142855
    """
    return _error_rate(reply, gold)


def wer(reply: str, gold: str) -> float:
    """Word error rate: `cer` over words between white space.

    >>> wer("the cat sat", "the cat sat down")
    0.25
    """
    return _error_rate(reply.split(), gold.split())


def _error_rate(reply: Sequence[Hashable], gold: Sequence[Hashable]) -> float:
    return Levenshtein.distance(reply, gold) / len(gold) if gold else float(bool(reply))


def chrf(reply: str, gold: str) -> float:
    """Sentence chrF2 (Popović 2015): F-score, recall weighing twice, of character 1- to 6-grams without white space.

    As in sacreBLEU, precision and recall are averaged over the orders that both texts are long enough for, and the
    F-score is taken of the averages. 1.0 where both texts are empty.

    >>> round(chrf("the cat", "the hat"), 4)
    0.2806
    """
    if reply == gold:  # what prepare asks of every row: 5 ms for 2,000 characters
        return 1.0
    reply, gold = "".join(reply.split()), "".join(gold.split())
    if not reply or not gold:
        return float(reply == gold)
    orders = [overlap(_ngrams(reply, n), _ngrams(gold, n)) for n in range(1, CHRF_ORDER + 1)]
    orders = orders[: min(len(reply), len(gold))]
    precision, recall = (sum(order[name] for order in orders) / len(orders) for name in ("precision", "recall"))
    weight = CHRF_BETA**2
    return (1 + weight) * precision * recall / (weight * precision + recall) if precision + recall else 0.0


def _ngrams(text: str, n: int) -> list[str]:
    return [text[i : i + n] for i in range(len(text) - n + 1)]
