"""Each step taken out of the drop, one at a time: the verification stops it, or a witness tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from harness.privilege_battery import Workshop, attempt
from harness.privilege_subject import subject
from harness.privilege_witness import held

from mtad.privilege.drop import STEPS

pytestmark = [pytest.mark.root, pytest.mark.netns, pytest.mark.usefixtures("ecuser")]

ONE = "cap_net_bind_service+ep"


@dataclass(frozen=True)
class Witness:
    """An attempt that gains something where the step is missing, and a start where it shows."""

    attempt: str
    start: str = "root"
    capabilities: str = ONE


WITNESSES = {
    "core_limit": Witness("core_limit"),
    "bounding_set": Witness("inheritable"),
    # With a capability to retain, capset(2) fails without it: see below.
    "securebits": Witness("keep_caps", capabilities=""),
    "groups": Witness("file_of_group"),
    "gid": Witness("file_of_group"),
    "uid": Witness("file_of_user"),
    "capabilities": Witness("setuid"),
    "keep_caps_off": Witness("kept_caps", "root_without_setpcap"),
    "ambient": Witness("plain_program", "ecuser_ambient", "cap_net_bind_service+eip"),
    "no_new_privs": Witness("setuid_program"),
    "dumpable": Witness("look_into", "ecuser_nothing", ""),
}

NO_CAPSET_WITHOUT = {"securebits": "root", "keep_caps": "root_without_setpcap"}
"""Where these are missing, leaving root loses what was to be retained, and capset(2) fails."""


def order(step: str) -> dict[str, Any]:
    return {"user": "ecuser", "capabilities": WITNESSES[step].capabilities}


def test_every_step_has_a_witness() -> None:
    assert WITNESSES.keys() | NO_CAPSET_WITHOUT.keys() == STEPS.keys()


@pytest.mark.parametrize("step", WITNESSES)
def test_the_verification_stops_a_drop_without(step: str) -> None:
    with subject(WITNESSES[step].start, omit=step, **order(step)) as daemon:
        assert daemon.answer["error"] == "VerificationError"


@pytest.mark.parametrize("step", WITNESSES)
def test_unverified_the_witness_tells_of_a_drop_without(step: str, shop: Workshop) -> None:
    witness = WITNESSES[step]
    with subject(witness.start, omit=step, verify=False, **order(step)) as daemon:
        assert "error" not in daemon.answer
        assert attempt(witness.attempt, daemon.pid, shop, other=0)
    with subject(witness.start, verify=False, **order(step)) as daemon:
        assert attempt(witness.attempt, daemon.pid, shop, other=0) == ""


@pytest.mark.parametrize("step", NO_CAPSET_WITHOUT)
def test_the_rehearsal_fails_without(step: str) -> None:
    start = NO_CAPSET_WITHOUT[step]
    with subject(start, omit=step, verify=False, user="ecuser", capabilities=ONE) as daemon:
        assert daemon.answer["error"] == "PreflightError"
        assert "capset(): Operation not permitted" in daemon.answer["message"]
        assert held(daemon.pid).uids == (0, 0, 0, 0)
