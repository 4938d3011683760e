"""`mtad doctor` in real situations: each made, diagnosed, and with the remedy it is to name."""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from harness import userns
from harness.daemon import PROGRAMS, Daemon, config, until

import mtad

pytestmark = [
    pytest.mark.integration,
    pytest.mark.root,
    pytest.mark.netns,
    pytest.mark.usefixtures("netns"),
]

NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
_PORT_START = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
_IPV6_OFF = Path("/proc/sys/net/ipv6/conf/all/disable_ipv6")


@dataclass(frozen=True)
class Diagnosis:
    """What doctor said; ``status`` is its exit status."""

    status: int
    findings: list[dict[str, Any]]

    def of(self, level: str) -> list[dict[str, Any]]:
        return [finding for finding in self.findings if finding["level"] == level]

    @property
    def problem(self) -> dict[str, Any]:
        """The one problem."""
        (only,) = self.of("problem")
        return only

    def problem_of(self, check: str) -> dict[str, Any]:
        """The one problem that a check has."""
        (only,) = (finding for finding in self.of("problem") if finding["check"] == check)
        return only


def doctor(*files: Path, prefix: Sequence[str] = (), **options: Any) -> Diagnosis:
    """Run `mtad doctor --json`; a stack trace, or a word on standard error, fails the test."""
    command = [*prefix, str(PROGRAMS / "mtad"), "doctor", "--json", *map(str, files)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, **options
    )
    assert done.stderr == ""
    answer = json.loads(done.stdout)
    assert answer["ok"] is (done.returncode == 0)
    for bug in ("check failed", "without a result"):
        assert bug not in done.stdout
    return Diagnosis(done.returncode, answer["findings"])


@pytest.fixture
def written(directory: Path) -> Callable[..., Path]:
    """A function that writes a configuration, by default one of port 25, and returns its path."""

    def write(**options: Any) -> Path:
        file = directory / "mtad.yaml"
        file.write_text(config(directory, **{"listen": "*:25"} | options))
        return file

    return write


Written = Callable[..., Path]


