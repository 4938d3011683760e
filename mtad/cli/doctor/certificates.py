"""Certificates and keys of the operator, as the user that the daemon will be."""

from __future__ import annotations

from collections.abc import Iterator

from mtad.cli.doctor.finding import Finding, ok, problem
from mtad.cli.doctor.start import Start
from mtad.config.load import Configuration
from mtad.errors import ConfigError
from mtad.privilege.access import obstacles

_REFUSED = "the start is refused, and so is a reload"


def certificates(start: Start) -> Iterator[Finding]:
    """Read the files that profiles name for TLS, and see whether they fit each other."""
    files = start.configuration.tls_files()
    in_the_way = start.as_user(lambda: list(obstacles(files, ())))
    for asked, found, hint in in_the_way:
        yield problem(f"as {start.user}, {asked}: {found}", _REFUSED, hint)
    unfit = [] if in_the_way else start.as_user(lambda: _unfit(start.configuration))
    for found, hint in unfit:
        yield problem(found, _REFUSED, hint)
    if not in_the_way and not unfit:
        named = f"{len(files)} files fit together" if files else "no file is named for TLS"
        yield ok(named)


def _unfit(configuration: Configuration) -> list[tuple[str, str]]:
    try:
        configuration.check_tls()
    except ConfigError as error:
        return [(f"{one.key}: {one.reason}", one.help) for one in error.problems]
    return []
