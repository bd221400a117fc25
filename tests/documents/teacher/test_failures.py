"""What a server's errors mean."""

from __future__ import annotations

import datetime
import email.utils

import pytest

from gemtune.documents.teacher.failures import Place, TeacherError, asked_wait, failure_of, scrubbed

PLACE = Place("http://x/v1", "big-model", "A_KEY")


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (429, '{"error": {"message": "slow down"}}', "rate limit"),
        (429, "You exceeded your current quota, please check your plan and billing details. PerMinute", "rate limit"),
        (408, "", "server error"),
        (503, "<html>Service unavailable</html>", "server error"),
        (529, "", "server error"),
        (400, '{"error": {"message": "image too large"}}', "bad request"),
        (413, "", "bad request"),
        (422, '{"detail": "x"}', "bad request"),
    ],
)
def test_those_that_pass(status: int, body: str, kind: str) -> None:
    assert failure_of(status, {}, body, PLACE).kind == kind


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, '{"error": {"message": "bad key"}}', r"does not let this key in \(bad key\); check \$A_KEY"),
        (403, "", r"does not let this key in \(status 403\)"),
        (404, '{"error": {"message": "model \'big-model\' not found"}}', "has no model 'big-model'"),
        (400, '{"error": {"message": "big-model is not a valid model ID"}}', "has no model 'big-model'"),
        (404, '{"detail": "Not Found"}', "no chat completions at .* goes up to /v1"),
        (405, "", "no chat completions at"),
        (402, '{"error": "Insufficient Balance"}', "the quota of big-model is used up"),
        (429, '{"error": {"code": "insufficient_quota", "message": "x"}}', "is used up"),
        (429, '{"error": {"message": "Rate limit reached on requests per day (RPD)"}}', "is used up"),
        (302, "", "has moved to 'http://y'; change teacher.url"),
    ],
)
def test_those_that_the_user_has_to_mend(status: int, body: str, words: str) -> None:
    with pytest.raises(TeacherError, match=words):
        failure_of(status, {"location": "http://y"}, body, PLACE)


def test_the_longest_wait_that_is_said_counts() -> None:
    date = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=30)
    assert 28 <= asked_wait({"retry-after": email.utils.format_datetime(date, usegmt=True)}, "") <= 30
    assert asked_wait({"retry-after": "2"}, '"retryDelay": "45.83s"') == 45.83
    assert asked_wait({}, "Please try again in 20s. Visit ...") == 20
    assert asked_wait({}, "try again in 350ms") == pytest.approx(0.35)
    assert asked_wait({}, "Please retry in 1h2m3s") == 3723
    assert asked_wait({"retry-after": "soon"}, "the retry in the logs") == 0


def test_no_key_is_in_an_error() -> None:
    key = "live_3f9a8b7c6d"
    said = f"key {key} of sk-proj-abc*********xyz at ?key=AIzaSyA1234567890123 with Bearer {key}"
    assert scrubbed(said, key) == "key *** of *** at ?key=*** with Bearer ***"
