"""Who is inside a listener's networks."""

from __future__ import annotations

import pytest

from mtad.smtp.networks import Networks

NETWORKS = Networks(("192.0.2.0/24", "198.51.100.7", "2001:db8::/32"))


@pytest.mark.parametrize(
    ("host", "inside"),
    [
        ("192.0.2.0", True),
        ("192.0.2.255", True),
        ("192.0.3.0", False),
        ("198.51.100.7", True),
        ("198.51.100.8", False),
        ("2001:db8:ffff::1", True),
        ("2001:db9::1", False),
        ("2001:db8::1%eth0", True),
        ("::ffff:192.0.2.9", True),
        ("::ffff:192.0.3.9", False),
        ("::192.0.2.9", False),
        (None, False),
    ],
)
def test_inside(host: str | None, *, inside: bool) -> None:
    assert (host in NETWORKS) is inside


def test_none_is_empty_and_holds_nobody() -> None:
    nobody = Networks(())
    assert not nobody
    assert "127.0.0.1" not in nobody
    assert None not in nobody


def test_unix_clients_are_inside_where_it_is_said() -> None:
    local = Networks(("unix",))
    assert local
    assert None in local
    assert "127.0.0.1" not in local


def test_an_ipv4_client_of_a_socket_for_both_is_not_in_an_ipv6_network() -> None:
    everyone = Networks(("::/0",))
    assert "2001:db8::1" in everyone
    assert "::ffff:192.0.2.1" not in everyone


@pytest.mark.parametrize("text", ["", "mx.example", "192.0.2.1/24", "192.0.2.0/33", "*"])
def test_what_is_no_network(text: str) -> None:
    with pytest.raises(ValueError, match=r"does not appear|has host bits"):
        Networks((text,))
