"""Send 4 KB messages by STARTTLS, a connection for each, every session resumed: PORT MESSAGES."""

from __future__ import annotations

import json
import socket
import ssl
import statistics
import sys
import time

BODY = b"Subject: load\r\n\r\n" + b"x" * 76 + b"\r\n"
BODY += (b"abcdefghijklmnopqrstuvwxyz" * 3)[:76].join([b"", b"\r\n"]) * ((4096 - len(BODY)) // 78)


def ask(connection: socket.socket, what: bytes, replies: int = 1) -> None:
    """Send ``what`` and read as many replies, which all have to be positive."""
    if what:
        connection.sendall(what)
    answer = b""
    while sum(line[3:4] == b" " for line in answer.splitlines()) < replies or answer[-1:] != b"\n":
        if not (octets := connection.recv(65536)):
            raise ConnectionError(f"closed after {answer!r}")
        answer += octets
    if any(line[:1] not in (b"2", b"3") for line in answer.splitlines()):
        raise ConnectionError(f"refused: {answer!r}")


def deliver(
    port: int, context: ssl.SSLContext, session: ssl.SSLSession | None
) -> ssl.SSLSession | None:
    """Deliver a message; return the session that the next one can resume."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ask(plain, b"")
        ask(plain, b"EHLO load.example\r\n")
        ask(plain, b"STARTTLS\r\n")
        with context.wrap_socket(plain, server_hostname="mx.example", session=session) as secure:
            if session is not None and not secure.session_reused:
                raise ConnectionError("the TLS session was not resumed")
            ask(secure, b"EHLO load.example\r\n")
            ask(secure, b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n", 3)
            ask(secure, BODY + b".\r\n")
            ask(secure, b"QUIT\r\n")
            return secure.session


def main() -> None:
    port, messages = map(int, sys.argv[1:])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    session = deliver(port, context, None)
    took = []
    start = time.perf_counter()
    for _ in range(messages):
        before = time.perf_counter()
        session = deliver(port, context, session)
        took.append((time.perf_counter() - before) * 1_000)
    seconds = time.perf_counter() - start
    result = {
        "messages": messages,
        "seconds": seconds,
        "rate": messages / seconds,
        "p50_ms": statistics.median(took),
        "p99_ms": sorted(took)[int((messages - 1) * 0.99)],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(str(error))
