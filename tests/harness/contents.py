"""Contents of messages that something may damage on the way."""

from __future__ import annotations

EVERY_OCTET = bytes(range(256))
HEADER = b"Subject: fidelity\r\n\r\n"

WHOLE_LINES = {
    "empty": b"",
    "one line end": b"\r\n",
    "many line ends": b"\r\n" * 1_000,
    "header alone": b"Subject: x\r\n",
    "every octet": HEADER + EVERY_OCTET + b"\r\n",
    "every octet twice over": b"".join(bytes([a, b]) for a in (0, 10, 13, 46) for b in EVERY_OCTET)
    + b"\r\n",
    "NUL": HEADER + b"a\0b\r\n\0\r\n",
    "bare CR": HEADER + b"a\rb\r\r\r\n",
    "bare LF": HEADER + b"a\nb\n\n\r\n",
    "LF CR": HEADER + b"a\n\rb\n\r\r\n",
    "8-bit": HEADER + "ä€😀".encode() + b"\xff\xfe\r\n",
    "dots": b".\r\n..\r\n...\r\n.a\r\na.\r\n . \r\n",
    "a dot first": b".Subject: x\r\n\r\n.\r\n",
    "dots behind bare line ends": b"a\n.\nb\n.\r\nc\r.\rd\r.\r\n",
    "dots across chunks": (b"." * 65_535 + b"\r\n") * 3,
    "a long line": b"x" * 1_000_000 + b"\r\n",
    "a long line of dots": b"." * 1_000_000 + b"\r\n",
    "spaces at line ends": HEADER + b"a \t \r\n \r\n",
    "From": HEADER + b"From here\r\n>From there\r\n>>From\r\n\r\nFrom \r\n",
    "around what a row holds": HEADER + b"y" * (65_536 - len(HEADER) - 2) + b"\r\n",
    "one octet more": HEADER + b"y" * (65_537 - len(HEADER) - 2) + b"\r\n",
    "large": HEADER + (EVERY_OCTET * 4 + b"\r\n") * 3_000,
}
"""As DATA can carry them: whole lines, or nothing (RFC 5321 section 4.1.1.4)."""

CHUNKS = {
    **WHOLE_LINES,
    "no final line end": HEADER + b"abc",
    "a final CR": HEADER + b"abc\r",
    "a final LF": HEADER + b"abc\n",
    "one octet": b"x",
    "a dot": b".",
    "what would end DATA": HEADER + b"a\r\n.\r\nb\r\n.\r\n",
}
"""As BDAT can (RFC 3030): anything."""