@contextmanager
def listening(address: str, port: int) -> Iterator[subprocess.Popen[str]]:
    """Another program that listens there."""
    code = (
        "import socket, sys; s = socket.create_server((sys.argv[1], int(sys.argv[2])), "
        "family=socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET); "
        "print('listens', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-I", "-c", code, address, str(port), "the-other-mail-server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "listens\n"
        yield process
        assert process.poll() is None, "the doctor killed the patient"
        process.terminate()


def test_a_healthy_machine(written: Written, directory: Path) -> None:
    file = written()
    before = sorted(directory.rglob("*"))
    diagnosis = doctor(file)
    assert diagnosis.status == 0
    assert {finding["level"] for finding in diagnosis.findings} == {"ok"}
    assert sorted(directory.rglob("*")) == before, "it left something behind"
    # What it says can be trusted: the same start works.
    with Daemon(directory, file.read_text()) as daemon:
        daemon.wait_ready()


@pytest.mark.parametrize("holder", ["0.0.0.0", "127.0.0.1"])
@pytest.mark.parametrize("listen", ["127.0.0.1:25", "*:25"])
def test_another_process_has_the_port(holder: str, listen: str, written: Written) -> None:
    with listening(holder, 25) as other:
        problem = doctor(written(listen=listen)).problem
    assert problem["check"] == "listeners"
    assert f"process {other.pid} (" in problem["found"]
    assert "user root" in problem["found"]
    assert (f"{holder}:25 excludes it" in problem["found"]) == (f"{holder}:25" != listen)
    assert f"kill {other.pid}" in problem["remedies"]
    assert any('listeners.mx.listen: "' in remedy for remedy in problem["remedies"])


def test_the_remedy_for_a_taken_port_works(written: Written) -> None:
    file = written(listen="127.0.0.1:25")
    with listening("127.0.0.1", 25) as other:
        remedy = doctor(file).problem["remedies"][0]
        assert remedy == f"kill {other.pid}"
    assert doctor(file).status == 0  # the other one ends with the block


def test_an_ipv6_wildcard_excludes_ipv4(written: Written) -> None:
    other = socket.create_server(("::", 25), family=socket.AF_INET6, dualstack_ipv6=True)
    with other:
        problem = doctor(written(listen="127.0.0.1:25")).problem
    assert f"[::]:25 excludes it, and is held by process {os.getpid()} (" in problem["found"]


def test_a_socket_on_another_address_is_not_in_the_way(written: Written) -> None:
    with listening("127.0.0.2", 25):
        assert doctor(written(listen="127.0.0.1:25")).status == 0


def test_a_range_is_told_in_one_line(written: Written) -> None:
    with listening("127.0.0.9", 25) as other:
        diagnosis = doctor(written(listen="127.0.0.0/24:25"))
    assert diagnosis.problem["found"].startswith("mx: 127.0.0.9:25: held by process")
    assert str(other.pid) in diagnosis.problem["found"]
    listeners = [f["found"] for f in diagnosis.findings if f["check"] == "listeners"]
    assert "mx: 255 endpoints, 127.0.0.0:25 to 127.0.0.255:25 can be opened" in listeners


def test_the_holder_is_named_without_its_control_characters(written: Written) -> None:
    """A command line is for its process to write."""
    with subprocess.Popen(
        ["socat", "TCP4-LISTEN:25,bind=127.0.0.1", "SYSTEM:cat # \x1b[2J\nok all is well"],
    ) as other:
        try:
            until(lambda: b"0100007F:0019" in Path("/proc/net/tcp").read_bytes())
            file = written(listen="127.0.0.1:25")
            done = subprocess.run(
                [PROGRAMS / "mtad", "doctor", file], capture_output=True, text=True, check=False
            )
        finally:
            other.terminate()
    assert done.returncode == 1
    assert r"\x1b[2J\nok all is well" in done.stdout
    assert "\x1b" not in done.stdout


def test_the_daemon_itself_runs_already(directory: Path) -> None:
    with Daemon(directory, config(directory, listen="127.0.0.1:25")) as daemon:
        daemon.wait_ready()
        diagnosis = doctor(daemon.config)
        control, listener = (diagnosis.problem_of(each) for each in ("control socket", "listeners"))
        assert f"process {daemon.process.pid} (" in control["found"]
        assert f"process {daemon.process.pid} (" in listener["found"]
        command = f"mtactl --socket {daemon.socket} shutdown"
        assert command in control["remedies"]
        assert command in listener["remedies"]
        # It has not been disturbed; and the remedy is one.
        assert daemon.mtactl("ready").returncode == 0
        assert daemon.mtactl("shutdown").returncode == 0
        daemon.process.wait(15)
    assert doctor(daemon.config).status == 0


@pytest.mark.parametrize(
    "prefix",
    [
        ["setpriv", "--bounding-set=-net_bind_service"],
        ["capsh", "--drop=cap_net_bind_service", "--", "-c", 'exec "$0" "$@"'],
    ],
    ids=["setpriv", "capsh"],
)
def test_a_capability_that_was_taken_away(prefix: list[str], written: Written) -> None:
    diagnosis = doctor(written(), prefix=prefix)
    problem = diagnosis.problem
    assert problem["check"] == "capabilities"
    assert "cap_net_bind_service" in problem["found"]
    assert "bounding set" in problem["found"]
    assert f"process {os.getpid()} (" in problem["found"]  # the last that had it
    unknown = [finding["check"] for finding in diagnosis.of("unknown")]
    assert unknown == ["drop", "listeners"]


def test_the_capability_is_not_configured(written: Written) -> None:
    problem = doctor(written(capabilities="")).problem
    assert problem["check"] == "privileged ports"
    assert 'security.capabilities: "cap_net_bind_service+ep"' in problem["remedies"][0]


def test_ports_that_anybody_may_bind(written: Written) -> None:
    _PORT_START.write_text("0")
    diagnosis = doctor(written())
    assert diagnosis.status == 0
    (warning,) = diagnosis.of("warning")
    assert warning["check"] == "privileged ports"
    assert "net.ipv4.ip_unprivileged_port_start is 0" in warning["found"]
    assert "sysctl -w net.ipv4.ip_unprivileged_port_start=1024" in warning["remedies"]


def test_root_without_setpcap_is_warned(written: Written) -> None:
    diagnosis = doctor(written(), prefix=["setpriv", "--bounding-set=-setpcap"])
    assert diagnosis.status == 0
    assert {finding["check"] for finding in diagnosis.of("warning")} == {"drop"}


def test_no_such_user(written: Written) -> None:
    diagnosis = doctor(written(user="nosuchuser"))
    problem = diagnosis.problem
    assert problem["check"] == "user"
    assert problem["remedies"] == [
        "create it: useradd --system --shell /usr/sbin/nologin nosuchuser"
    ]


def test_nobody_of_that_name_for_the_control_socket(written: Written, directory: Path) -> None:
    extra = directory / "extra.yaml"
    control = f"control:\n  socket: {directory}/run/control.sock\n  operate: ['@nosuchgroup']\n"
    extra.write_text(control)
    problem = doctor(written(), extra).problem
    assert problem["found"] == "control.operate: there is no group 'nosuchgroup'"


@pytest.mark.parametrize(
    ("listen", "remedy"),
    [
        ("192.0.2.7:25", "ip address add 192.0.2.7/32 dev lo"),
        ("[2001:db8::7]:25", "ip address add 2001:db8::7/128 dev lo"),
    ],
)
def test_an_address_that_no_interface_has(listen: str, remedy: str, written: Written) -> None:
    file = written(listen=listen)
    problem = doctor(file).problem
    assert "EADDRNOTAVAIL" in problem["found"]
    assert remedy in problem["remedies"]
    subprocess.run(remedy.split(), check=True)
    # lo does no duplicate address detection: the address can be used at once.
    assert doctor(file).status == 0


def test_a_range_that_no_interface_has(written: Written) -> None:
    file = written(listen="192.0.2.0/24:25")
    remedy = doctor(file).problem["remedies"][0]
    assert remedy == "ip route add local 192.0.2.0/24 dev lo"
    subprocess.run(remedy.split(), check=True)
    assert doctor(file).status == 0


def test_a_range_of_thousands_is_looked_at_once(written: Written) -> None:
    with listening("0.0.0.0", 25) as other:
        problem = doctor(written(listen="127.0.0.0/20:25")).problem
    assert problem["found"].startswith("mx: 4096 endpoints, 127.0.0.0:25 to 127.0.15.255:25: ")
    assert f"process {other.pid} (" in problem["found"]


def test_ipv6_switched_off(written: Written) -> None:
    _IPV6_OFF.write_text("1")
    problem = doctor(written(listen="[::1]:25")).problem
    assert "IPv6 is switched off" in problem["found"]
    assert problem["remedies"][0] == "sysctl -w net.ipv6.conf.all.disable_ipv6=0"


def test_the_loopback_interface_is_down(written: Written) -> None:
    subprocess.run(["ip", "link", "set", "lo", "down"], check=True)
    problem = doctor(written(listen="[::1]:25")).problem
    assert problem["remedies"] == ["ip link set lo up"]


def test_a_store_behind_a_closed_directory(written: Written, directory: Path) -> None:
    closed = directory / "closed"
    closed.mkdir(mode=0o700)
    (closed / "store").mkdir()
    (closed / "store" / "bodies").mkdir()
    file = written()
    file.write_text(file.read_text().replace(f"{directory}/store", f"{closed}/store"))
    problem = doctor(file).problem
    assert problem["check"] == "directories"
    assert f"{closed} does not let it pass (mode 0700, owner 0:0)" in problem["found"]
    assert problem["remedies"][0].startswith(f"chmod a+x {closed}")
    closed.chmod(0o711)
    problem = doctor(file).problem  # root's, and not empty: the start does not hand it over
    assert problem["remedies"] == [f"chown -R ecuser {closed}/store"]
    subprocess.run(problem["remedies"][0].split(), check=True)
    assert doctor(file).status == 0


def test_the_place_of_a_directory_is_taken(written: Written, directory: Path) -> None:
    (directory / "store").symlink_to("/var")
    assert "is a symbolic link" in doctor(written()).problem_of("directories")["found"]


def test_a_log_of_somebody_else(written: Written, directory: Path) -> None:
    log = directory / "log"
    log.mkdir()
    shutil.chown(log, "ecuser")
    (log / "mtad.log").touch(mode=0o600)
    file = written(extra=f"log: {{target: {log}/mtad.log}}")
    problem = doctor(file).problem
    assert problem["remedies"] == [f"chown -R ecuser {log}/mtad.log"]
    (log / "mtad.log").unlink()
    (log / "mtad.log").symlink_to("/etc/passwd")
    assert doctor(file).problem["remedies"] == [f"rm {log}/mtad.log"]


def test_a_configuration_that_the_user_cannot_read(written: Written) -> None:
    file = written()
    file.chmod(0o600)
    problem = doctor(file).problem
    assert problem["check"] == "files"
    assert f"as ecuser, cannot read {file}" in problem["found"]
    subprocess.run(problem["remedies"][0], shell=True, check=True)  # noqa: S602 (as a person would)
    assert doctor(file).status == 0


def test_an_interpreter_that_the_user_cannot_read(written: Written, directory: Path) -> None:
    """An environment below a closed home, as root's own often is."""
    closed = directory / "root"
    closed.mkdir(mode=0o700)
    environment = closed / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (site,) = environment.glob("lib/python*/site-packages")
    packages = [path for path in sys.path if path.endswith("site-packages")]
    paths = [*packages, str(Path(mtad.__file__).parents[1])]
    (site / "borrowed.pth").write_text("\n".join(paths) + "\n")
    program = [str(environment / "bin" / "python"), "-m", "mtad.cli.mtad", "doctor", "--json"]
    done = subprocess.run([*program, str(written())], capture_output=True, text=True, check=False)
    answer = Diagnosis(done.returncode, json.loads(done.stdout)["findings"])
    assert answer.status == 1
    problem = answer.problem_of("files")
    assert f"{closed} does not let it pass (mode 0700, owner 0:0)" in problem["found"]
    assert any(remedy.startswith("scripts/setup") for remedy in problem["remedies"])
    assert answer.problem_of("imports")


def test_something_in_the_way_of_a_unix_listener(written: Written, directory: Path) -> None:
    run = directory / "run"
    run.mkdir()
    shutil.chown(run, "ecuser", "ecuser")
    path = run / "mx.sock"
    path.write_text("precious")
    file = written(listen=str(path))
    problem = doctor(file).problem
    assert problem["check"] == "unix listeners"
    assert problem["remedies"] == [f"rm -r {path}"]
    assert path.read_text() == "precious"
    path.unlink()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
        shutil.chown(path, "ecuser")
        stale.listen()
        found = doctor(file).problem["found"]
        assert f"held by process {os.getpid()} (" in found
    assert path.is_socket()
    assert doctor(file).status == 0, "the daemon removes a stale socket of its own"
    assert path.is_socket(), "the doctor does not"


def test_a_unix_listener_without_a_directory(written: Written, directory: Path) -> None:
    file = written(listen=f"{directory}/none/mx.sock")
    problem = doctor(file).problem
    assert problem["remedies"] == [f"install -d -o ecuser {directory}/none"]
    subprocess.run(problem["remedies"][0].split(), check=True)
    assert doctor(file).status == 0


@pytest.mark.parametrize("planted", ["link", "file", "lock"])
def test_something_in_the_way_of_the_control_socket(
    planted: str, written: Written, directory: Path
) -> None:
    run = directory / "run"
    run.mkdir()
    name = "control.sock.lock" if planted == "lock" else "control.sock"
    if planted == "link":
        (run / name).symlink_to("/etc/passwd")
    else:
        (run / name).touch()
    shutil.chown(run, "ecuser", "ecuser")
    problem = doctor(written()).problem
    assert problem["check"] == "control socket"
    assert f"remove {run / name}" in problem["remedies"][0]


def test_few_open_files(written: Written) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))

    problem = doctor(written(listen="127.0.0.0/24:25"), preexec_fn=limit).problem_of("open files")
    assert "RLIMIT_NOFILE is 200" in problem["found"]
    assert any(remedy.startswith("systemd: LimitNOFILE=") for remedy in problem["remedies"])


