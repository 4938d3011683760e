"""Where the files of ``tls: auto`` are: a test CA's certificate, and what it has signed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mtad.model.profile import KeyPair
from mtad.model.rules.values import Flawed


@dataclass(frozen=True, slots=True)
class AutomaticTls:
    """The files below a store's ``directory``. There is none of the CA's private key."""

    directory: Path

    @classmethod
    def of_store(cls, directory: Path) -> AutomaticTls:
        """Return those of the store in ``directory``."""
        return cls(directory / "tls")

    @property
    def ca(self) -> Path:
        """The CA's certificate, for the senders' trust stores."""
        return self.directory / "ca.pem"

    @property
    def certificate(self) -> Path:
        """The server's certificate."""
        return self.directory / "server.pem"

    @property
    def key(self) -> Path:
        """The server's private key."""
        return self.directory / "server.key"

    @property
    def key_pair(self) -> KeyPair:
        """What a profile with ``tls: auto`` has."""
        return KeyPair(str(self.certificate), str(self.key))

    def flawed(self, flaw: Flawed) -> Path:
        """Return the file with a certificate that has ``flaw``, and its private key."""
        return self.directory / f"{flaw}.pem"

    def flawed_key_pair(self, flaw: Flawed) -> KeyPair:
        """Return what a rule with ``certificate: flaw`` has."""
        file = str(self.flawed(flaw))
        return KeyPair(file, file)
