"""Commands and their replies, told from the order of a transcript."""

from __future__ import annotations

from harness.said import entries

from mtad.model.deliveries.dialogue import exchanges


def said(text: str) -> list[tuple[str, list[str]]]:
    """Return each thing that was said, with the texts of its replies."""
    return [(one.line, [reply.text for reply in one.replies]) for one in exchanges(entries(text))]


def test_one_command_at_a_time() -> None:
    transcript = """
        0 - connected: 192.0.2.1:1 to 192.0.2.2:25
        0 S 220 mx
        1 C EHLO x
        1 S 250-mx
        1 S 250-SIZE 100
        1 S 250 HELP
        2 C QUIT
        2 S 221 Bye
        2 - quit
    """
    assert said(transcript) == [
        ("(banner)", ["220 mx"]),
        ("EHLO x", ["250 mx SIZE 100 HELP"]),
        ("QUIT", ["221 Bye"]),
    ]


def test_a_group_of_commands_is_answered_in_its_order() -> None:
    transcript = """
        0 S 220 mx
        1 C MAIL FROM:<a@x>
        1 C RCPT TO:<b@x>
        1 C RCPT TO:<c@x>
        1 C DATA
        1 S 250 sender
        1 S 250 first
        1 S 450 second
        1 S 354 go
        2 C (message of 30 octets)
        3 S 250 kept
    """
    assert said(transcript)[1:] == [
        ("MAIL FROM:<a@x>", ["250 sender"]),
        ("RCPT TO:<b@x>", ["250 first"]),
        ("RCPT TO:<c@x>", ["450 second"]),
        ("DATA", ["354 go"]),
        ("(content)", ["250 kept"]),
    ]


def test_what_is_never_answered() -> None:
    transcript = """
        0 S 220 mx
        1 C MAIL FROM:<a@x>
        1 C RCPT TO:<b@x>
        1 S 250 ok
        2 - reset
    """
    assert said(transcript)[1:] == [("MAIL FROM:<a@x>", ["250 ok"]), ("RCPT TO:<b@x>", [])]


def test_what_nobody_asked_for() -> None:
    transcript = """
        0 S 220 mx
        1 C NOOP
        1 S 250 ok
        300 S 421 too long
        300 - timeout
    """
    assert said(transcript)[2:] == [("(unasked)", ["421 too long"])]


def test_a_chunk_is_part_of_its_command() -> None:
    transcript = """
        0 S 220 mx
        1 C BDAT 20
        1 C (message of 20 octets)
        1 C BDAT 7 LAST
        1 C (message of 7 octets)
        1 S 250 20 octets
        2 S 250 kept
    """
    first, last = exchanges(entries(transcript))[1:]
    assert (first.octets, first.replies[0].text, first.ends_message()) == (
        20,
        "250 20 octets",
        False,
    )
    assert (last.octets, last.replies[0].text, last.ends_message()) == (7, "250 kept", True)


def test_lmtp_answers_for_each_recipient_that_was_accepted() -> None:
    transcript = """
        0 S 220 mx
        1 C LHLO x
        1 S 250 mx
        2 C MAIL FROM:<a@x>
        2 C RCPT TO:<b@x>
        2 C RCPT TO:<c@x>
        2 C RCPT TO:<d@x>
        2 C BDAT 3 LAST
        2 C (message of 3 octets)
        2 S 250 ok
        2 S 250 ok
        2 S 550 no
        2 S 250 ok
        3 S 250 of b
        3 S 452 of d
        4 C QUIT
        4 S 221 bye
    """
    assert said(transcript)[-2:] == [
        ("BDAT 3 LAST", ["250 of b", "452 of d"]),
        ("QUIT", ["221 bye"]),
    ]


def test_what_is_no_reply_has_no_code() -> None:
    transcript = """
        0 S 220 mx
        1 C NOOP
        1 S 2
        2 C NOOP
        2 S garbage here
        3 C NOOP
        3 S 250-half of
        4 C NOOP
        4 S 999 hm
    """
    codes = [one.replies[0].code for one in exchanges(entries(transcript))]
    assert codes == [220, None, None, None, None]


def test_what_is_not_answered_on_purpose_waits_for_no_reply() -> None:
    transcript = """
        0 S 220 mx
        1 C MAIL FROM:<a@x>
        1 - rule: mx/quiet, mail: after 1 s, no reply
        9 C QUIT
        9 S 221 bye
    """
    assert said(transcript)[1:] == [("MAIL FROM:<a@x>", []), ("QUIT", ["221 bye"])]


def test_what_rules_did_is_told_of_the_command_that_they_were_asked_about() -> None:
    transcript = """
        0 - rule: a, connect: after 1 s
        1 S 220 mx
        2 C RCPT TO:<a@x>
        2 C DATA
        2 - rule: b, rcpt: 450 4.2.0 Later
        2 S 450 4.2.0 Later
        2 S 354 go
        3 - rule: c, byte 10: after 1 s
        4 C (message of 20 octets)
        4 - rule: d, kept: nothing
        4 S 250 ok
        4 - rule: e, answered: rst
    """
    acts = [[act.moment for act in one.acts] for one in exchanges(entries(transcript))]
    assert acts == [["connect"], ["rcpt"], [], ["byte 10", "kept", "answered"]]
