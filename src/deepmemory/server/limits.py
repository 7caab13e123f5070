"""How often a token may ask: a bucket that fills at a steady rate, and that each request takes one from."""

import threading
import time
from collections import OrderedDict

__all__ = ["TokenBuckets"]

_MOST = 10_000


class TokenBuckets:
    """One bucket for each token, in memory."""

    def __init__(self, rate: float, burst: int) -> None:
        """Fill with ``rate`` each second up to ``burst``; a rate of 0 is no limit."""
        self._rate = rate
        self._burst = max(1, burst)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, token_id: str) -> float:
        """Take one; return 0, or the seconds until there is one to take."""
        if self._rate == 0:
            return 0.0
        now = time.monotonic()
        with self._lock:
            left, at = self._buckets.pop(token_id, (float(self._burst), now))
            left = min(float(self._burst), left + (now - at) * self._rate)
            wait = 0.0 if left >= 1 else (1 - left) / self._rate
            self._buckets[token_id] = (left - 1 if wait == 0 else left, now)
            while len(self._buckets) > _MOST:
                self._buckets.popitem(last=False)
        return wait
