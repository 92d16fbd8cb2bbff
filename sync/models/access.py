"""What people chose (policy, overrides, links, choices about entries) and what was decided of each device."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _


class PolicyVersion(models.Model):
    """One version of a tenant's or an organization's policy. Never changed: a change, and a roll-back, is a new one.

    content: policies.policy.TenantPolicyValues or OrganizationPolicyValues as JSON. organization null: the tenant's.
    """

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    tenant = models.ForeignKey("connectors.Tenant", on_delete=models.CASCADE, related_name="policy_versions")
    organization = models.ForeignKey(
        "connectors.ExchangeOrganization", null=True, blank=True, on_delete=models.CASCADE, related_name="+"
    )
    number = models.PositiveIntegerField()
    content = models.JSONField()
    made_at = models.DateTimeField()
    made_by_name = models.CharField(max_length=200)
    made_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    reason = models.TextField(blank=True)
    rolled_back_to = models.PositiveIntegerField(null=True, blank=True, help_text="The version whose content this is.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "number"], condition=Q(organization=None), name="tenant_version"),
            models.UniqueConstraint(
                fields=["organization", "number"], condition=Q(organization__isnull=False), name="organization_version"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.organization or self.tenant} · {self.number}"


class AccessOverride(models.Model):
    """An administrator's own decision about one partnership, until it ends. At most one a partnership is in force."""

    class Level(models.TextChoices):
        ALLOW = "allow", _("Allow")
        BLOCK = "block", _("Block")

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    organization = models.ForeignKey(
        "connectors.ExchangeOrganization", on_delete=models.CASCADE, related_name="overrides"
    )
    mailbox = models.ForeignKey("sync.Mailbox", on_delete=models.CASCADE, related_name="overrides")
    device_id = models.CharField(max_length=255)
    device_id_key = models.CharField(max_length=255)
    level = models.CharField(max_length=8, choices=Level.choices)
    reason = models.TextField()
    expires_at = models.DateTimeField(null=True, blank=True)
    made_at = models.DateTimeField()
    made_by_name = models.CharField(max_length=200)
    made_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    ended_at = models.DateTimeField(null=True, blank=True)
    ended_by_name = models.CharField(max_length=200, blank=True, help_text='"Schedule" when it expired.')

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["mailbox", "device_id_key"], condition=Q(ended_at=None), name="one_override_a_partnership"
            ),
        ]
        indexes = [models.Index(fields=["expires_at"], condition=Q(ended_at=None), name="override_expiry")]

    def __str__(self) -> str:
        return f"{self.level} {self.device_id}"


class DeviceLink(models.Model):
    """A person said that a partnership and a record are one device (link), or are not (unlink)."""

    class Kind(models.TextChoices):
        LINK = "link", _("Link")
        UNLINK = "unlink", _("Unlink")

    mailbox = models.ForeignKey("sync.Mailbox", on_delete=models.CASCADE, related_name="links")
    device_id_key = models.CharField(max_length=255)
    managed_device = models.ForeignKey("sync.ManagedDevice", on_delete=models.CASCADE, related_name="links")
    kind = models.CharField(max_length=8, choices=Kind.choices)
    made_at = models.DateTimeField()
    made_by_name = models.CharField(max_length=200)
    made_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["mailbox", "device_id_key", "managed_device"], name="one_word_a_pair"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.device_id_key}"


class EntryChoice(models.Model):
    """A person's choice about a personal entry that is not ours."""

    class Listed(models.TextChoices):
        ALLOWED = "allowed", _("Allowed")
        BLOCKED = "blocked", _("Blocked")

    class Choice(models.TextChoices):
        ADOPT = "adopt", _("Adopt")
        OVERRIDE = "override", _("Override")

    mailbox = models.ForeignKey("sync.Mailbox", on_delete=models.CASCADE, related_name="choices")
    listed = models.CharField(max_length=8, choices=Listed.choices)
    device_id_key = models.CharField(max_length=255)
    choice = models.CharField(max_length=8, choices=Choice.choices)
    reason = models.TextField(blank=True)
    made_at = models.DateTimeField()
    made_by_name = models.CharField(max_length=200)
    made_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["mailbox", "listed", "device_id_key"], name="one_choice_an_entry"),
        ]

    def __str__(self) -> str:
        return f"{self.choice} {self.device_id_key}"


class DeviceAccess(models.Model):
    """What was last decided of a device, and how it was matched. Values are members of the StrEnums in facts.py and
    matches.py; `rule` is decide's row."""

    device = models.OneToOneField(
        "sync.MobileDevice", primary_key=True, on_delete=models.CASCADE, related_name="access"
    )
    organization = models.ForeignKey(
        "connectors.ExchangeOrganization", on_delete=models.CASCADE, related_name="+", db_index=False
    )
    access = models.CharField(max_length=16)
    state = models.CharField(max_length=16)
    reason = models.CharField(max_length=32)
    rule = models.CharField(max_length=32)
    hindered_by = models.CharField(
        max_length=32, blank=True, help_text="What keeps Exchange from it: foreignAllow, ..."
    )
    outcome = models.CharField(max_length=16, blank=True, help_text="How it was matched: matches.Outcome.")
    device_by = models.CharField(max_length=16, blank=True)
    user_by = models.CharField(max_length=16, blank=True)
    managed_device = models.ForeignKey(
        "sync.ManagedDevice", null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    decided_at = models.DateTimeField(help_text="When this verdict was first reached.")

    class Meta:
        indexes = [
            models.Index(fields=["organization", "state"], name="access_state"),
            models.Index(fields=["organization", "rule"], name="access_rule"),
        ]

    def __str__(self) -> str:
        return f"{self.access} {self.rule}"


class MailboxCheck(models.Model):
    """This mailbox is to be looked at now, without waiting for a sync. State and not message: a check that is asked
    for twice is done once, and one that was lost by a dying worker is still here."""

    mailbox = models.OneToOneField("sync.Mailbox", primary_key=True, on_delete=models.CASCADE, related_name="wanted")
    organization = models.ForeignKey("connectors.ExchangeOrganization", on_delete=models.CASCADE, related_name="checks")
    wanted_at = models.DateTimeField(help_text="Of the newest request; changes when asked again.")
    first_wanted_at = models.DateTimeField()
    because = models.CharField(max_length=64, help_text="A code: complianceChanged, override, linked, approved, ...")
    failures = models.PositiveSmallIntegerField(default=0)
    not_before = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["organization", "first_wanted_at"], name="check_order")]

    def __str__(self) -> str:
        return f"{self.mailbox_id} {self.because}"
