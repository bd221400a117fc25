from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemtune.metrics.emoji import emoji_clusters, emoji_scores

FAMILY, FLAG, SCOTLAND, KEYCAP = "👨‍👩‍👧‍👦", "🇪🇬", "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "1\ufe0f\u20e3"
EMOJI = ["🏖️", "🌊", "❤", "❤️", "👍", "👍🏽", FAMILY, FLAG, KEYCAP, "❤️‍🔥", "☀️", "😀"]
replies = st.lists(st.sampled_from([*EMOJI, " ", "a", "1", "\n"]), max_size=8).map("".join)
texts = st.text(max_size=30)


@pytest.mark.parametrize("one", [*EMOJI, SCOTLAND, "👩‍❤️‍💋‍👨", "🧑🏿‍🚀", "#️⃣", "🇫🇷", "👁️‍🗨️", "☺", "🏳️‍🌈"])
def test_what_a_reader_sees_as_one_emoji_is_one_cluster(one):
    assert emoji_clusters(one) == [one.replace("\ufe0f", "")]
    assert emoji_clusters(f"a{one}b") == emoji_clusters(one)
    assert emoji_clusters(one + one + one) == emoji_clusters(one) * 3
    assert emoji_scores(one, one) == dict.fromkeys(("valid", "exact", "precision", "recall", "f1"), 1.0)


@pytest.mark.parametrize(
    "text", ["", " ", "1", "12 #*", "abc", "سلام", "❤\ufe0e", "\U0001f1ea", "😀\u200d", "\ufe0f", "\u200d"]
)
def test_what_is_no_emoji(text):
    assert emoji_clusters(text) == []
    assert emoji_scores(text, "😀")["valid"] == 0.0


def test_flags_in_a_row_are_cut_in_pairs():
    assert emoji_clusters("🇫🇷🇪🇬🇯🇵") == ["🇫🇷", "🇪🇬", "🇯🇵"]
    assert emoji_scores("🇫🇷\U0001f1ea", "🇫🇷")["valid"] == 0.0


def test_hearts_agree_with_and_without_the_selector_but_skin_tones_do_not():
    assert emoji_scores("❤", "❤️")["exact"] == 1.0
    assert emoji_scores("👍", "👍🏽")["f1"] == 0.0


@pytest.mark.parametrize(
    ("reply", "gold", "valid", "exact", "precision", "recall"),
    [
        ("🏖️🌊", "🏖️🌊☀️", 1, 0, 1, 2 / 3),
        ("🌊🏖️", "🏖️🌊", 1, 0, 1, 1),
        (" 🌊\n🏖️ ", "🌊🏖️", 1, 1, 1, 1),
        ("Sure! 🌊", "🌊", 0, 1, 1, 1),
        ("🌊🌊🌊🌊", "🌊", 1, 0, 1 / 4, 1),
        ("", "🌊", 0, 0, 0, 0),
        ("beach", "🌊", 0, 0, 0, 0),
        ("3 🌊", "🌊", 0, 1, 1, 1),
    ],
)
def test_emoji_scores(reply, gold, valid, exact, precision, recall):
    scores = emoji_scores(reply, gold)
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0
    assert scores == pytest.approx({"valid": valid, "exact": exact, "precision": precision, "recall": recall, "f1": f1})


@given(replies, replies)
def test_swapping_reply_and_gold_swaps_precision_and_recall(a, b):
    there, back = emoji_scores(a, b), emoji_scores(b, a)
    assert (there["precision"], there["recall"]) == (back["recall"], back["precision"])
    assert there["f1"] == back["f1"] and there["exact"] == back["exact"]
    assert all(0 <= score <= 1 for score in there.values())


@given(replies, replies)
def test_f1_is_one_only_for_the_same_multiset(a, b):
    assert (emoji_scores(a, b)["f1"] == 1) == (Counter(emoji_clusters(a)) == Counter(emoji_clusters(b)))


@given(texts)
def test_clusters_come_from_the_text_in_order(text):
    position = 0
    bare = text.replace("\ufe0f", "")
    for cluster in emoji_clusters(text):
        position = bare.index(cluster, position) + len(cluster)
