"""Scores of one reply against its gold answer, and what a list of scores proves; pure functions.

Every score is a float from 0 (bad) to 1 (good), except the error rates `cer` and `wer`, where 0 is best.
"""

import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import emoji
import numpy as np
import numpy.typing as npt
import regex
from rapidfuzz.distance import LCSseq, Levenshtein

_TEXT_STYLE, _EMOJI_STYLE, _JOINER = "\ufe0e", "\ufe0f", "\u200d"
_CHUNK = 1_000_000  # resampled values held at once: 16 MB of indices and values
_EXACT_PAIRS = 12  # up to here all 2**n signs are tried
CHRF_ORDER, CHRF_BETA = 6, 2.0

Floats = npt.NDArray[np.float64]


def normalise_text(text: str) -> str:
    """Text for comparing: compatibility characters unified, case folded, white space collapsed.

    >>> normalise_text("  Ｓｔｒａße\\n１２ ")
    'strasse 12'
    """
    for _ in range(2):  # folding can make a character that composes, and composing one that folds
        text = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(unicodedata.normalize("NFKC", text).split())


def exact(reply: str, gold: str) -> float:
    """1.0 where both are the same text after `normalise_text`, else 0.0.

    >>> exact(" Paris", "paris"), exact("Paris!", "paris")
    (1.0, 0.0)
    """
    return float(normalise_text(reply) == normalise_text(gold))


def token_f1(reply: str, gold: str) -> float:
    """F1 over normalised words, each as often as it occurs; 1.0 where neither has any.

    >>> token_f1("the red red car", "The red car")
    0.8571428571428571
    """
    return _overlap(normalise_text(reply).split(), normalise_text(gold).split())["f1"]


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
    ours, theirs = words(reply), words(gold)
    if not ours or not theirs:
        return float(ours == theirs)
    return 2 * LCSseq.similarity(ours, theirs) / (len(ours) + len(theirs))


def distinct_bigrams(text: str) -> float:
    """The share of pairs of neighbouring words that are not repeats of one before; 1.0 for fewer than two words.

    >>> distinct_bigrams("red mug red mug red mug")
    0.4
    """
    said = words(text)
    pairs = list(pairwise(said))
    return len(set(pairs)) / len(pairs) if pairs else 1.0


def _overlap(reply: Iterable[Hashable], gold: Iterable[Hashable]) -> dict[str, float]:
    """Precision, recall and F1 of two multisets; all 1.0 where both are empty, all 0.0 where one is."""
    ours, theirs = Counter(reply), Counter(gold)
    if not ours or not theirs:
        return dict.fromkeys(("precision", "recall", "f1"), float(ours == theirs))
    shared = (ours & theirs).total()
    return {
        "precision": shared / ours.total(),
        "recall": shared / theirs.total(),
        "f1": 2 * shared / (ours.total() + theirs.total()),
    }


def emoji_clusters(text: str) -> list[str]:
    """The emoji in a text, one string for each that a reader sees, without variation selector 16.

    A family, a flag or a keycap is one emoji, and a skin tone makes another one. A heart counts with and without the
    selector; a digit, half a flag, and a heart that asks for text style do not.

    >>> emoji_clusters("2 hearts: ❤️❤ and 1️⃣ 👨‍👩‍👧 🇪🇬") == ["❤", "❤", "1\\u20e3", "👨‍👩‍👧", "🇪🇬"]
    True
    """
    return [cluster for cluster in map(_as_emoji, regex.findall(r"\X", text)) if cluster]


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
    clusters = [cluster for cluster in regex.findall(r"\X", reply) if not cluster.isspace()]
    ours, theirs = [cluster for cluster in map(_as_emoji, clusters) if cluster], emoji_clusters(gold)
    valid = bool(clusters) and len(ours) == len(clusters)
    return {"valid": float(valid), "exact": float(ours == theirs), **_overlap(ours, theirs)}


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
    ours, theirs = "".join(reply.split()), "".join(gold.split())
    if not ours or not theirs:
        return float(ours == theirs)
    orders = [_overlap(_ngrams(ours, n), _ngrams(theirs, n)) for n in range(1, CHRF_ORDER + 1)]
    orders = orders[: min(len(ours), len(theirs))]
    precision, recall = (sum(order[name] for order in orders) / len(orders) for name in ("precision", "recall"))
    weight = CHRF_BETA**2
    return (1 + weight) * precision * recall / (weight * precision + recall) if precision + recall else 0.0


def _ngrams(text: str, n: int) -> list[str]:
    return [text[i : i + n] for i in range(len(text) - n + 1)]


