"""The mechanisms of AUTH, driven as a session drives them."""

from __future__ import annotations

import hmac
import json
from base64 import b64decode, b64encode
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.model.profile import MECHANISMS as KNOWN
from mtad.smtp.reply import CHALLENGE_LIMIT, Refusal, Reply
from mtad.smtp.sasl import MECHANISMS, Exchange, Users, decode

USERS = Users(
    {"tim": "tanstaaftanstaaf", "jürgen": "geheim ü", "a b": "x", "token": "ya29.vF9dft4"}
)
ANYONE = Users(None)

Step = str | bytes


def base64(octets: str | bytes) -> str:
    return b64encode(octets.encode() if isinstance(octets, str) else octets).decode()


def run(
    mechanism: str, initial: Step | None, *answers: Step, users: Users = USERS
) -> tuple[list[bytes], str | tuple[int, str]]:
    """Return the challenges, and the identity or the code and status of the refusal.

    ``initial`` and the answers are encoded here.
    """
    exchange = Exchange(mechanism, users, "mx.example")
    challenges = []
    responses = list(answers)
    try:
        step = exchange.begin(None if initial is None else base64(initial) or "=")
        while isinstance(step, Reply):
            assert (step.code, step.status) == (334, "")
            challenges.append(b64decode(step.text, validate=True))
            step = exchange.respond(base64(responses.pop(0)))
    except Refusal as refusal:
        assert not responses
        return challenges, refusal.reply[:2]
    assert not responses
    return challenges, step


WRONG = (535, "5.7.8")
MALFORMED = (501, "5.5.2")


def test_every_mechanism_of_a_profile_is_there() -> None:
    assert tuple(MECHANISMS) == KNOWN


@pytest.mark.parametrize(
    ("message", "outcome"),
    [
        ("\0tim\0tanstaaftanstaaf", "tim"),
        ("tim\0tim\0tanstaaftanstaaf", "tim"),
        ("\0jürgen\0geheim ü", "jürgen"),
        ("\0a b\0x", "a b"),
        ("\0tim\0tanstaaftanstaa", WRONG),
        ("\0tim\0tanstaaftanstaaf ", WRONG),
        ("\0TIM\0tanstaaftanstaaf", WRONG),
        ("\0ursel\0tanstaaftanstaaf", WRONG),
        ("root\0tim\0tanstaaftanstaaf", WRONG),
        ("", MALFORMED),
        ("tim tanstaaftanstaaf", MALFORMED),
        ("tim\0tanstaaftanstaaf", MALFORMED),
        ("\0tim\0tanstaaftanstaaf\0", MALFORMED),
        ("\0\0tanstaaftanstaaf", MALFORMED),
        ("\0tim\0", MALFORMED),
        ("\0tim\r\nX: y\0tanstaaftanstaaf", MALFORMED),
        ("\0\x85\0tanstaaftanstaaf", MALFORMED),
        (b"\0j\xfcrgen\0geheim", MALFORMED),
        (b"\0tim\0\xff", MALFORMED),
        (b"\xff\0tim\0tanstaaftanstaaf", MALFORMED),
        (b"\0tim\0\xed\xa0\x80", MALFORMED),  # a surrogate
        (b"\0tim\0\xc0\x80", MALFORMED),  # a NUL in two octets
    ],
)
def test_plain(message: Step, outcome: str | tuple[int, str]) -> None:
    assert run("PLAIN", message) == ([], outcome)
    assert run("PLAIN", None, message) == ([b""], outcome)


@pytest.mark.parametrize(
    ("name", "password", "outcome"),
    [
        ("tim", "tanstaaftanstaaf", "tim"),
        ("jürgen", "geheim ü", "jürgen"),
        ("tim", "", WRONG),
        ("tim", "no", WRONG),
        ("ursel", "no", WRONG),
        ("tim", b"\xff", MALFORMED),
        ("tim", "a\0b", MALFORMED),
    ],
)
def test_login(name: Step, password: Step, outcome: str | tuple[int, str]) -> None:
    assert run("LOGIN", None, name, password) == ([b"Username:", b"Password:"], outcome)
    assert run("LOGIN", name, password) == ([b"Password:"], outcome)


@pytest.mark.parametrize("name", [b"", b"\xff", b"tim\0", b"tim\n"])
def test_login_is_refused_at_a_malformed_name(name: bytes) -> None:
    assert run("LOGIN", None, name) == ([b"Username:"], MALFORMED)
    assert run("LOGIN", name) == ([], MALFORMED)


