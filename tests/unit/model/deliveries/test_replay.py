"""The rules that have a session answered again as it was."""

from __future__ import annotations

import pytest
from harness.said import entries

from mtad.config.rules.text import as_file, in_line, load_rules
from mtad.model.deliveries.dialogue import exchanges
from mtad.model.deliveries.replay import replay


def played(text: str, *, was_refused: bool = False) -> list[str]:
    """Return the rules, each in a line; what they are made of can be read again."""
    rules = replay(exchanges(entries(text)), was_refused=was_refused)
    if rules:
        again = load_rules(as_file(rules), "x").values()
        assert [rule.do for rule in again] == [rule.do for rule in rules]
    return [f"{rule.name}: {in_line(rule)}" for rule in rules]


def test_each_reply_in_its_order() -> None:
    transcript = """
        0 S 220 mx
        1 C EHLO x
        1 S 250-mx
        1 S 250-SIZE 100
        1 S 250 HELP
        2 C MAIL FROM:<a@x>
        2 C RCPT TO:<b@x>
        2 C RCPT TO:<c@x>
        2 C RCPT TO:<d@x>
        2 C DATA
        2 S 250 2.1.0 ok
        2 S 250 2.1.5 ok
        2 S 250 2.1.5 ok
        2 - rule: x, rcpt: 450 4.2.0 Later
        2 S 450 4.2.0 Later
        2 S 354 go
        3 C (message of 30 octets)
        3 S 250 2.0.0 kept
        4 C QUIT
        4 S 221 2.0.0 bye
    """
    assert played(transcript) == [
        "01-banner: {at: banner, when: {first: 1}, do: {reply: 220 mx}}",
        "02-ehlo: {at: ehlo, when: {first: 1}, do: {reply: [250 mx, 250 SIZE 100, 250 HELP]}}",
        "03-mail: {at: mail, when: {first: 1}, do: {reply: 250 2.1.0 ok}}",
        "04-rcpt: {at: rcpt, when: {first: 2}, do: {reply: 250 2.1.5 ok}}",
        "05-rcpt: {at: rcpt, when: {first: 1}, do: {reply: 450 4.2.0 Later}}",
        "06-data: {at: data, when: {first: 1}, do: {reply: 354 go}}",
        "07-message: {at: message, when: {first: 1}, do: {reply: 250 2.0.0 kept}}",
        "08-quit: {at: quit, when: {first: 1}, do: {reply: 221 2.0.0 bye}}",
    ]


def test_what_took_its_time() -> None:
    transcript = """
        2.5 S 220 mx
        3 C MAIL FROM:<a@x>
        3 C RCPT TO:<b@x>
        3 C NOOP
        3.05 S 250 ok
        4.05 S 250 ok
        4.06 S 250 ok
    """
    assert played(transcript) == [
        "01-banner: {at: banner, when: {first: 1}, do: {reply: 220 mx, delay: 2.5}}",
        "02-mail: {at: mail, when: {first: 1}, do: {reply: 250 ok}}",
        "03-rcpt: {at: rcpt, when: {first: 1}, do: {reply: 250 ok, delay: 1}}",
        "04-noop: {at: noop, when: {first: 1}, do: {reply: 250 ok}}",
    ]


def test_what_the_server_refuses_by_itself_it_refuses_again() -> None:
    transcript = """
        0 S 220 mx
        1 C RCPT TO:<b@x>
        1 S 503 MAIL first
        2 C HUH
        2 S 500 what
        3 C AUTH PLAIN
        3 S 334
        3 C ***
        3 S 235 ok
    """
    assert played(transcript) == [
        "01-banner: {at: banner, when: {first: 1}, do: {reply: 220 mx}}",
        "02-auth: {at: auth, when: {first: 1}, do: {reply: 235 ok}}",
    ]


