"""The Celery application: `celery -A console worker`, `celery -A console beat`."""

from __future__ import annotations

import gc
import os
from typing import Any

from celery import Celery
from celery.signals import worker_process_init

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")

app = Celery("gatehouse")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_process_init.connect
def _settle(**_: Any) -> None:
    """What is loaded by now stays for ever: the collector need not walk it again in the middle of each sync."""
    gc.collect()
    gc.freeze()
