"""What triage found out, as the record keeps it between the steps: research starts from here, also after a restart."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from churn_radar.research.brief import AttributesSource
from churn_radar.triage.account import Account


class Triaged(BaseModel):
    """The result of enrich and triage for one signal."""

    model_config = ConfigDict(frozen=True)

    account: Account | None = None
    persona: str | None = None
    attributes_source: AttributesSource = AttributesSource.NONE
    attributes_seen_at: datetime | None = None

    def as_record(self) -> dict[str, Any]:
        """Plain JSON values for the record."""
        return self.model_dump(mode="json")
