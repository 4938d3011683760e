"""The terminal that a start comes from: of it, nothing is left but that it can be written to.

Whoever has a terminal as the controlling one can type there (TIOCSTI, ioctl_tty(2)), and a shell of
root's that waits behind the daemon carries that out; whoever has it open for reading gets what root
types.
"""

from __future__ import annotations

import fcntl
import os
import termios
from contextlib import suppress

_STREAMS = (0, 1, 2)


def leave_terminal() -> None:
    """Give up the controlling terminal, and read from it no more.

    The process stays in its process group, so Ctrl-C reaches it as before. Who leads a session
    keeps its terminal, on which nobody else waits; its children need sessions of their own
    (``leads_session``). Where the terminal may not be opened again, because it is somebody else's,
    it stays open as it was.
    """
    terminals = [stream for stream in _STREAMS if os.isatty(stream)]
    if not leads_session():
        for stream in terminals:
            with suppress(OSError):  # it is another one
                fcntl.ioctl(stream, termios.TIOCNOTTY)
        with suppress(OSError):  # there is none
            own = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
            try:
                fcntl.ioctl(own, termios.TIOCNOTTY)
            finally:
                os.close(own)
    for stream in terminals:
        with suppress(OSError):
            only_out = os.open(os.ttyname(stream), os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
            os.dup2(only_out, stream)
            os.close(only_out)


def leads_session() -> bool:
    """Whether this process leads its session (setsid(2))."""
    return os.getsid(0) == os.getpid()
