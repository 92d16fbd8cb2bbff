"""Sync runs: who asked, what happened, and the lease that makes sure one worker at a time does it."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _


class SyncRun(models.Model):
    """One run of a quick or full sync of one connector; the truth about it, whatever the queue says.

    At most one run a connector is queued or running (a database constraint). While running it is leased to one
    worker: `fence` is that lease's number, `lease_expires_at` its end unless a heartbeat renews it.
    """

    class Kind(models.TextChoices):
        QUICK = "deltaSync", _("Quick sync")
        FULL = "fullSync", _("Full sync")
        # Decides and acts on what is known, without listing devices: after an approval, or a change of policy.
        APPLY = "apply", _("Apply policy")
        # Asks each mailbox when its phones last synchronized. Decides nothing, sends nothing that changes anything, is
        # never started by itself, and makes way for every other kind.
        STATISTICS = "statistics", _("Device statistics")

    class Trigger(models.TextChoices):
        BUTTON = "button", _("Button")
        SCHEDULE = "schedule", _("Schedule")
        API = "api", _("API")
        COMMAND = "command", _("Command line")
        SETUP = "setup", _("First sync")
        POLICY = "policy", _("Policy change")
        APPROVAL = "approval", _("Approval")

    class Status(models.TextChoices):
        QUEUED = "queued", _("Queued")
        RUNNING = "running", _("Running")
        SUCCEEDED = "succeeded", _("Successful")
        FAILED = "failed", _("Failed")
        CANCELED = "canceled", _("Canceled")
        INTERRUPTED = "interrupted", _("Interrupted")
        # Of a reading of statistics alone: another run was wanted, and the rest is read after it.
        MADE_WAY = "madeWay", _("Made way")

    class Phase(models.TextChoices):
        WAITING = "waiting", _("Waiting for a worker")
        CONNECTING = "connecting", _("Connecting to Exchange")
        ORGANIZATION = "organization", _("Reading servers and settings")
        DEVICES = "devices", _("Reading devices")
        SWEEPING = "sweeping", _("Marking devices that are gone")
        RECORDS = "records", _("Reading device records")
        MAILBOXES = "mailboxes", _("Reading mailboxes")
        DECIDING = "deciding", _("Deciding access")
        ACTING = "acting", _("Telling Exchange")
        STATISTICS = "statistics", _("Reading device statistics")
        FINISHED = "finished", _("Finished")

    ACTIVE = (Status.QUEUED, Status.RUNNING)
    ENDED = (Status.SUCCEEDED, Status.FAILED, Status.CANCELED, Status.INTERRUPTED, Status.MADE_WAY)

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    connector = models.ForeignKey("connectors.Connector", on_delete=models.CASCADE, related_name="runs")
    kind = models.CharField(max_length=16, choices=Kind.choices)
    trigger = models.CharField(max_length=16, choices=Trigger.choices)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    requested_by_name = models.CharField(max_length=200, blank=True, help_text="Kept when the account is deleted.")

    status = models.CharField(max_length=16, choices=Status.choices, default=Status.QUEUED)
    phase = models.CharField(max_length=16, choices=Phase.choices, default=Phase.WAITING)
    queued_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    dispatched_at = models.DateTimeField(null=True, blank=True, help_text="When the queue was last told of it.")

    # The lease.
    attempt = models.PositiveSmallIntegerField(default=0)
    fence = models.BigIntegerField(default=0)
    lease_owner = models.CharField(max_length=255, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    cancel_requested_by_name = models.CharField(max_length=200, blank=True)
    # Nothing is sent to Exchange that changes anything; what would have been sent is journaled as observed.
    is_dry_run = models.BooleanField(default=False)
    # A full sync asked for while this quick one ran: {"trigger", "name", "user_id"}, started when this ends.
    then_full = models.JSONField(null=True, blank=True)

    # What it did. Device counts are of this attempt.
    exchange_server = models.CharField(max_length=255, blank=True)
    connector_server = models.CharField(max_length=255, blank=True)
    expected = models.PositiveIntegerField(
        null=True, blank=True, help_text="Devices known before it began; for the bar."
    )
    devices_started_at = models.DateTimeField(null=True, blank=True, help_text="For the rate; set anew on a retry.")
    observed = models.PositiveIntegerField(default=0)
    created = models.PositiveIntegerField(default=0)
    changed = models.PositiveIntegerField(default=0)
    unchanged = models.PositiveIntegerField(default=0)
    gone = models.PositiveIntegerField(default=0)
    rejected = models.PositiveIntegerField(default=0, help_text="Objects that could not be read; each has an event.")
    throttled_seconds = models.FloatField(default=0.0)
    # Deciding and acting. to_allow, to_deny: devices whose access the plan changes; held: denials that wait.
    decided = models.PositiveIntegerField(default=0)
    to_allow = models.PositiveIntegerField(default=0)
    to_deny = models.PositiveIntegerField(default=0)
    held = models.PositiveIntegerField(default=0)
    commands_planned = models.PositiveIntegerField(default=0)
    commands_done = models.PositiveIntegerField(default=0)
    commands_failed = models.PositiveIntegerField(default=0)
    # A code of connectors.problems and the values its sentence names; never text of a library.
    error_code = models.CharField(max_length=64, blank=True)
    error_params = models.JSONField(default=dict, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["connector"], condition=Q(status__in=["queued", "running"]), name="one_active_run_a_connector"
            ),
        ]
        indexes = [
            models.Index(fields=["connector", "-queued_at"], name="run_newest_first"),
            models.Index(fields=["status", "lease_expires_at"], name="run_lease"),
            # What recovery looks for every few seconds: almost always none.
            models.Index(fields=["connector"], condition=Q(then_full__isnull=False), name="run_promise"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.public_id} {self.status}"

    @property
    def is_active(self) -> bool:
        return self.status in self.ACTIVE


class RunEvent(models.Model):
    """One line of a run's story: a phase begun, a server that did not answer, an object that could not be read."""

    class Level(models.TextChoices):
        INFO = "info", _("Information")
        WARNING = "warning", _("Warning")
        ERROR = "error", _("Error")

    run = models.ForeignKey(SyncRun, on_delete=models.CASCADE, related_name="events")
    at = models.DateTimeField()
    level = models.CharField(max_length=8, choices=Level.choices, default=Level.INFO)
    # A code that sync.narrative turns into a sentence with these values, so that it can be read in either language.
    code = models.CharField(max_length=64)
    params = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["run", "id"], name="event_of_run")]

    def __str__(self) -> str:
        return f"{self.at:%H:%M:%S} {self.code}"
