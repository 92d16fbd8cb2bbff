"""What dry runs found, as it was then: verdicts, and the commands that were not sent."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class DryRun(models.Model):
    """What a run came to that sent nothing: one that was asked for so, or of a connector that only observes.

    Kept of the newest few of an organization; of the others only this row, with `pruned_at`. settings: PowerShell texts
    about settings and rules that were not sent; settings_held: those that would wait for approval besides. withheld:
    codes of why nobody may newly be kept out, where somebody would have been.
    """

    run = models.OneToOneField("sync.SyncRun", primary_key=True, on_delete=models.CASCADE, related_name="dry")
    organization = models.ForeignKey(
        "connectors.ExchangeOrganization",
        on_delete=models.CASCADE,
        related_name="dry_runs",
        db_index=False,  # the index below begins with it
    )
    is_whole = models.BooleanField(help_text="All mailboxes were looked at.")
    begun_at = models.DateTimeField()
    # Null: under way, or cut off; what is there is a part.
    finished_at = models.DateTimeField(null=True, blank=True)
    pruned_at = models.DateTimeField(null=True, blank=True)
    # Lines by what would become of them.
    changed = models.PositiveIntegerField(default=0)
    held = models.PositiveIntegerField(default=0)
    unchanged = models.PositiveIntegerField(default=0)
    limit_devices = models.PositiveIntegerField()
    limit_percent = models.FloatField()
    limit_at_most = models.PositiveIntegerField(null=True, blank=True)
    settings = models.JSONField(default=list, blank=True)
    settings_held = models.JSONField(default=list, blank=True)
    withheld = models.JSONField(default=list, blank=True)

    class Meta:
        indexes = [models.Index(fields=["organization", "-begun_at"], name="dry_run_newest")]

    def __str__(self) -> str:
        return f"dry run {self.pk}"


class DryRunLine(models.Model):
    """One device as a dry run found it; or entries of a mailbox whose device is gone (device_public_id null).

    All texts are of that time: the device may be another, or gone, since. Values are those of DeviceAccess.
    """

    class Effect(models.TextChoices):
        CHANGED = "changed", _("Would change")
        HELD = "held", _("Would wait")
        UNCHANGED = "unchanged", _("Unchanged")

    dry_run = models.ForeignKey(
        DryRun,
        on_delete=models.CASCADE,
        related_name="lines",
        db_index=False,  # every index below begins with it
    )
    device_public_id = models.UUIDField(null=True, blank=True)
    person = models.CharField(max_length=512, blank=True)
    mailbox = models.CharField(max_length=512, blank=True)
    device_name = models.CharField(max_length=255, blank=True)
    device_id = models.CharField(max_length=255, blank=True)
    access_state = models.CharField(max_length=64, blank=True, help_text="What Exchange showed.")
    access = models.CharField(max_length=16, blank=True)
    state = models.CharField(max_length=16, blank=True)
    reason = models.CharField(max_length=32, blank=True)
    rule = models.CharField(max_length=32, blank=True)
    hindered_by = models.CharField(max_length=32, blank=True)
    effect = models.CharField(max_length=12, choices=Effect.choices)
    # PowerShell texts about its mailbox that name it, one a line: not sent, and such as would wait besides.
    commands = models.TextField(blank=True)
    commands_held = models.TextField(blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["dry_run", "effect", "person", "id"], name="dry_line_shown"),
            models.Index(fields=["dry_run", "id"], name="dry_line_order"),
        ]

    def __str__(self) -> str:
        return f"{self.device_id} {self.effect}"
