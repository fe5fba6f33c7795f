"""How many requests are worth having in flight: found by measuring, as sizes, latency and the consumer change."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FIRST_WIDTH", "MOST_WIDTH", "Pace", "Reading", "Width"]

FIRST_WIDTH = 64
"""Requests in flight until something is measured."""
MOST_WIDTH = 512
"""Requests in flight at most where nobody says otherwise: what a process may have open is most often 1,024 files."""

_LEAST_WIDTH = 8
# Twice the requests in flight must bring so much more, or the store, the network or this processor gives no more.
_LEAST_GAIN = 0.15
# So much more is beyond doubt; less has to last for several widths' worth of objects.
_CLEAR_GAIN, _SURE = 0.4, 4
# A thread that idles for less of its time could hardly do more, whatever is in flight: it would be busy before. And a
# consumer that hardly waits has what it needs.
_LEAST_IDLE = 0.2
# A store whose first object takes longer is far: there is time for more, which need not be measured before.
_FAR_S = 0.005
_LEAST_SAMPLE = 32
# Widths' worth of objects between two attempts at another width; doubled whenever one brings nothing.
_FIRST_REST, _LONGEST_REST = 16, 256
_LOOKS = 4  # widths' worth of objects between two looks in the meantime
_MIB = 1024 * 1024


@dataclass(slots=True)
class Width:
    """The number of requests in flight, as far as it is known by now; windows that follow each other share one.

    Args:
        value: Requests in flight to begin with.
        most: Requests in flight at most.
        least: It gets no narrower, unless the store asks for fewer requests.
    """

    value: int = FIRST_WIDTH
    most: int = MOST_WIDTH
    least: int = FIRST_WIDTH
    rest: int = _FIRST_REST
    """Widths' worth of objects for which the value stays as it is once an attempt at another has brought nothing."""
    rest_left: int = 0
    """Objects still to be delivered until the next attempt."""
    narrows_next: bool = False
    """Whether that is one at a narrower window."""
    tried_from: int | None = None
    """While another value is tried: the one before."""
    is_new: bool = True
    """Whether nothing was measured of it yet."""

    def rest_longer(self) -> None:
        """Wait twice as long for the next attempt."""
        self.rest = min(_LONGEST_REST, 2 * self.rest)

    @classmethod
    def bounded(cls, most: int | None) -> Width:
        """Return the width for a bound that somebody has given, which is where it begins; None for no such bound."""
        return cls() if most is None else cls(most, most, most)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a window has done up to now."""

    now: float
    """Seconds, monotonic."""
    started: int
    """Requests begun."""
    delivered: int
    """Objects handed out."""
    size: int
    """Bytes of those."""
    idle_s: float
    """Seconds for which somebody waited for one, and the thread had nothing to do."""
    throttled: int
    """Answers by which the store asked for fewer requests."""

    @property
    def work(self) -> float:
        """Objects, large ones for more than one: a latency and the time of the bytes, as S3 has them."""
        return self.delivered + self.size / (2 * _MIB)


class Pace:
    """Watches one window, and widens it for as long as that makes it faster.

    A window of a far store is made twice as wide as soon as its first object is there. Later, one whose thread
    idles while its consumer waits is made twice as wide; when all that was in flight at that moment is delivered it is
    measured, and goes back to what it was unless it has become faster. Now and then it is tried whether half of it does
    as well: what is in flight takes memory, and the processor's caches hold no more than a little of it. A store that
    asks for fewer requests gets half of them.

    Args:
        width: What is found goes here.
        start: What the window has done when it begins.
    """

    __slots__ = ("_before", "_came_from", "_is_settling", "_rests_until", "_since", "_width", "look_at")

    def __init__(self, width: Width, start: Reading) -> None:
        self._width = width
        if width.tried_from is not None:  # the window before ended in the middle: an attempt that brought nothing
            width.value, width.tried_from = width.tried_from, None
            width.rest_longer()
        self._before: tuple[int, float] | None = None  # while another width is tried: the one before, and its pace
        self._came_from: int | None = None  # the width before this one, until there is a pause
        self._rests_until = width.rest_left  # so many objects delivered
        self._since = start
        # The first requests all begin at once and so end at once: what follows them is measured.
        self._is_settling = True
        self.look_at = 1 if width.is_new else width.value
        """The number of delivered objects from which on `look` has something to do."""

    def look(self, reading: Reading, *, was_full: bool) -> None:
        """Take what the window has done, and set its width.

        Args:
            reading: What it has done up to now.
            was_full: Whether the width was what held it back.
        """
        since, width = self._since, self._width
        if reading.throttled > since.throttled:
            width.value = max(min(_LEAST_WIDTH, width.most), width.value // 2)
            self._before = width.tried_from = None
            width.rest_longer()
            self._pause(reading)
        elif reading.delivered < self._rests_until:
            self._look_again(reading)
        elif width.is_new and self.look_at == 1:
            if was_full and reading.idle_s >= _FAR_S:
                self._came_from, width.is_new = width.value, False
                width.value = self._wider()
            self.look_at = max(width.value, reading.started)
        elif self._is_settling:
            self._is_settling = False
            self._since = reading
            self.look_at = reading.delivered + max(width.value, _LEAST_SAMPLE)
        else:
            self._judge(reading, was_full=was_full)

    def _judge(self, reading: Reading, *, was_full: bool) -> None:
        since, width = self._since, self._width
        pace = self._pace(reading)
        if self._before is not None and not self._conclude(*self._before, pace, reading):
            return
        is_idle = reading.idle_s - since.idle_s >= _LEAST_IDLE * (reading.now - since.now)
        following = width.value
        if width.value > width.least and (width.narrows_next or not is_idle):
            following = max(width.least, width.value // 2)
        elif was_full and is_idle:
            following = self._wider()
        before = self._came_from
        goes_back = before is not None and (following > width.value) != (width.value > before)
        if following == width.value or goes_back or reading.started == since.started:
            self._pause(reading)
        else:
            self._try(following, pace, reading)

    def _try(self, following: int, pace: float, reading: Reading) -> None:
        """Set another width, to see what comes of it."""
        width = self._width
        self._before = width.value, pace
        self._came_from = width.tried_from = width.value
        width.is_new = False
        width.rest_left = width.rest * width.value  # for the next window, if this one ends before there is a result
        width.value = following
        self._is_settling = True
        self._since = reading
        self.look_at = max(reading.started, reading.delivered + 1)  # those in flight now end at the old pace

    def _pace(self, reading: Reading) -> float:
        """Return how much work was done in a second, of what was given out or of what was begun, if that was less."""
        since = self._since
        # What had come before it was asked for is given out faster than it comes.
        begun = (reading.started - since.started) / max(1, reading.delivered - since.delivered)
        return (reading.work - since.work) * min(1.0, begun) / max(1e-9, reading.now - since.now)

    def _conclude(self, before: int, pace_before: float, pace: float, reading: Reading) -> bool:
        """Keep the width that is tried, or the one before; return whether to try the next one at once."""
        width = self._width
        value = width.value
        if value == before or width.tried_from != before:
            # Another window that shares the width has set it: there is nothing to compare.
            self._before = None
            self._pause(reading)
            return False
        is_wider = value > before
        gain = _gain({before: pace_before, value: pace})
        if _LEAST_GAIN <= gain < _CLEAR_GAIN and reading.delivered - self._since.delivered < _SURE * value:
            self.look_at = reading.delivered + value  # it may have been chance
            return False
        self._before = width.tried_from = None
        is_kept = (gain >= _LEAST_GAIN) == is_wider
        if is_kept:
            width.rest = _FIRST_REST
        else:
            width.value = before
            width.rest_longer()
        if is_kept and value != (width.most if is_wider else width.least):
            return True
        width.narrows_next = is_wider  # the other way next time
        self._pause(reading)
        return False

    def _wider(self) -> int:
        return min(self._width.most, 2 * self._width.value)

    def _pause(self, reading: Reading) -> None:
        """Leave the width for a while, then measure again."""
        self._came_from = None
        self._width.is_new = False
        self._rests_until = reading.delivered + self._width.rest * self._width.value
        self._look_again(reading)

    def _look_again(self, reading: Reading) -> None:
        """While the width is left alone, look whether the store asks for fewer; what came last is what is compared."""
        self._width.rest_left = left = self._rests_until - reading.delivered
        if left >= self._width.value:
            self._since = reading
            self._is_settling = False
        self.look_at = min(self._rests_until, reading.delivered + _LOOKS * self._width.value)


def _gain(paces: dict[int, float]) -> float:
    """Return what the wider of two windows brings: 1 if it is as much faster as it is wider, 0 if it is no faster."""
    (narrow, slow), (wide, fast) = sorted(paces.items())
    return (fast / max(1e-9, slow) - 1) / (wide / narrow - 1)
