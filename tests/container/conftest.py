"""The image of the Containerfile, built once for all tests of a run."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from harness import debian, podman


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The id of the image; skips where containers cannot work."""
    if reason := debian.lacking("podman", "runc", "buildah", "debootstrap"):
        pytest.skip(f"containers: {reason}")
    if sys.version_info[:2] != podman.BASE_PYTHON:
        pytest.skip("containers: the wheels must be made by the Python of Debian 12, 3.11")
    identity = podman.build_image(tmp_path_factory.mktemp("image"))
    yield identity
    podman.podman("rmi", "--force", identity)
