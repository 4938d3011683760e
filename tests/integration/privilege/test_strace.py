"""The order of the calls, as strace(1) sees it, against what was written down once."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from harness.privilege_subject import STARTS, command

pytestmark = [pytest.mark.root, pytest.mark.netns]

HERE = Path(__file__).parent
CALLS = (
    "execve,capset,prctl,setuid,setreuid,setresuid,setgid,setregid,setresgid,setgroups,prlimit64"
)
# Questions, and names of things: they change no privilege.
IDLE = re.compile(
    r"PR_GET_|PR_CAPBSET_READ|PR_CAP_AMBIENT_IS_SET|PR_SET_VMA|PR_SET_NAME|RLIMIT_(?!CORE)"
)
ONE = "cap_net_bind_service+ep"


def trace(start: str, order: dict[str, object], file: Path) -> tuple[list[str], list[str]]:
    """What the rehearsal and the process itself called, after the interpreter was started."""
    subprocess.run(
        [
            *["strace", "-f", "-o", str(file), "-e", f"trace={CALLS}"],
            *["unshare", "--net", *STARTS[start], *command({"user": "ecuser", **order})],
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        cwd="/",  # the checkout may be closed to ecuser
        check=True,
        timeout=30,
    )
    lines = [line.split(maxsplit=1) for line in file.read_text().splitlines()]
    own = lines[0][0]
    begin = max(at for at, (_, call) in enumerate(lines) if call.startswith("execve("))
    made = [(pid, call) for pid, call in lines[begin + 1 :] if call[0] not in "+-"]
    effects = [(pid, call) for pid, call in made if not IDLE.search(call)]
    return (
        [call for pid, call in effects if pid != own],
        [call for pid, call in effects if pid == own],
    )


def normal(calls: list[str], ecuser: pwd.struct_passwd) -> list[str]:
    """The calls as on any machine: ids by name, and however many capabilities there are."""
    names = {"uid": ecuser.pw_uid, "gid": ecuser.pw_gid}
    result: list[str] = []
    for call in calls:
        text = re.sub(r"\s+", " ", call)
        if text.startswith("prctl(PR_CAPBSET_DROP, "):
            text = "prctl(PR_CAPBSET_DROP, each) = 0" if text.endswith("= 0") else text
            if text in result[-1:]:
                continue
        for kind, number in names.items():
            if text.startswith(f"setres{kind}("):
                text = re.sub(rf"\b{number}\b", "ecuser", text)
        result.append(text)
    return result


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize(
    ("golden", "start", "order"),
    [
        ("root", "root", {"capabilities": ONE}),
        ("root_without_setpcap", "root_without_setpcap", {"capabilities": ONE}),
        ("ecuser_ambient", "ecuser_ambient", {"capabilities": ONE}),
        ("ecuser_nothing", "ecuser_nothing", {}),
        ("renounce", "ecuser_ambient", {"act": "renounce"}),
    ],
)
def test_the_calls_are_made_in_this_order(
    golden: str, start: str, order: dict[str, object], ecuser: pwd.struct_passwd, tmp_path: Path
) -> None:
    rehearsed, made = trace(start, order, tmp_path / "strace")
    expected = (HERE / f"golden_{golden}.strace").read_text().splitlines()
    assert normal(made, ecuser) == expected
    # The rehearsal is the drop itself, in a child.
    assert normal(rehearsed, ecuser) == ([] if order.get("act") == "renounce" else expected)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("whole", [False, True], ids=["it alone", "its parent, too"])
def test_who_is_traced_alone_renounces_nothing(whole: bool) -> None:
    """A worker that was taken over may have begun to trace the next one before it was protected."""
    program = [sys.executable, "-c", "from mtad.privilege.drop import renounce; renounce()"]
    tracer = ["strace", "-f", "-o", os.devnull, "-e", "trace=capset"]
    through = ["sh", "-c", '"$@"; exit $?', "sh"] if whole else []
    done = subprocess.run(
        [*tracer, *through, *program], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode == 0) is whole
    assert ("traces this one, and not its parent" in done.stderr) is not whole
