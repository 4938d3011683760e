"""The program mtad from outside: messages, exit statuses, and what it imports.

After a change of words, in tests/bad_configs:
``for f in *.yaml; do mtad check "$f" 2> "${f%.yaml}.expected"; done``, and read the difference.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import mtad
from mtad.cli.mtad import main

ROOT = Path(__file__).parents[3]
CONF = ROOT / "conf"
BAD = ROOT / "tests" / "bad_configs"
BAD_NAMES = sorted(path.stem for path in BAD.glob("*.yaml"))


def program(
    *arguments: str, cwd: Path = ROOT, stdout: int = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mtad.cli.mtad", *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=30,
        check=False,
    )


def test_there_are_enough_bad_configurations() -> None:
    assert len(BAD_NAMES) >= 45
    assert {path.stem for path in BAD.glob("*.expected")} == set(BAD_NAMES)


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="PyYAML's own parser has other words")
@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_configuration(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(BAD)
    with pytest.raises(SystemExit) as exit_:
        main(["check", f"{name}.yaml"])
    out, err = capsys.readouterr()
    assert err == (BAD / f"{name}.expected").read_text()
    assert (exit_.value.code, out) == (1, "")


@pytest.mark.parametrize(
    "words", [("check", "conf/mtad.yaml"), ("schema",), ("--help",), ("--version",)]
)
def test_a_full_disk_is_said(words: tuple[str, ...]) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123 (a device)
        done = program(*words, stdout=full.fileno())
    reason = "mtad: the standard output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, reason)


@pytest.mark.parametrize("name", ["several", "forged-key", "capability-unknown", "not-utf8"])
def test_bad_configuration_by_the_real_program(name: str) -> None:
    done = program("check", f"{name}.yaml", cwd=BAD)
    assert done.stderr == (BAD / f"{name}.expected").read_text()
    assert (done.returncode, done.stdout) == (1, "")


def test_check_of_a_good_file() -> None:
    done = program("check", str(CONF / "mtad.yaml"))
    assert done.stdout == ("ok: 1 listener, user ecuser, capabilities cap_net_bind_service+ep\n")
    assert (done.returncode, done.stderr) == (0, "")


def test_check_of_two_files() -> None:
    done = program("check", str(CONF / "mtad.yaml"), str(CONF / "mtad-user.yaml"))
    assert done.stdout == "ok: 1 listener, user who starts it, capabilities none\n"


def test_check_tells_of_what_has_no_effect(tmp_path: Path) -> None:
    (tmp_path / "solaris.yaml").write_text("security: {privileges: basic}\n")
    done = program("check", "solaris.yaml", cwd=tmp_path)
    assert done.stderr == "note: security.privileges: not applicable on Linux\n"
    assert done.returncode == 0


def test_a_capability_problem_of_an_overriding_file_has_its_place(tmp_path: Path) -> None:
    (tmp_path / "over.yaml").write_text("security:\n  capabilities: cap_nix+ep\n")
    done = program("check", str(CONF / "mtad.yaml"), "over.yaml", cwd=tmp_path)
    assert done.stderr.startswith("over.yaml:2: security.capabilities: ")
    assert done.returncode == 1


def test_a_missing_file() -> None:
    done = program("check", "none.yaml")
    assert done.stderr == "none.yaml: cannot be read: No such file or directory\n"
    assert done.returncode == 1


@pytest.mark.parametrize("command", ["run", "check", "explain"])
@pytest.mark.skipif(Path("/etc/mtad/mtad.yaml").exists(), reason="this machine has a default file")
def test_without_files_and_without_the_default_file(command: str) -> None:
    done = program(command)
    assert "no FILES were given, and /etc/mtad/mtad.yaml is not there" in done.stderr
    assert (done.returncode, done.stdout) == (2, "")


def test_schema_is_json_and_names_every_stanza() -> None:
    schema = json.loads(program("schema").stdout)
    assert {"security", "listeners", "control"} <= set(schema["properties"])
    assert schema["additionalProperties"] is False


def test_version() -> None:
    assert program("--version").stdout == f"mtad {mtad.__version__}\n"


def test_explain_prints_the_plan_without_root(tmp_path: Path) -> None:
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    prefix = as_nobody if os.geteuid() == 0 else []
    if subprocess.run([*prefix, "test", "-r", str(BAD)], check=False).returncode:
        pytest.skip("uid 65534 cannot read the checkout")
    file = tmp_path / "file.yaml"
    file.write_text("security: {user: 0, group: 0, capabilities: cap_net_bind_service+ep}\n")
    with file.open() as stdin:  # its directory is closed to others; /dev/stdin needs none
        done = subprocess.run(
            [*prefix, sys.executable, "-m", "mtad.cli.mtad", "explain", "/dev/stdin"],
            stdin=stdin,
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=30,
            check=False,
        )
    plan, refusal = done.stdout.split("  refused: ")
    assert "setresuid" in plan
    assert "cap_net_bind_service" in plan
    assert refusal.startswith("security.user: ")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_configuration_is_read_without_libraries_for_terminals() -> None:
    code = "import sys, mtad.config.load; print({'click', 'rich', 'asyncio'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout == "set()\n"


_REPLACED_BY = """
import os, sys
def execv(program, arguments):
    print(arguments[1:], "click" in sys.modules)
    sys.exit()
os.execv = execv
from mtad.cli.mtad import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize(("words", "by_click"), [(["run"], False), (["run", "--"], True)])
def test_run_is_replaced_by_the_supervisor(words: list[str], by_click: bool) -> None:
    """It takes no command line library, unless there is an option."""
    command = [sys.executable, "-c", _REPLACED_BY, *words, "a.yaml", "/b.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    supervisor = ["-I", "-m", "mtad.supervisor", "a.yaml", "/b.yaml"]
    assert done.stdout == f"{supervisor} {by_click}\n"


def test_an_option_of_run_is_not_taken_for_a_file() -> None:
    done = program("run", "--nix", "a.yaml")
    assert "--nix" in done.stderr
    assert done.returncode == 2
