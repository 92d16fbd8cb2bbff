"""Mails to people whose phone is kept out."""

from __future__ import annotations

import uuid

from django.db import models
from django.utils.translation import gettext_lazy as _


class Notification(models.Model):
    """One mail about one denial of one device. Written in the transaction that records the intent to deny, sent before
    the denying cmdlet where it can be, and never twice for one denial (`denial` tells which)."""

    class State(models.TextChoices):
        QUEUED = "queued", _("Queued")
        SENDING = "sending", _("Being sent")
        SENT = "sent", _("Sent")
        FAILED = "failed", _("Failed")
        UNKNOWN = "unknown", _("May have been sent")
        SUPPRESSED = "suppressed", _("Not sent")

    OPEN = (State.QUEUED, State.SENDING, State.UNKNOWN)

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    organization = models.ForeignKey(
        "connectors.ExchangeOrganization", on_delete=models.CASCADE, related_name="notifications"
    )
    device = models.ForeignKey("sync.MobileDevice", on_delete=models.CASCADE, related_name="notifications")
    run = models.ForeignKey("sync.SyncRun", null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    # "<device pk>:<number of the denial>": a denial that ended and came again is another one.
    denial = models.CharField(max_length=64, unique=True)
    recipient = models.CharField(max_length=320)
    language = models.CharField(max_length=10)
    reason = models.CharField(max_length=32)
    # The mail's own Message-ID, by which a copy in Sent Items is found after an unknown outcome.
    message_id = models.CharField(max_length=190)
    state = models.CharField(max_length=12, choices=State.choices, default=State.QUEUED)
    # Why it was not sent: repeated (again within the days), off, noAddress, notNeeded.
    suppressed_because = models.CharField(max_length=24, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    made_at = models.DateTimeField()
    next_attempt_at = models.DateTimeField(null=True, blank=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    error_code = models.CharField(max_length=64, blank=True)
    error_params = models.JSONField(default=dict, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["state", "next_attempt_at"], name="notification_due"),
            models.Index(fields=["device", "-made_at"], name="notification_of_device"),
            models.Index(fields=["organization", "-made_at"], name="notification_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.recipient} {self.state}"
