"""Mailboxes as Exchange knows them, with their two personal lists; and the policies that their phones are given."""

from __future__ import annotations

import uuid

from django.db import models


class Mailbox(models.Model):
    """One mailbox with ActiveSync partnerships or personal entries, as last read: Get-CASMailbox, with what
    Get-Recipient and Get-User add to it.

    One row an AD object (organization, guid). Lists and addresses are as Exchange wrote them. Text left null is "".
    """

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    organization = models.ForeignKey(
        "connectors.ExchangeOrganization",
        on_delete=models.CASCADE,
        related_name="mailboxes",
        db_index=False,  # every index below begins with it
    )
    guid = models.UUIDField(help_text="The AD object's Guid; what cmdlets are sent as Identity.")
    identity = models.TextField(blank=True, help_text="As Exchange wrote it.")
    distinguished_name = models.TextField(blank=True)
    dn_key = models.CharField(max_length=512, blank=True, help_text="distinguished_name for comparing; joins devices.")
    display_name = models.CharField(max_length=512, blank=True)
    primary_smtp = models.CharField(max_length=320, blank=True)
    addresses = models.JSONField(default=list, blank=True, help_text="EmailAddresses, with their prefixes.")
    upn = models.CharField(max_length=512, blank=True)
    sid = models.CharField(max_length=190, blank=True)
    master_sid = models.CharField(max_length=190, blank=True)
    sam = models.CharField(max_length=256, blank=True)
    domain = models.CharField(max_length=255, blank=True, help_text="FQDN of the account's domain.")
    activesync_enabled = models.BooleanField(default=True)
    allowed = models.JSONField(default=list, blank=True, help_text="ActiveSyncAllowedDeviceIDs.")
    blocked = models.JSONField(default=list, blank=True, help_text="ActiveSyncBlockedDeviceIDs.")
    mailbox_policy = models.CharField(max_length=255, blank=True, help_text='Its ActiveSync policy; "": the default.')
    # Whose it is, by the last matching; None when the directory has nobody, or several.
    person = models.ForeignKey(
        "sync.DirectoryUser", null=True, blank=True, on_delete=models.SET_NULL, related_name="mailboxes"
    )

    seen_fence = models.BigIntegerField(default=0)
    read_at = models.DateTimeField(help_text="When the lists were last read from Exchange.")
    changed_at = models.DateTimeField()
    gone_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization", "guid"], name="mailbox_once_an_organization")]
        indexes = [
            models.Index(fields=["organization", "dn_key"], name="mailbox_dn"),
            models.Index(fields=["organization", "primary_smtp"], name="mailbox_smtp"),
        ]

    def __str__(self) -> str:
        return self.primary_smtp or self.identity


class MailboxPolicy(models.Model):
    """One ActiveSync mailbox policy as last read: what Exchange has phones do (a PIN, above all).

    settings: by the neutral names of connectors.exchange.policies, those that this version showed: flags as booleans,
    numbers, lists of text, all else as Exchange wrote it. Who has which is told by Mailbox.mailbox_policy.
    """

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    organization = models.ForeignKey(
        "connectors.ExchangeOrganization",
        on_delete=models.CASCADE,
        related_name="mailbox_policies",
        db_index=False,  # the constraint's index begins with it
    )
    guid = models.UUIDField(help_text="The AD object's Guid; what cmdlets are sent as Identity.")
    identity = models.TextField(blank=True, help_text="As Exchange wrote it; what a mailbox names its policy by.")
    distinguished_name = models.TextField(blank=True)
    name = models.CharField(max_length=255)
    is_default = models.BooleanField(default=False, help_text="What mailboxes without a policy of their own have.")
    settings = models.JSONField(default=dict, blank=True)
    when_changed = models.DateTimeField(null=True, blank=True, help_text="As Exchange says.")
    read_at = models.DateTimeField(help_text="When it was last read from Exchange.")
    gone_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "guid"], name="mailbox_policy_once_an_organization")
        ]

    def __str__(self) -> str:
        return self.name
