"""What a client is told of an error."""

from __future__ import annotations

import logging
import secrets

from mtad.control.wire import Code
from mtad.errors import CommandError, MtadError

_log = logging.getLogger(__name__)


def refusal(error: Exception) -> CommandError:
    """Return ``error`` as the client is told of it; our own faults by a reference alone."""
    if isinstance(error, CommandError):
        return error
    if isinstance(error, MtadError):
        return CommandError(error.message, code=Code.REFUSED, help=error.help)
    reference = secrets.token_hex(4)
    _log.error("control.internal_error", exc_info=error, extra={"fields": {"reference": reference}})
    return CommandError(
        f"internal error {reference}",
        code=Code.INTERNAL_ERROR,
        help="the daemon's log has the details under this reference",
    )
