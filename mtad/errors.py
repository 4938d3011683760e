"""Every error that mtad raises on purpose, in one tree.

::

    MtadError                   what was asked, what was found; .help says what would help
    ├── ConfigError             one or more problems in the configuration (.problems)
    ├── EndpointError           a text that names no address, range or unix path
    ├── PrivilegeError          whatever concerns capabilities and the drop
    │   ├── CapabilityTextError a text that cap_from_text(3) refuses, with the clause at fault
    │   ├── PreflightError      the drop cannot work here; nothing was changed yet
    │   └── VerificationError   after the drop a process or thread holds something else
    ├── ListenerError           a listener that cannot do what was asked
    │   ├── BindError           bind(2) or listen(2) failed (.errno)
    │   └── ServeError          no worker can serve it
    ├── RuleError               a fault rule that there is not, or cannot be
    ├── ControlSocketError      the control socket cannot be made where it should be
    ├── CommandError            a control command that is refused (.code, JSON-RPC)
    │   └── QueryError          a query for mail that cannot be read (.query, .position)
    ├── ChannelError            supervisor and worker no longer understand each other
    ├── StoreError              captured mail could not be kept (.full: no room)
    ├── HandlerError            a handler of others that cannot be imported or made
    ├── TlsError                a certificate, key or CA file that TLS cannot be served with
    ├── UnavailableError        no daemon answers at the control socket (.errno)
    └── ExpectationError        mail is not what a test expects (.messages: what came)
        ├── MtadTimeoutError    mail that was waited for has not come
        └── UnexpectedMailError mail came where none was to come
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from errno import errorcode
from pathlib import Path


class MtadError(Exception):
    """The root of the tree: ``str()`` is one line for a person; ``help`` what would help."""

    def __init__(self, message: str, *, help: str = "") -> None:  # noqa: A002 (the field's word)
        super().__init__(message)
        self.message = message
        self.help = help

    def __str__(self) -> str:
        return f"{self.message} ({self.help})" if self.help else self.message


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a configuration file, where it is and what would mend it.

    ``line`` counts from 1 (0: the file as a whole); ``key`` is the path of keys joined by dots.
    """

    file: Path
    line: int
    key: str
    reason: str
    help: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else str(self.file)
        key = f"{self.key}: " if self.key else ""
        hint = f"\n    help: {self.help}" if self.help else ""
        return f"{place}: {key}{self.reason}{hint}"


class ConfigError(MtadError):
    """Everything that is wrong with a configuration, found in one pass."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class EndpointError(MtadError):
    """A text that names no endpoint."""


class PrivilegeError(MtadError):
    """Whatever concerns users, capabilities and the drop."""


class CapabilityTextError(PrivilegeError):
    """A capability text that libcap refuses, or that names what this kernel lacks."""


class PreflightError(PrivilegeError):
    """The drop cannot work as configured; nothing has been changed."""


class VerificationError(PrivilegeError):
    """A thread holds other identities, sets or flags than the plan says."""


class ListenerError(MtadError):
    """A listener that cannot do what was asked."""


class BindError(ListenerError):
    """A listening socket could not be opened; ``errno`` is the kernel's reason."""

    def __init__(self, message: str, *, errno: int, help: str = "") -> None:  # noqa: A002
        super().__init__(message, help=help)
        self.errno = errno

    @property
    def code(self) -> str:
        """The name of ``errno``: ``EADDRINUSE``."""
        return errorcode.get(self.errno, str(self.errno))


class ServeError(ListenerError):
    """A listener was opened, and no worker can serve it."""


class RuleError(MtadError):
    """A fault rule that there is not, or that cannot be had beside the others."""


class ControlSocketError(MtadError):
    """The control socket cannot be made: the place is taken, or not safe."""


class CommandError(MtadError):
    """A control command is refused; ``code`` is the JSON-RPC 2.0 error code (section 5.1)."""

    def __init__(self, message: str, *, code: int = -32000, help: str = "") -> None:  # noqa: A002
        super().__init__(message, help=help)
        self.code = code


class QueryError(CommandError):
    """A query that cannot be read; ``position`` is where in ``query``, counted from 0.

    The message ends with the query, and a caret under the mistake.
    """

    def __init__(self, message: str, *, query: str, position: int, help: str = "") -> None:  # noqa: A002
        super().__init__(message, code=-32602, help=help)
        self.query = query
        self.position = position


class ChannelError(MtadError):
    """A message between supervisor and worker could not be read or sent."""


class StoreError(MtadError):
    """Captured mail could not be kept; the sender must not be told that it was.

    ``full``: because there is no room.
    """

    def __init__(self, message: str, *, full: bool = False, help: str = "") -> None:  # noqa: A002
        super().__init__(message, help=help)
        self.full = full


class HandlerError(MtadError):
    """The handler that a profile names cannot be used."""


class TlsError(MtadError):
    """TLS cannot be served with the files and options of a profile."""


class UnavailableError(MtadError):
    """No daemon answers at the control socket; ``errno`` is the kernel's reason, 0 without one."""

    def __init__(self, message: str, *, errno: int = 0, help: str = "") -> None:  # noqa: A002
        super().__init__(message, help=help)
        self.errno = errno


class ExpectationError(MtadError, AssertionError):
    """Mail is not what a test expects; ``messages`` came (of mtad.testing, in their order)."""

    def __init__(self, message: str, *, messages: Sequence[object] = ()) -> None:
        super().__init__(message)
        self.messages = tuple(messages)


class MtadTimeoutError(ExpectationError):
    """Mail that was waited for has not come; ``messages`` came, the last ten."""


class UnexpectedMailError(ExpectationError):
    """Mail came where none was to come."""
