"""Stock aiosmtpd: stock.py PORT [--uvloop] [--tls CERTIFICATE KEY] [--mailbox DIRECTORY].

It discards what it gets, or its own handler Mailbox keeps that in a Maildir. Without its
Controller, which would serve from a second thread and connect to itself; with a name, which would
be looked up for every connection.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl

import uvloop
from aiosmtpd.handlers import Mailbox
from aiosmtpd.smtp import SMTP, Envelope, Session


class Discard:
    async def handle_DATA(  # noqa: N802 (aiosmtpd's name)
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        return "250 OK"


async def serve(port: int, handler: Discard | Mailbox, context: ssl.SSLContext | None) -> None:
    def session() -> SMTP:
        return SMTP(handler, hostname="mx.example", enable_SMTPUTF8=True, tls_context=context)

    loop = asyncio.get_running_loop()
    server = await loop.create_server(session, "127.0.0.1", port, backlog=500)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--tls", nargs=2)
    parser.add_argument("--mailbox")
    options = parser.parse_args()
    context = None
    if options.tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*options.tls)
    factory = uvloop.new_event_loop if options.uvloop else None
    with asyncio.Runner(loop_factory=factory) as runner:
        handler = Mailbox(options.mailbox) if options.mailbox else Discard()
        runner.run(serve(options.port, handler, context))


if __name__ == "__main__":
    main()
