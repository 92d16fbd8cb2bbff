"""The lines of a run's story. Codes are worded in narrative.py, so that they can be read in either language."""

from __future__ import annotations

from django.utils import timezone

from sync.models import RunEvent

INFO, WARNING, ERROR = RunEvent.Level.INFO, RunEvent.Level.WARNING, RunEvent.Level.ERROR


def note(run_id: int, code: str, level: str = INFO, **params: object) -> None:
    """Add one line. `params` must be JSON-safe and hold no secret."""
    RunEvent.objects.create(run_id=run_id, at=timezone.now(), level=level, code=code, params=params)
