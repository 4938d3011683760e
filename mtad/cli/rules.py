"""What mtactl does about fault rules besides asking once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mtad.control import wire
from mtad.control.client import ControlClient
from mtad.errors import CommandError


def load(client: ControlClient, params: dict[str, Any], _: bool) -> dict[str, Any]:
    """Have the rules of a file added.

    Raises:
        CommandError: it cannot be read, or the daemon refuses them.
    """
    file = params.pop("file")
    try:
        text = Path(file).read_text("utf-8")
    except OSError as error:
        raise CommandError(
            f"{file}: {error.strerror}", help="check the path, and its owner"
        ) from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{file}: not UTF-8: octet {error.start + 1}") from error
    call = {"text": text, "name": file, **params}
    if len(wire.request_line(1, "rule.load", call)) > wire.LINE_LIMIT:
        raise CommandError(
            f"{file}: {len(text)} characters do not go into one line ({wire.LINE_LIMIT} octets)",
            help="load it in parts, or write the rules into the configuration and reload",
        )
    return client.call("rule.load", **call)
