"""What a tenant's device-management system and directory say: devices, people, groups."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models


class Presence(models.TextChoices):
    """MISSING: a listing did not hold it and nothing has confirmed that yet; it counts as present."""

    PRESENT = "present"
    MISSING = "missing"
    GONE = "gone"


class ManagedDevice(models.Model):
    """One record of the device-management system: Graph's managedDevice, or one that was pushed to us.

    One row a record (tenant, source, source_id). Rows stay when the record has gone, with the time. Labels are the
    source's own text.
    """

    class Source(models.TextChoices):
        GRAPH = "graph"
        PUSHED = "pushed"

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    tenant = models.ForeignKey(
        "connectors.Tenant", on_delete=models.CASCADE, related_name="managed_devices", db_index=False
    )
    source = models.CharField(max_length=16, choices=Source.choices)
    source_id = models.CharField(max_length=255)
    user_source_id = models.CharField(max_length=255, blank=True, help_text="The person's key at the source.")
    upn = models.CharField(max_length=512, blank=True)
    email = models.CharField(max_length=320, blank=True)
    # The two above for comparing: trimmed, lower case.
    upn_key = models.CharField(max_length=512, blank=True)
    email_key = models.CharField(max_length=320, blank=True)
    device_name = models.CharField(max_length=255, blank=True)
    eas_device_id = models.CharField(max_length=255, blank=True)
    eas_device_id_key = models.CharField(max_length=255, blank=True, help_text='For comparing; "" for an unknown id.')
    serial = models.CharField(max_length=128, blank=True)
    imei = models.CharField(max_length=64, blank=True)
    manufacturer = models.CharField(max_length=128, blank=True)
    model = models.CharField(max_length=255, blank=True)
    os = models.CharField(max_length=128, blank=True)
    os_version = models.CharField(max_length=64, blank=True)
    compliance = models.CharField(max_length=32, default="unknown", help_text="Graph's complianceState label.")
    grace_until = models.DateTimeField(null=True, blank=True)
    registered = models.BooleanField(
        null=True, blank=True, help_text="In the directory; null: the source does not say."
    )
    agent = models.CharField(max_length=64, blank=True, help_text="Graph's managementAgent label.")
    enrolled_at = models.DateTimeField(null=True, blank=True)
    last_check_in_at = models.DateTimeField(null=True, blank=True)

    presence = models.CharField(max_length=8, choices=Presence.choices, default=Presence.PRESENT)
    missing_since = models.DateTimeField(null=True, blank=True)
    seen_number = models.BigIntegerField(default=0, help_text="Of the listing that held it last.")
    first_seen_at = models.DateTimeField()
    changed_at = models.DateTimeField()
    gone_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "source", "source_id"], name="record_once_a_source"),
        ]
        indexes = [
            models.Index(fields=["tenant", "eas_device_id_key"], name="record_eas_id"),
            models.Index(fields=["tenant", "user_source_id"], name="record_user"),
            models.Index(fields=["tenant", "upn_key"], name="record_upn"),
            models.Index(fields=["tenant", "email_key"], name="record_email"),
            models.Index(fields=["tenant", "serial"], name="record_serial"),
        ]

    def __str__(self) -> str:
        return self.device_name or self.source_id


class DirectoryUser(models.Model):
    """One person of the tenant's directory. What a policy says of groups is not kept here: it is reckoned from
    GroupMember by the policy in force."""

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    tenant = models.ForeignKey(
        "connectors.Tenant", on_delete=models.CASCADE, related_name="directory_users", db_index=False
    )
    source_id = models.CharField(max_length=255)
    display_name = models.CharField(max_length=255, blank=True)
    upn = models.CharField(max_length=512, blank=True)
    on_premises_upn = models.CharField(max_length=512, blank=True)
    mail = models.CharField(max_length=320, blank=True)
    proxies = models.JSONField(default=list, blank=True)
    sid = models.CharField(max_length=190, blank=True)
    immutable_id = models.CharField(max_length=190, blank=True)
    domain = models.CharField(max_length=255, blank=True)
    sam = models.CharField(max_length=256, blank=True)
    preferred_language = models.CharField(max_length=35, blank=True)
    account_enabled = models.BooleanField(default=True)
    licensed = models.BooleanField(null=True, blank=True, help_text="For device management; null: not told.")

    presence = models.CharField(max_length=8, choices=Presence.choices, default=Presence.PRESENT)
    missing_since = models.DateTimeField(null=True, blank=True)
    seen_number = models.BigIntegerField(default=0)
    changed_at = models.DateTimeField()
    gone_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "source_id"], name="person_once_a_tenant")]

    def __str__(self) -> str:
        return self.display_name or self.upn


class UserKeyText(models.Model):
    """What a person can be found by, for looking up a few people without reading all: kind as people.UserKey, text
    as people.py compares it."""

    user = models.ForeignKey(DirectoryUser, on_delete=models.CASCADE, related_name="keys", db_index=True)
    tenant = models.ForeignKey("connectors.Tenant", on_delete=models.CASCADE, related_name="+", db_index=False)
    kind = models.CharField(max_length=16)
    text = models.CharField(max_length=512)

    class Meta:
        indexes = [models.Index(fields=["tenant", "kind", "text"], name="user_key_text")]

    def __str__(self) -> str:
        return f"{self.kind} {self.text}"


class DirectoryGroup(models.Model):
    """A group that a policy names, with its transitive members as last read. A group that could not be read keeps
    the members it had: nobody loses or gains access by a failed reading."""

    tenant = models.ForeignKey(
        "connectors.Tenant", on_delete=models.CASCADE, related_name="directory_groups", db_index=False
    )
    source_id = models.CharField(max_length=255)
    name = models.CharField(max_length=255, blank=True)
    read_at = models.DateTimeField(null=True, blank=True, help_text="When its members were last read whole.")
    error_code = models.CharField(max_length=64, blank=True, help_text="Why the last reading failed.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "source_id"], name="group_once_a_tenant")]

    def __str__(self) -> str:
        return self.name or self.source_id


class GroupMember(models.Model):
    """One transitive member. user_source_id and no foreign key: a member may be listed before the person is."""

    group = models.ForeignKey(DirectoryGroup, on_delete=models.CASCADE, related_name="members", db_index=False)
    user_source_id = models.CharField(max_length=255)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["group", "user_source_id"], name="member_once_a_group")]

    def __str__(self) -> str:
        return self.user_source_id


class CsvImport(models.Model):
    """A file of records that was looked at and not imported yet, or was. What is imported is what is kept here, so that
    it is the file that the preview showed. The content is dropped once imported, or when the hour is over."""

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    tenant = models.ForeignKey("connectors.Tenant", on_delete=models.CASCADE, related_name="csv_imports")
    file_name = models.CharField(max_length=255, blank=True)
    content = models.BinaryField(help_text="The text in UTF-8, compressed by zlib.")
    made_at = models.DateTimeField()
    made_by_name = models.CharField(max_length=200)
    made_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    expires_at = models.DateTimeField(db_index=True)
    imported_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.file_name
