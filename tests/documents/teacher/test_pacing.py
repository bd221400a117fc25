"""Places, buckets and waits that all workers share."""

from __future__ import annotations

import threading
import time

import pytest

from gemtune.documents.teacher.pacing import Bucket, Pace, Patience, Stopped
from gemtune.recipe.document_sections import Teacher


def test_a_bucket_gives_what_its_minute_holds() -> None:
    bucket, now = Bucket(60, now=0.0), 0.0
    times = []
    for _ in range(70):
        now += bucket.seconds_until(1, now)
        bucket.take(1)
        times.append(round(now, 6))
    assert times[:10] == [0.0] * 10, "a sixth of a minute's at once"
    assert times[10:13] == [1.0, 2.0, 3.0] and times[-1] == 60.0


def test_a_request_larger_than_the_bucket_is_taken_when_it_is_full() -> None:
    bucket = Bucket(600, now=0.0)
    assert bucket.seconds_until(5000, 0.0) == 0.0
    bucket.take(5000)
    assert bucket.seconds_until(1, 0.0) == pytest.approx((5000 - 100 + 1) / 10)


def test_a_rate_limit_takes_places_once_and_successes_give_them_back() -> None:
    pace = Pace(Teacher(concurrency=8))
    with pace.turn(1) as began:
        pace.limited(began)
        pace.limited(began)
    assert pace.places == 6
    for _ in range(25):
        pace.succeeded()
    assert pace.places == 7
    for _ in range(100):
        pace.succeeded()
    assert pace.places == 8


def test_it_never_has_no_place() -> None:
    pace = Pace(Teacher(concurrency=2))
    for _ in range(9):
        with pace.turn(1) as began:
            pace.limited(began)
    assert pace.places == 1


def test_a_place_is_waited_for_and_a_wait_is_everybodys() -> None:
    pace, order = Pace(Teacher(concurrency=1)), []

    def work() -> None:
        with pace.turn(1):
            order.append(time.monotonic())

    threads = [threading.Thread(target=work) for _ in range(3)]
    begun = time.monotonic()
    pace.wait(0.2)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert len(order) == 3 and min(order) >= begun + 0.2


def test_stopping_wakes_who_waits() -> None:
    pace, ends = Pace(Teacher(requests_per_minute=1)), []

    def work() -> None:
        try:
            with pace.turn(1):
                pass
            with pace.turn(1):
                pass
        except Stopped:
            ends.append("stopped")

    thread = threading.Thread(target=work)
    thread.start()
    pace.stop()
    thread.join(5)
    pace.pause(60)
    assert ends == ["stopped"]


def test_a_backoff_doubles_up_to_the_longest() -> None:
    patience = Patience(first=1.0, longest=120.0)
    assert max(patience.backoff(1) for _ in range(50)) <= 1.0
    assert 4.0 < max(patience.backoff(4) for _ in range(200)) <= 8.0
    assert 60.0 < max(patience.backoff(5000) for _ in range(50)) <= 120.0
