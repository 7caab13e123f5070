"""How long to wait: what headers say, what they don't, and one pace for all threads."""

import threading
import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepmemory.endpoint.pacing import Pace, asked_delay, backoff


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3),
        ({"retry-after": " 0.25 "}, 0.25),
        ({"retry-after": "0"}, 0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"retry-after": "Wed, 99 Oct 2015 07:28:00 GMT"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1h2m3.5s"}, 3723.5),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "20ms"}, 0.02),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "7"}, 7),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "7 parsecs"}, None),
        ({"x-ratelimit-remaining-requests": "0"}, None),
        ({"x-ratelimit-remaining-requests": "5", "x-ratelimit-reset-requests": "6m0s"}, None),
        ({"x-ratelimit-reset-requests": "6m0s"}, None),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "4s",
            },
            4,
        ),
        ({"retry-after": "2", "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "9s"}, 2),
    ],
)
def test_what_headers_ask_for(headers, seconds):
    assert asked_delay(headers) == (seconds if seconds is None else pytest.approx(seconds))


def test_a_date_to_come_is_waited_for():
    delay = asked_delay({"retry-after": formatdate(time.time() + 60, usegmt=True)})
    assert delay is not None
    assert 50 < delay <= 60


@given(st.text(), st.text(), st.text())
def test_nonsense_in_headers_never_fails(after, remaining, reset):
    delay = asked_delay(
        {
            "retry-after": after,
            "x-ratelimit-remaining-tokens": remaining,
            "x-ratelimit-reset-tokens": reset,
        }
    )
    assert delay is None or delay >= 0


@given(st.integers(1, 2000))
def test_backoff_grows_to_a_limit(failures):
    longest = min(0.5 * 2 ** min(failures - 1, 20), 16)
    assert longest / 2 <= backoff(failures) <= longest


def test_one_pace_holds_every_thread_and_lets_go_when_told_to_stop():
    pace, stop = Pace(), threading.Event()
    pace.wait(stop)
    pace.hold(1000)
    pace.hold(0.01)  # the longer wait stays
    waiting = [threading.Thread(target=pace.wait, args=(stop,)) for _ in range(3)]
    for thread in waiting:
        thread.start()
    assert all(thread.is_alive() for thread in waiting)
    stop.set()
    for thread in waiting:
        thread.join(timeout=30)
    assert not any(thread.is_alive() for thread in waiting)