def json_valid(text: str) -> bool:
    """Whether the text is one JSON value as in RFC 8259, with nothing around it.

    >>> json_valid('{"total": 12.5}'), json_valid('```json\\n{}\\n```'), json_valid('{"total": NaN}')
    (True, False, False)
    """
    try:  # numbers stay text: Python refuses an integer of over 4,300 digits, which JSON allows
        json.loads(text, parse_constant=_no_constant, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return False
    return True


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval, in the unit of the values."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedTest:
    """Tuned minus base on the same n rows: the mean difference, its confidence interval and a two-sided p-value."""

    difference: float
    low: float
    high: float
    p_value: float
    method: str
    n: int
    wins: int
    losses: int
    ties: int


def mean_interval(
    values: npt.ArrayLike, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """The mean of some scores with its percentile bootstrap interval; ValueError without values.

    >>> mean_interval([1, 0, 1, 1, 0, 1, 1, 1])
    Interval(mean=0.75, low=0.375, high=1.0)
    """
    scores = _scores("values", values)
    if not 0 < confidence < 1 or resamples < 1:
        raise ValueError(f"confidence {confidence} must be between 0 and 1, resamples {resamples} at least 1")
    means = np.concatenate(list(_in_chunks(_resampled_means, scores, resamples, seed)))
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    mean = float(scores.mean())
    # The sum of equal values depends on their order in the last digit; the mean stays inside its interval.
    return Interval(mean, min(float(low), mean), max(float(high), mean))


def paired_difference(
    base: npt.ArrayLike, tuned: npt.ArrayLike, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> PairedTest:
    """Whether tuned beats base on the same rows; ValueError without rows or with unequal lengths.

    The p-value is McNemar's exact test where all scores are 0 or 1 ("mcnemar"), else a sign-flip test of the mean
    difference ("permutation"): every combination of signs up to 12 rows that differ, a seeded sample of `resamples`
    above. The interval is the percentile bootstrap over rows.

    >>> paired_difference([0, 0, 0, 0, 1, 1], [1, 1, 1, 1, 1, 0]).p_value
    0.375
    """
    before, after = _scores("base", base), _scores("tuned", tuned)
    if len(before) != len(after):
        raise ValueError(f"base has {len(before)} scores and tuned {len(after)}; the same rows are wanted in both")
    differences = after - before
    interval = mean_interval(differences, confidence=confidence, resamples=resamples, seed=seed)
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    binary = bool(np.isin(np.concatenate([before, after]), (0, 1)).all())
    p_value = _mcnemar(wins, losses) if binary else _sign_flip(differences[differences != 0], resamples, seed)
    return PairedTest(
        difference=interval.mean,
        low=interval.low,
        high=interval.high,
        p_value=p_value,
        method="mcnemar" if binary else "permutation",
        n=len(differences),
        wins=wins,
        losses=losses,
        ties=len(differences) - wins - losses,
    )


def _scores(name: str, values: npt.ArrayLike) -> Floats:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or not len(scores) or not np.isfinite(scores).all():
        raise ValueError(f"{name} must be a list of finite scores, at least one; found shape {scores.shape}")
    return scores


def _in_chunks(
    draw: Callable[[Floats, int, np.random.Generator], Floats], values: Floats, resamples: int, seed: int
) -> Iterable[Floats]:
    """`resamples` draws, as many at a time as fit the memory of one chunk."""
    generator = np.random.default_rng(seed)
    step = max(1, _CHUNK // len(values))
    for start in range(0, resamples, step):
        yield draw(values, min(step, resamples - start), generator)


def _resampled_means(values: Floats, count: int, generator: np.random.Generator) -> Floats:
    means: Floats = values[generator.integers(len(values), size=(count, len(values)))].mean(axis=1)
    return means


def _flipped_sums(values: Floats, count: int, generator: np.random.Generator) -> Floats:
    sums: Floats = (2.0 * generator.integers(2, size=(count, len(values))) - 1.0) @ values
    return sums


def _mcnemar(wins: int, losses: int) -> float:
    """Two-sided exact binomial test that wins and losses are equally likely."""
    n, fewer = wins + losses, min(wins, losses)
    tail = term = 1  # of n choose k, exact integers
    for k in range(fewer):
        term = term * (n - k) // (k + 1)
        tail += term
    return min(1.0, 2 * tail / (1 << n))


def _sign_flip(differences: Floats, resamples: int, seed: int) -> float:
    """Two-sided p-value of the sum of `differences`, none of them 0, when each sign is a coin toss."""
    n = len(differences)
    least = abs(differences.sum()) - 1e-9 * np.abs(differences).sum()  # the order of a sum changes its last digits
    if n <= _EXACT_PAIRS:
        signs = 1.0 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)  # (2**n, n)
        return float((np.abs(signs @ differences) >= least).mean())
    sums = np.concatenate(list(_in_chunks(_flipped_sums, differences, resamples, seed)))
    extreme = int((np.abs(sums) >= least).sum())
    return (extreme + 1) / (resamples + 1)
