"""What every mapping of options in the configuration has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Stanza(BaseModel):
    """A mapping of known options; its errors do not hold what stood in the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)