def test_few_processes(written: Written) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))

    problem = doctor(written(), preexec_fn=limit).problem_of("processes")
    assert "RLIMIT_NPROC is 1" in problem["found"]


def test_a_full_file_system(written: Written, directory: Path) -> None:
    small = directory / "store"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0777", "tmpfs", str(small)]
    inside = ["unshare", "-m", "sh", "-c", f'{" ".join(mount)} && exec "$0" "$@"']
    problem = doctor(written(), prefix=inside).problem
    assert problem["check"] == "disk"
    assert f"1 MiB are free for {small}" in problem["found"]


def test_a_read_only_file_system(written: Written, directory: Path) -> None:
    small = directory / "store"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "ro,mode=0777", "tmpfs", str(small)]
    inside = ["unshare", "-m", "sh", "-c", f'{" ".join(mount)} && exec "$0" "$@"']
    problem = doctor(written(), prefix=inside).problem_of("directories")
    assert "read-only" in problem["found"]


def test_a_user_namespace_that_does_not_own_the_network(written: Written, directory: Path) -> None:
    """Its root has every capability, over nothing that is here."""
    file = written(user="root", listen="127.0.0.1:25")
    inside = [sys.executable, userns.__file__]
    problem = doctor(file, prefix=inside).problem
    assert problem["check"] == "listeners"
    assert "the capability belongs to this user namespace" in problem["found"]
    # Negative control: with a network of its own it is allowed.
    assert doctor(file, prefix=[*inside, "--net"]).status == 0


