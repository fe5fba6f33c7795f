"""Who calls `readinto`, and why some callers must not see its exception.

`torch.load` reads a zip archive through C++ that calls ``seek``, then ``readinto`` with memory of its own, and, where
that fails or returns 0, ``read``. If ``readinto`` raises, the C++ goes on to look up ``read`` with the exception still
pending; the look-up fails because of it, and the user sees ``AttributeError: ... has no attribute 'read'`` in place of
the network's error or of a KeyboardInterrupt. If ``readinto`` returns 0 instead and ``read`` raises, the exception
comes through unharmed. Every other caller needs it from ``readinto`` itself: to them 0 is the end of the file.

So the exception is held back only from a call that shows all marks of that C++:

* the buffer is a memoryview that no Python object exports, which only C code can make;
* the call before was ``seek`` (the reader knows);
* the Python code that called into C is torch's own.

The second mark tells it from torch's loader of the old, non-zip format, which does not fall back to ``read``: there the
user sees a SystemError whose ``__cause__`` is the exception. The third tells it from `io.BufferedReader`, which hands
exceptions on as it should. Should the marks ever mislead, nothing is lost silently: what is held back is raised by the
next call of any method.
"""

from __future__ import annotations

import sys

__all__ = ["is_from_archive_reader", "is_from_c"]


def is_from_c(buffer: object) -> bool:
    """Tell whether a buffer is memory that C code lent for the length of a call."""
    return type(buffer) is memoryview and buffer.obj is None


def is_from_archive_reader(buffer: object, depth: int) -> bool:
    """Tell whether ``torch.load`` calls ``readinto`` from the C++ that reads its archives.

    Where it does, a reader keeps an exception, returns 0, and raises it from the ``read`` that comes next: raised from
    ``readinto`` it would be replaced by an `AttributeError`. Only a call that follows a ``seek`` can be one.

    Args:
        buffer: What ``readinto`` was called with.
        depth: Frames between this function and the caller of ``readinto``: 1 where ``readinto`` itself asks.
    """
    if not is_from_c(buffer):
        return False
    try:
        caller = sys._getframe(depth + 1)  # noqa: SLF001  # the only way to ask; guarded for where it is missing
    except (AttributeError, ValueError):
        return False
    module = caller.f_globals.get("__name__")
    return isinstance(module, str) and module.partition(".")[0] == "torch"
