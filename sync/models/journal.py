"""What was done to Exchange: the journal of commands, what is ours there, what waits for approval, what drifted, and
the story of each device."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _


class Command(models.Model):
    """One cmdlet that changes Exchange: written before it is sent, its outcome after. Never deleted, but for what dry
    runs wrote down that are not kept any more (dry_runs.py).

    PLANNED: written, not sent. SENT: handed to the wire; what became of it is not known until it is written. UNKNOWN:
    it was sent and no answer came; taken up by reading the object, then DONE or FAILED. A row in one of these three
    states is also the lock on its subject: nobody else may send anything about it. DONE, FAILED, SKIPPED (it was so
    already, or is no longer wanted), CANCELED (never sent) and OBSERVED (never sent: dry run) are final.
    """

    class Kind(models.TextChoices):
        MAILBOX_ENTRIES = "mailboxEntries", _("Personal entries")
        SETTINGS = "settings", _("Organization settings")
        RULE_CREATE = "ruleCreate", _("New device access rule")
        RULE_SET = "ruleSet", _("Change of a device access rule")
        RULE_REMOVE = "ruleRemove", _("Removal of a device access rule")
        POLICY_CREATE = "policyCreate", _("New mailbox policy")
        POLICY_SET = "policySet", _("Change of a mailbox policy")
        POLICY_REMOVE = "policyRemove", _("Removal of a mailbox policy")
        POLICY_ASSIGN = "policyAssign", _("Assignment of a mailbox policy")
        WIPE = "wipe", _("Wipe")
        WIPE_ACCOUNT = "wipeAccount", _("Account-only wipe")
        WIPE_CANCEL = "wipeCancel", _("Cancellation of a wipe")
        REMOVE_DEVICE = "removeDevice", _("Removal of a partnership")

    class State(models.TextChoices):
        PLANNED = "planned", _("Planned")
        SENT = "sent", _("Sent")
        UNKNOWN = "unknown", _("Outcome unknown")
        DONE = "done", _("Done")
        FAILED = "failed", _("Failed")
        SKIPPED = "skipped", _("Not needed any more")
        CANCELED = "canceled", _("Canceled")
        OBSERVED = "observed", _("Not sent (dry run)")

    OPEN = (State.PLANNED, State.SENT, State.UNKNOWN)

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    organization = models.ForeignKey(
        "connectors.ExchangeOrganization", on_delete=models.CASCADE, related_name="commands"
    )
    run = models.ForeignKey("sync.SyncRun", null=True, blank=True, on_delete=models.SET_NULL, related_name="commands")
    mailbox = models.ForeignKey(
        "sync.Mailbox", null=True, blank=True, on_delete=models.SET_NULL, related_name="commands"
    )
    device = models.ForeignKey(
        "sync.MobileDevice", null=True, blank=True, on_delete=models.SET_NULL, related_name="+",
        help_text="Of a wipe or removal.",
    )  # fmt: skip
    kind = models.CharField(max_length=20, choices=Kind.choices)
    state = models.CharField(max_length=10, choices=State.choices, default=State.PLANNED)
    # What is locked while the row is open: "mailbox:<pk>", "settings", "device:<pk>", ...
    subject = models.CharField(max_length=80)
    # A person's destructive act carries a key of its own: asked for twice, it is one.
    key = models.CharField(max_length=80, null=True, blank=True, unique=True)
    payload = models.JSONField(help_text="The command as plan.py or a service made it.")
    text = models.TextField(help_text="Its PowerShell text, for people.")
    denies = models.PositiveIntegerField(default=0, help_text="Devices that newly lose mail by it.")
    allows = models.PositiveIntegerField(default=0)
    because = models.CharField(max_length=64, blank=True)
    actor_name = models.CharField(max_length=200)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )

    planned_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    # The worker that holds the row; over when the lease is, and then recovery reads the object and ends the row.
    owner = models.CharField(max_length=255, blank=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    server = models.CharField(max_length=255, blank=True)
    domain_controller = models.CharField(
        max_length=255, blank=True, help_text="Where it was written and read back; empty: where Exchange chose."
    )
    error_code = models.CharField(max_length=64, blank=True)
    error_params = models.JSONField(default=dict, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "subject"],
                condition=Q(state__in=["planned", "sent", "unknown"]),
                name="one_open_command_a_subject",
            ),
        ]
        indexes = [
            models.Index(fields=["organization", "-planned_at"], name="command_newest"),
            models.Index(fields=["mailbox", "-planned_at"], name="command_of_mailbox"),
            models.Index(fields=["run", "id"], name="command_of_run"),
            models.Index(
                fields=["lease_expires_at"], condition=Q(state__in=["planned", "sent", "unknown"]), name="command_open"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.state}"


class LedgerEntry(models.Model):
    """A personal entry that Gatehouse wrote. Made before the cmdlet is sent, ended when a reading shows that it is not
    there (any more)."""

    mailbox = models.ForeignKey("sync.Mailbox", on_delete=models.CASCADE, related_name="ledger")
    listed = models.CharField(max_length=8)  # EntryChoice.Listed
    device_id = models.CharField(max_length=255, help_text="As it was sent.")
    device_id_key = models.CharField(max_length=255)
    command = models.ForeignKey(Command, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    made_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["mailbox", "listed", "device_id_key"], name="one_ledger_entry"),
        ]

    def __str__(self) -> str:
        return f"{self.listed} {self.device_id}"


class OrganizationLedger(models.Model):
    """What Gatehouse last enforced in an organization. rules: [[characteristic, query, level], ...] that are ours;
    settings: facts.ExchangeSettings as JSON, null when never."""

    organization = models.OneToOneField(
        "connectors.ExchangeOrganization", primary_key=True, on_delete=models.CASCADE, related_name="ledger"
    )
    rules = models.JSONField(default=list)
    settings = models.JSONField(null=True, blank=True)
    enforced_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return str(self.organization_id)


class Approval(models.Model):
    """Denials that a run held back because they are many. At most one an organization waits; a newer run renews it."""

    class State(models.TextChoices):
        WAITING = "waiting", _("Waiting for approval")
        APPROVED = "approved", _("Approved")
        REJECTED = "rejected", _("Rejected")
        SUPERSEDED = "superseded", _("No longer needed")

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    organization = models.ForeignKey(
        "connectors.ExchangeOrganization", on_delete=models.CASCADE, related_name="approvals"
    )
    run = models.ForeignKey("sync.SyncRun", null=True, blank=True, on_delete=models.SET_NULL, related_name="approvals")
    state = models.CharField(max_length=12, choices=State.choices, default=State.WAITING)
    made_at = models.DateTimeField()
    renewed_at = models.DateTimeField()
    devices_total = models.PositiveIntegerField()
    limit_devices = models.PositiveIntegerField()
    limit_percent = models.FloatField()
    limit_at_most = models.PositiveIntegerField(null=True, blank=True)
    # Settings and rules among what is held, as PowerShell text.
    settings_held = models.JSONField(default=list, blank=True)
    # "Raise for this time": more denials than these may go with the next run, until then.
    raised_to = models.PositiveIntegerField(null=True, blank=True)
    raised_until = models.DateTimeField(null=True, blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    decided_by_name = models.CharField(max_length=200, blank=True)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    note = models.TextField(blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization"], condition=Q(state="waiting"), name="one_waiting_approval_an_organization"
            ),
        ]
        indexes = [models.Index(fields=["organization", "-made_at"], name="approval_newest")]

    def __str__(self) -> str:
        return f"{self.state} {self.public_id}"


class HeldDenial(models.Model):
    """One device whose denial waits, was approved, or was rejected. An approval holds for the same verdict only."""

    approval = models.ForeignKey(Approval, on_delete=models.CASCADE, related_name="denials", db_index=False)
    device = models.ForeignKey("sync.MobileDevice", on_delete=models.CASCADE, related_name="held_denials")
    access = models.CharField(max_length=16)
    reason = models.CharField(max_length=32)
    rule = models.CharField(max_length=32)
    # Null until decided for this one; an approval may leave some out.
    is_approved = models.BooleanField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["approval", "device"], name="one_denial_a_device")]

    def __str__(self) -> str:
        return f"{self.device_id} {self.rule}"


class Drift(models.Model):
    """Something in Exchange that is not as Gatehouse left or wants it, and that somebody else must have done."""

    class Kind(models.TextChoices):
        FOREIGN_ALLOW = "foreignAllow", _("Allowed by somebody else")
        FOREIGN_BLOCK = "foreignBlock", _("Blocked by somebody else")
        SETTING_CHANGED = "settingChanged", _("Setting changed")
        RULE_CHANGED = "ruleChanged", _("Rule changed")
        RULE_REMOVED = "ruleRemoved", _("Rule removed")
        RULE_ADDED = "ruleAdded", _("Rule added")
        ENTRY_VANISHED = "entryVanished", _("Entry of ours removed")

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    organization = models.ForeignKey("connectors.ExchangeOrganization", on_delete=models.CASCADE, related_name="drifts")
    kind = models.CharField(max_length=16, choices=Kind.choices)
    # What tells one drift from another: device id and list, setting's name, rule's key.
    subject = models.CharField(max_length=600)
    mailbox = models.ForeignKey("sync.Mailbox", null=True, blank=True, on_delete=models.CASCADE, related_name="drifts")
    device = models.ForeignKey(
        "sync.MobileDevice", null=True, blank=True, on_delete=models.CASCADE, related_name="drifts"
    )
    device_id_key = models.CharField(max_length=255, blank=True)
    expected = models.TextField(blank=True)
    found = models.TextField(blank=True)
    is_alarm = models.BooleanField(default=False, help_text="It lets in, or keeps out, against the verdict.")
    first_seen_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    ended_because = models.CharField(max_length=32, blank=True, help_text="gone, adopted, overridden, enforced.")
    ended_by_name = models.CharField(max_length=200, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "kind", "subject", "mailbox"],
                condition=Q(ended_at=None, mailbox__isnull=False),
                name="one_open_drift_a_mailbox",
            ),
            models.UniqueConstraint(
                fields=["organization", "kind", "subject"],
                condition=Q(ended_at=None, mailbox=None),
                name="one_open_drift_a_setting",
            ),
        ]
        indexes = [models.Index(fields=["organization", "ended_at"], name="drift_open")]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}"


class DeviceEvent(models.Model):
    """One line of a device's story. Codes are worded in sync/showing/device_story.py. Append-only."""

    device = models.ForeignKey("sync.MobileDevice", on_delete=models.CASCADE, related_name="events", db_index=False)
    at = models.DateTimeField()
    code = models.CharField(max_length=64)
    params = models.JSONField(default=dict, blank=True)
    actor_name = models.CharField(max_length=200, blank=True)
    run = models.ForeignKey("sync.SyncRun", null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    command = models.ForeignKey(Command, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")

    class Meta:
        indexes = [models.Index(fields=["device", "-id"], name="event_of_device")]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.code}"
