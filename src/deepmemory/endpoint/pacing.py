"""How long to wait before asking an HTTP endpoint again: backoff, Retry-After and rate-limit headers."""

import email.utils
import math
import random
import re
import threading
import time
from collections.abc import Mapping

__all__ = ["Pace", "asked_delay", "backoff"]

_FIRST_BACKOFF = 0.5
_LONGEST_BACKOFF = 16.0
_DOUBLINGS = 5  # to the longest; further ones would only overflow
_LIMITS = ("requests", "tokens")
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|d|h|m|s)")


class Pace:
    """When the next request may be sent; the threads that share an endpoint share one.

    Without it each thread would learn of a used-up rate limit by running into it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._not_before = 0.0

    def hold(self, seconds: float) -> None:
        """Let no request go before some seconds have passed."""
        with self._lock:
            self._not_before = max(self._not_before, time.monotonic() + seconds)

    def wait(self, stop: threading.Event) -> None:
        """Wait until a request may go, or until told to stop."""
        while not stop.is_set():
            with self._lock:
                seconds = self._not_before - time.monotonic()
            if seconds <= 0:
                return
            stop.wait(seconds)


def backoff(failures: int) -> float:
    """Seconds to wait after some failures in a row: doubling, and random so that clients do not return in step."""
    longest = min(_FIRST_BACKOFF * 2.0 ** min(failures - 1, _DOUBLINGS), _LONGEST_BACKOFF)
    return longest * random.uniform(0.5, 1.0)


def asked_delay(headers: Mapping[str, str]) -> float | None:
    """Seconds that a reply asks its client to wait; None where it asks for nothing.

    ``Retry-After`` (seconds or a date) and ``retry-after-ms`` come first; then ``x-ratelimit-reset-requests`` and
    ``-tokens``, where the matching ``x-ratelimit-remaining-`` header says that nothing is left.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    after = headers.get("retry-after")
    seconds = _number(after)
    if seconds is None:
        seconds = _until_date(after)
    return _until_reset(headers) if seconds is None else seconds


def _until_reset(headers: Mapping[str, str]) -> float | None:
    used_up = [limit for limit in _LIMITS if _number(headers.get(f"x-ratelimit-remaining-{limit}")) == 0]
    resets = [_duration(headers.get(f"x-ratelimit-reset-{limit}")) for limit in used_up]
    return max((reset for reset in resets if reset is not None), default=None)


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _duration(text: str | None) -> float | None:
    """Seconds in ``1.5``, ``20ms``, ``6m0s`` or ``1h2m3s``."""
    number = _number(text)
    if number is not None:
        return number
    compact = (text or "").strip().lower()
    parts = _DURATION.findall(compact)
    if not parts or "".join(value + unit for value, unit in parts) != compact:
        return None
    return float(sum(float(value) * _UNITS[unit] for value, unit in parts))


def _until_date(text: str | None) -> float | None:
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text or "").timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None