def test_a_step_of_the_drop_that_is_forbidden(written: Written) -> None:
    """Where one id alone is mapped, setgroups(2) is refused (user_namespaces(7))."""
    diagnosis = doctor(written(user="root"), prefix=["unshare", "--user", "--map-root-user"])
    problem = diagnosis.problem
    assert problem["check"] == "drop"
    assert "step groups of the drop: setgroups()" in problem["found"]
    for finding in diagnosis.of("unknown"):
        assert finding["found"].startswith("not tried as root: step groups of the drop")


def test_without_root(written: Written) -> None:
    """What is wrong is that nobody is not root; who has the port is for root to see."""
    with listening("127.0.0.1", 25) as other:
        diagnosis = doctor(written(listen="127.0.0.1:25"), prefix=NOBODY)
    user, port = (diagnosis.problem_of(check) for check in ("user", "listeners"))
    assert user["remedies"][0].startswith("sudo /")
    assert "held by a process of user root: only root may see which" in port["found"]
    assert str(other.pid) not in port["found"]
    assert port["remedies"][0].startswith("sudo /")
    for unknown in diagnosis.of("unknown"):
        assert unknown["found"]
    assert {"drop", "files", "imports"} <= {each["check"] for each in diagnosis.of("unknown")}


def test_without_root_and_without_need_of_it(written: Written, directory: Path) -> None:
    file = written(user=None, listen="127.0.0.1:2525")
    directory.chmod(0o777)
    diagnosis = doctor(file, prefix=NOBODY)
    assert diagnosis.status == 0
    assert not diagnosis.of("unknown")
    # Negative control: the port that nobody may not have.
    diagnosis = doctor(written(user=None, listen="127.0.0.1:25"), prefix=NOBODY)
    assert diagnosis.problem["check"] == "privileged ports"


def test_mistakes_of_the_configuration_come_first(directory: Path) -> None:
    file = directory / "bad.yaml"
    file.write_text("listeners:\n  mx: {listen: '*:99999'}\nworkers: -1\n")
    diagnosis = doctor(file)
    found = [finding["found"] for finding in diagnosis.of("problem")]
    assert [text.split(": ")[0] for text in found] == [f"{file}:2", f"{file}:3"]
    assert "listeners" in diagnosis.of("unknown")[0]["found"]


def test_a_configuration_that_is_not_there(directory: Path) -> None:
    found = doctor(directory / "none.yaml").problem["found"]
    assert found == f"{directory}/none.yaml: cannot be read: No such file or directory"


def test_usage() -> None:
    command = [str(PROGRAMS / "mtad"), "doctor", "--no-such"]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 2