def cram(name: str | bytes, password: str, users: Users = USERS, change: str = "") -> object:
    exchange = Exchange("CRAM-MD5", users, "mx.example")
    step = exchange.begin(None)
    assert isinstance(step, Reply)
    digest = hmac.new(password.encode(), b64decode(step.text), "md5").hexdigest()
    answer = (name if isinstance(name, bytes) else name.encode()) + f" {digest}".encode()
    if change == "upper":
        answer = answer.upper()
    if change == "short":
        answer = answer[:-1]
    try:
        return exchange.respond(base64(answer))
    except Refusal as refusal:
        return refusal.reply[:2]


@pytest.mark.parametrize(
    ("name", "password", "change", "outcome"),
    [
        ("tim", "tanstaaftanstaaf", "", "tim"),
        ("jürgen", "geheim ü", "", "jürgen"),
        ("a b", "x", "", "a b"),
        ("tim", "x", "", WRONG),
        ("ursel", "tanstaaftanstaaf", "", WRONG),
        ("tim", "tanstaaftanstaaf", "short", MALFORMED),
        ("tim", "tanstaaftanstaaf", "upper", MALFORMED),
        ("", "tanstaaftanstaaf", "", MALFORMED),
        (b"\xff", "tanstaaftanstaaf", "", MALFORMED),
    ],
)
def test_cram_md5(name: Step, password: str, change: str, outcome: object) -> None:
    assert cram(name, password, change=change) == outcome


def test_a_challenge_of_cram_md5_is_a_message_id_and_never_the_same() -> None:
    challenges = set()
    for _ in range(3):
        step = Exchange("CRAM-MD5", USERS, "mx.example").begin(None)
        assert isinstance(step, Reply)
        challenges.add(challenge := b64decode(step.text).decode())
        assert challenge.startswith("<")
        assert challenge.endswith("@mx.example>")
    assert len(challenges) == 3


def test_the_answer_to_one_challenge_is_none_to_another() -> None:
    first, second = (Exchange("CRAM-MD5", USERS, "mx.example") for _ in range(2))
    step = first.begin(None)
    second.begin(None)
    assert isinstance(step, Reply)
    digest = hmac.new(b"tanstaaftanstaaf", b64decode(step.text), "md5").hexdigest()
    answer = base64(f"tim {digest}")
    assert first.respond(answer) == "tim"
    with pytest.raises(Refusal, match="credentials invalid"):
        second.respond(answer)


def test_the_digest_is_that_of_rfc_2195() -> None:
    challenge = b"<1896.697170952@postoffice.reston.mci.net>"
    assert USERS.accept_digest("tim", challenge, b"b913a602c7eda7a495b4e6e7334d3890")
    assert not USERS.accept_digest("tim", challenge, b"b913a602c7eda7a495b4e6e7334d3891")


@pytest.mark.parametrize("initial", [b"", b"tim 0123"])
def test_cram_md5_has_no_initial_response(initial: bytes) -> None:
    assert run("CRAM-MD5", initial) == ([], (501, "5.7.0"))


@pytest.mark.parametrize("bearer", ["Bearer", "bearer"])
def test_xoauth2(bearer: str) -> None:
    message = f"user=token\1auth={bearer} ya29.vF9dft4\1\1"
    assert run("XOAUTH2", message) == ([], "token")
    assert run("XOAUTH2", None, message) == ([b""], "token")


@pytest.mark.parametrize("answer", ["", "\1", "anything"])
@pytest.mark.parametrize("user", ["token", "ursel"])
def test_xoauth2_tells_of_a_failure_and_waits_for_an_answer(user: str, answer: str) -> None:
    challenges, outcome = run("XOAUTH2", f"user={user}\1auth=Bearer expired\1\1", answer)
    assert outcome == WRONG
    (challenge,) = challenges
    assert json.loads(challenge) == {"status": "401", "schemes": "bearer"}


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"user=token\1auth=Bearer ya29.vF9dft4\1",
        b"user=token\1auth=Bearer ya29.vF9dft4\1\1\1",
        b"user=token auth=Bearer ya29.vF9dft4\1\1",
        b"user=\1auth=Bearer ya29.vF9dft4\1\1",
        b"user=token\1auth=Bearer \1\1",
        b"user=token\1auth=Bearer a b\1\1",
        b"user=token\1auth=Basic ya29.vF9dft4\1\1",
        b"user=\xff\1auth=Bearer ya29.vF9dft4\1\1",
        b"user=to\rken\1auth=Bearer ya29.vF9dft4\1\1",
        b"n,a=token,\1auth=Bearer ya29.vF9dft4\1\1",  # OAUTHBEARER's form
    ],
)
def test_xoauth2_malformed(message: bytes) -> None:
    assert run("XOAUTH2", message) == ([], MALFORMED)


