"""What the pages show is what happens: transcripts are run, links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from harness import transcripts
from harness.whole import ROOT, running

DOCUMENTS = [
    ROOT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")
]
DOCUMENTS += sorted((ROOT / "docs").glob("*.md"))


@pytest.mark.integration
@pytest.mark.root
@pytest.mark.netns
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "page", ["README.md", "docs/mail.md", "docs/faults.md", "docs/scenarios.md"]
)
def test_the_transcripts_are_what_happens(page: str) -> None:
    """Every command of them, in order, in one shell, with the output it is said to have."""
    shown = transcripts.shown(ROOT / page)
    with running() as whole:
        assert transcripts.seen(whole, [command for command, _ in shown]) == shown


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    """Every relative link of the documentation names a file that is there."""
    text = document.read_text()
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    missing = [link for link in links if not (document.parent / link).exists()]
    assert not missing
