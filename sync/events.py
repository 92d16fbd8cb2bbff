"""The lines of a run's story. Codes are worded in narrative.py, so that they can be read in either language."""

from __future__ import annotations

import math
import re
from typing import Any

from django.db.models.functions import Now

from sync.models import RunEvent

INFO, WARNING, ERROR = RunEvent.Level.INFO, RunEvent.Level.WARNING, RunEvent.Level.ERROR

# What Exchange, a proxy or a phone may send, and PostgreSQL takes in no JSON: NUL, and halves of surrogate pairs.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def note(run_id: int, code: str, level: str = INFO, **params: object) -> None:
    """Add one line. `params` hold no secret; what no database can store in them is replaced."""
    RunEvent.objects.create(run_id=run_id, at=Now(), level=level, code=code, params=storable(params))


def storable(value: Any) -> Any:
    """`value` as every database can keep it as JSON. What is no JSON at all becomes its text."""
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, dict):
        return {storable(str(key)): storable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [storable(inner) for inner in value]
    return storable(str(value))