def test_anyone_is_let_in_where_there_are_no_users_named() -> None:
    assert run("PLAIN", "\0who\0ever", users=ANYONE) == ([], "who")
    assert run("PLAIN", "boss\0who\0ever", users=ANYONE) == ([], "who")
    assert run("LOGIN", "who", "ever", users=ANYONE) == ([b"Password:"], "who")
    assert cram("who", "ever", ANYONE) == "who"
    assert run("XOAUTH2", "user=who\1auth=Bearer ever\1\1", users=ANYONE) == ([], "who")
    assert run("PLAIN", "\0\0ever", users=ANYONE) == ([], MALFORMED)


def test_nobody_is_let_in_where_there_are_none() -> None:
    assert run("PLAIN", "\0who\0ever", users=Users({})) == ([], WRONG)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_client_may_cancel(mechanism: str) -> None:
    exchange = Exchange(mechanism, USERS, "mx.example")
    assert isinstance(exchange.begin(None), Reply)
    with pytest.raises(Refusal) as raised:
        exchange.respond("*")
    assert raised.value.reply[:2] == (501, "5.7.0")


@pytest.mark.parametrize(
    "line",
    ["!", "YQ", "YQ=", "Y Q==", " YQ==", "YQ==\r", "YQ==YQ==", "=", "YQ===", "*YQ=", "é", "\udcff"],
)
def test_what_is_not_base64(line: str) -> None:
    with pytest.raises(Refusal) as raised:
        decode(line)
    assert raised.value.reply == Reply(501, "5.5.2", "Not base64")
    with pytest.raises(Refusal):
        Exchange("LOGIN", ANYONE, "mx.example").begin("*" + line)
    exchange = Exchange("LOGIN", ANYONE, "mx.example")
    exchange.begin(None)
    with pytest.raises(Refusal):
        exchange.respond(line)


def test_a_line_is_as_long_as_rfc_4954_says() -> None:
    longest = "A" * CHALLENGE_LIMIT
    assert decode(longest) == bytes(CHALLENGE_LIMIT * 3 // 4)
    with pytest.raises(Refusal) as raised:
        decode(longest + "AAAA")
    assert raised.value.reply[:2] == (500, "5.5.6")


@given(st.binary(max_size=100))
def test_decode_is_the_inverse_of_encoding(octets: bytes) -> None:
    assert decode(base64(octets)) == octets


@given(
    st.sampled_from(sorted(MECHANISMS)),
    st.lists(
        st.binary(max_size=40) | st.text(st.sampled_from("tim\0\1 =*"), max_size=30), max_size=4
    ),
)
def test_no_answer_but_the_right_one_gives_an_identity_or_a_fault(
    mechanism: str, answers: list[Step]
) -> None:
    exchange = Exchange(
        mechanism, Users({"tim": "a password that nothing drawn here can be"}), "mx.example"
    )
    with suppress(Refusal):
        step = exchange.begin(None)
        for answer in answers:
            assert isinstance(step, Reply)
            step = exchange.respond(base64(answer))
        assert isinstance(step, Reply)


def test_no_repr_and_no_exception_tells_a_password() -> None:
    secret = "correct horse"
    users = Users({"tim": secret})
    exchange = Exchange("PLAIN", users, "mx.example")
    exchange.begin(None)
    told = [repr(users), repr(exchange)]
    for message in (
        f"\0tim\0{secret}!",
        f"\0tim\0{secret}\0",
        f"\0tim\0{secret}".encode() + b"\xff",
    ):
        with pytest.raises(Refusal) as raised:
            Exchange("PLAIN", users, "mx.example").begin(base64(message))
        error: BaseException | None = raised.value
        while error is not None:
            told += [repr(error), str(error)]
            error = error.__cause__ or error.__context__
    assert not [text for text in told if "horse" in text]
