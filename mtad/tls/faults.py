"""The TLS of a fault rule: with another certificate, other versions, or clients' certificates."""

from __future__ import annotations

import ssl
from dataclasses import replace
from pathlib import Path

from mtad.errors import TlsError
from mtad.model.automatic_tls import AutomaticTls
from mtad.model.profile import ClientCertificates, KeyPair, Tls
from mtad.model.rules.values import Flawed, TlsFault
from mtad.tls.contexts import Terms, shared


def fault_context(tls: Tls, fault: TlsFault, automatic: AutomaticTls) -> ssl.SSLContext:
    """Return the context of a handshake with ``fault``, the same as last time as shared_context.

    What ``fault`` does not say is as the profile has it, whose ``tls`` is given. A ceiling that is
    below the profile's floor lowers that. ``automatic`` says where the flawed certificates are.
    Client certificates are vouched for by the profile's client_ca, or else by nobody: a client that
    shows one is refused, asked or required.

    Raises:
        TlsError: there is no such certificate yet, or as server_context.
    """
    highest = fault.maximum_version
    lowest = fault.minimum_version or tls.minimum_version
    faulty = replace(
        tls,
        minimum_version=min(lowest, highest) if highest else lowest,
        client_certificates=ClientCertificates(
            fault.client_certificates or tls.client_certificates
        ),
    )
    if fault.certificate is not None:
        faulty = replace(faulty, key_pairs=(_flawed(fault.certificate, automatic),))
    return shared(Terms(faulty, highest, fault.certificate is Flawed.WEAK_KEY))


def _flawed(flaw: Flawed, automatic: AutomaticTls) -> KeyPair:
    pair = automatic.flawed_key_pair(flaw)
    if not Path(pair.certificate).exists():
        raise TlsError(
            f"there is no {pair.certificate}, a certificate with a flaw",
            help="mtactl config reload makes it, and a new test CA (mtactl tls ca)",
        )
    return pair