ENDS = {
    "at once": (
        "0 - rule: x, connect: rst\n0 - broken off by a rule: rst",
        ["01-connect: {at: connect, when: {first: 1}, do: {close: rst}}"],
    ),
    "behind a reply": (
        "0 S 220 mx\n1 C NOOP\n1 - rule: x, noop: 421 no, then fin\n1 S 421 no",
        ["02-noop: {at: noop, when: {first: 1}, do: {reply: 421 no, close: fin}}"],
    ),
    "silently": (
        "0 S 220 mx\n1 C NOOP\n1 - rule: x, noop: after 1.5 s, silent, then half",
        ["02-noop: {at: noop, when: {first: 1}, do: {delay: 1.5, silent: true, close: half}}"],
    ),
    "in the content": (
        "0 S 220 mx\n1 C DATA\n1 S 354 go\n2 - rule: x, byte 20: fin\n2 C (message of 25 octets)",
        [
            "02-data: {at: data, when: {first: 1}, do: {reply: 354 go}}",
            "03-byte-20: {at: byte 20, when: {first: 1}, do: {close: fin}}",
        ],
    ),
    "kept, and not told": (
        "0 S 220 mx\n1 C (message of 25 octets)\n1 - rule: x, kept: rst",
        ["02-kept: {at: kept, when: {first: 1}, do: {close: rst}}"],
    ),
    "told": (
        "0 S 220 mx\n1 C (message of 25 octets)\n1 S 250 kept\n1 - rule: x, answered: rst",
        [
            "02-message: {at: message, when: {first: 1}, do: {reply: 250 kept}}",
            "03-answered: {at: answered, when: {first: 1}, do: {close: rst}}",
        ],
    ),
    "slow in the content": (
        (
            "0 S 220 mx\n1 C DATA\n1 S 354 go\n2 - rule: x, line 2: after 0.5 s\n"
            "3 C (message of 9 octets)\n3 S 250 kept"
        ),
        [
            "02-data: {at: data, when: {first: 1}, do: {reply: 354 go}}",
            "03-line-2: {at: line 2, when: {first: 1}, do: {delay: 0.5}}",
            "04-message: {at: message, when: {first: 1}, do: {reply: 250 kept}}",
        ],
    ),
    "slow before the banner": (
        "1 - rule: x, connect: after 1 s\n1 S 220 mx",
        ["01-connect: {at: connect, when: {first: 1}, do: {delay: 1}}"],
    ),
    "not answered": (
        "0 S 220 mx\n1 C NOOP\n1 - rule: x, noop: no reply",
        ["02-noop: {at: noop, when: {first: 1}, do: {reply: none}}"],
    ),
    "answered before its end": (
        (
            "0 S 220 mx\n1 C DATA\n1 S 354 go\n2 - rule: x, line 2: 552 big\n2 S 552 big\n"
            "3 C (message of 9 octets)"
        ),
        [
            "02-data: {at: data, when: {first: 1}, do: {reply: 354 go}}",
            "03-line-2: {at: line 2, when: {first: 1}, do: {reply: 552 big}}",
        ],
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_how_it_ended(name: str) -> None:
    text, expected = ENDS[name]
    assert [line for line in played(text) if "at: banner" not in line] == expected


def test_what_was_waited_for_is_not_waited_for_twice() -> None:
    assert played("0 - rule: x, connect: after 1 s\n1 S 220 mx")[1:] == [
        "02-banner: {at: banner, when: {first: 1}, do: {reply: 220 mx}}"
    ]


def test_a_client_that_was_sent_away() -> None:
    text = "0 S 421 4.7.0 Too many\n0 - refused"
    assert played(text, was_refused=True) == [
        "01-banner: {at: banner, when: {first: 1}, do: {reply: 421 4.7.0 Too many, close: fin}}"
    ]
    assert played(text) == []


RAW = {
    "8-bit": (r"250 \\xfc", r'"250 \xFC\r\n"'),
    "control": (r"250 a\x1bb", r'"250 a\eb\r\n"'),
    "backslash": (r"250 a\\b", r'"250 a\\b\r\n"'),
    "not a code": ("hello", r'"hello\r\n"'),
    "a code alone": ("250", r'"250\r\n"'),
    "long": ("250 " + "x" * 600, f'"250 {"x" * 600}\\r\\n"'),
    "half a status": ("250-2.0.0 a\n1 S 250 b", r'"250-2.0.0 a\r\n250 b\r\n"'),
    "two": ("250 a\n1 S 250 b", r'"250 a\r\n250 b\r\n"'),
}


@pytest.mark.parametrize("name", RAW)
def test_what_is_no_reply(name: str) -> None:
    said, raw = RAW[name]
    text = f"0 S 220 mx\n1 C NOOP\n1 - rule: x, noop: 9 raw octets\n1 S {said}"
    assert played(text)[1] == f"02-noop: {{at: noop, when: {{first: 1}}, do: {{raw: {raw}}}}}"


def test_chunks() -> None:
    """A rule for chunks is asked about the last one, too: one that does nothing answers."""
    transcript = """
        0 S 220 mx
        1 C BDAT 3
        1 C (message of 3 octets)
        1 S 250 first
        1 C BDAT 3 LAST
        1 C (message of 3 octets)
        1 S 250 kept
        2 C BDAT 3
        2 C (message of 3 octets)
        2 S 250 second
    """
    assert played(transcript)[1:] == [
        "02-bdat: {at: bdat, when: {first: 1}, do: {reply: 250 first}}",
        "03-bdat: {at: bdat, when: {first: 1}, do: {}}",
        "04-message: {at: message, when: {first: 1}, do: {reply: 250 kept}}",
        "05-bdat: {at: bdat, when: {first: 1}, do: {reply: 250 second}}",
    ]


def test_lmtp() -> None:
    transcript = """
        0 S 220 mx
        1 C LHLO x
        1 S 250 mx
        2 C RCPT TO:<b@x>
        2 C RCPT TO:<c@x>
        2 S 250 ok
        2 S 250 ok
        3 C (message of 9 octets)
        3 - rule: x, message: 452 full
        3 - rule: y, message: nothing
        3 S 452 full
        3 S 250 kept
    """
    assert played(transcript)[3:] == [
        "04-message: {at: message, when: {first: 1}, do: {reply: 452 full}}",
        "05-message: {at: message, when: {first: 1}, do: {reply: 250 kept}}",
    ]
