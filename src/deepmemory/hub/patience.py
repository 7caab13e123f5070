"""How long a request is tried again, and how long is waited in between."""

import random
import time

__all__ = ["Patience"]

_FIRST_CONTACT_SECONDS = 1.0
_RESTART_SECONDS = 30.0
_BUSY_SECONDS = 60.0
_FAILING_SECONDS = 10.0
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 3.0


class Patience:
    """The waits of one request.

    A hub that has answered before and doesn't now may be restarting, which takes seconds. One that never answered is
    more likely at another address, and whoever mistyped it should not wait to be told.
    """

    def __init__(self, seconds: float, *, knows_hub: bool) -> None:
        """Begin.

        Args:
            seconds: how long an answer is waited for at all.
            knows_hub: whether the hub has answered before.
        """
        self._begun = time.monotonic()
        self._longest = min(seconds, _RESTART_SECONDS if knows_hub else _FIRST_CONTACT_SECONDS)
        self._tries = 0

    def after_silence(self) -> float | None:
        """Seconds to wait before a hub that gave no answer is asked again; None where it is enough."""
        return self._unless_beyond(self._backoff(), self._longest)

    def after_refusal(self, retry_after: str | None, *, is_busy: bool) -> float | None:
        """Seconds to wait before a hub that said "later" is asked again; None where it is enough.

        Args:
            retry_after: what it said, in seconds; other forms, and none, are taken as not said.
            is_busy: whether it will be able to soon; one that is stopping, or whose disk is full, may not be.
        """
        said = _seconds(retry_after)
        backoff = self._backoff()
        # Whoever was told the same moment shouldn't all come back in the same moment.
        wait = backoff if said is None else said + backoff * random.random() / 2
        return self._unless_beyond(wait, _BUSY_SECONDS if is_busy else _FAILING_SECONDS)

    def _backoff(self) -> float:
        longest = min(_LONGEST_WAIT, _FIRST_WAIT * 2**self._tries)
        self._tries += 1
        wait: float = longest * random.uniform(0.5, 1)
        return wait

    def _unless_beyond(self, wait: float, longest: float) -> float | None:
        return wait if time.monotonic() - self._begun + wait <= longest else None


def _seconds(retry_after: str | None) -> float | None:
    try:
        seconds = float(retry_after or "")
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None
