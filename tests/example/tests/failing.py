"""A test that fails, to show what the report says then."""

from __future__ import annotations

from shop import Shop

from mtad.testing import Mtad


def test_that_fails(shop: Shop, mtad: Mtad) -> None:
    shop.sign_up("ann@example.com")
    mtad.wait_for("to:bob@example.com", timeout=0.5)
