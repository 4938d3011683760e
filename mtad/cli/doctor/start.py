"""The start that is examined."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mtad.cli.doctor.finding import CannotLookError
from mtad.config.load import Configuration
from mtad.errors import PreflightError
from mtad.privilege import accounts
from mtad.privilege.drop import rehearse
from mtad.privilege.plan import Plan, Request, make_plan
from mtad.privilege.situation import Situation


@dataclass(frozen=True, slots=True)
class Start:
    """What is configured, and what this process holds: it stands for the one that would start.

    ``plan`` is None where the drop cannot work, for ``refusal``.
    """

    configuration: Configuration
    request: Request
    situation: Situation
    plan: Plan | None
    refusal: PreflightError | None = None

    @classmethod
    def of(cls, configuration: Configuration) -> Start:
        """Return the start of the calling process."""
        request = Request.of(configuration.settings.security)
        situation = Situation.here()
        try:
            return cls(configuration, request, situation, make_plan(request, situation))
        except PreflightError as refusal:
            return cls(configuration, request, situation, None, refusal)

    def as_user(self, work: Callable[[], Any]) -> Any:
        """Return what ``work`` returns (JSON) as the user that the daemon would be, in a child.

        Raises:
            CannotLookError: this process cannot become that user, or ``work`` raised an error.
        """
        plan = self.plan or self._without_capabilities()
        try:
            return rehearse(plan, work)
        except PreflightError as error:
            raise CannotLookError(f"not tried as {self.user}: {error.message}") from None

    @property
    def by_root(self) -> bool:
        """Whether the start is root's."""
        return self.situation.uids[1] == 0

    @property
    def user(self) -> str:
        """Whom the daemon would be, for commands: a name, or a number."""
        if self.request.user is None:
            return accounts.user(self.situation.uids[1]).name
        return str(self.request.user)

    def command(self, word: str) -> str:
        """Return the command line of ``mtad WORD`` with these files, for any PATH (sudo's)."""
        program = Path(sys.executable).with_name("mtad")
        return f"{program if program.exists() else program.name} {word} {self.files}"

    @property
    def files(self) -> str:
        """The configuration files, as they were given."""
        return shlex.join(map(str, self.configuration.paths))

    def _without_capabilities(self) -> Plan:
        try:
            return make_plan(replace(self.request, capabilities=""), self.situation)
        except PreflightError:
            raise CannotLookError(
                f"not tried as {self.user}: to become that user is refused, see above",
                "" if self.by_root else f"sudo {self.command('doctor')}",
            ) from None
