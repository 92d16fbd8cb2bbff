"""Mobile devices as Exchange knows them."""

from __future__ import annotations

import uuid

from django.db import models


class MobileDevice(models.Model):
    """One ActiveSync partnership, as last observed: Get-MobileDevice or Get-ActiveSyncDevice.

    One row an AD object (organisation, guid). (mailbox_key, device_id_key) names the same partnership across a removal
    and a new first sync; the same DeviceId may stand under several mailboxes. Text that Exchange left null is "".
    """

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    organization = models.ForeignKey(
        "connectors.ExchangeOrganization",
        on_delete=models.CASCADE,
        related_name="mobile_devices",
        db_index=False,  # every index below begins with it
    )
    guid = models.UUIDField(help_text="The AD object's Guid.")
    identity = models.TextField(help_text="As Exchange wrote it; sent back to it unchanged.")
    distinguished_name = models.TextField(blank=True)
    device_id = models.CharField(max_length=255)
    device_id_key = models.CharField(max_length=255, help_text="device_id trimmed and case-folded, for comparing.")
    mailbox = models.CharField(max_length=512, blank=True, help_text="The mailbox part of identity.")
    mailbox_key = models.CharField(max_length=512, blank=True, help_text="mailbox case-folded.")
    user_display_name = models.CharField(max_length=512, blank=True)
    # The mailbox's row, joined by distinguished name once mailboxes were read; the texts above are the device's own.
    owner = models.ForeignKey("sync.Mailbox", null=True, blank=True, on_delete=models.SET_NULL, related_name="devices")

    friendly_name = models.CharField(max_length=255, blank=True)
    device_type = models.CharField(max_length=128, blank=True)
    device_model = models.CharField(max_length=255, blank=True)
    device_os = models.CharField(max_length=255, blank=True)
    device_os_language = models.CharField(max_length=64, blank=True)
    device_user_agent = models.TextField(blank=True)
    device_imei = models.CharField(max_length=64, blank=True)
    device_mobile_operator = models.CharField(max_length=128, blank=True)
    device_telephone_number = models.CharField(max_length=64, blank=True)
    client_type = models.CharField(
        max_length=64, blank=True, help_text="EAS, REST, Outlook, ...; empty before Exchange 2013."
    )
    client_version = models.CharField(max_length=32, blank=True, help_text="ActiveSync protocol version.")

    # Exchange's labels as they come (Allowed, Blocked, Quarantined, DeviceDiscovery, Unknown, or a newer one).
    access_state = models.CharField(max_length=64, blank=True)
    access_state_reason = models.CharField(max_length=64, blank=True)
    access_control_rule = models.TextField(blank=True)

    first_sync_time = models.DateTimeField(null=True)
    when_created = models.DateTimeField(null=True)
    when_changed = models.DateTimeField(null=True)

    # Sixteen bytes over the object as it came: equal means nothing changed, and nothing is parsed or written.
    wire_digest = models.BinaryField(max_length=16)
    # The fence of the run that saw it last; after a complete listing, anything older is gone.
    seen_fence = models.BigIntegerField(default=0)
    first_observed_at = models.DateTimeField()
    changed_at = models.DateTimeField(help_text="When a sync last found it different.")
    gone_at = models.DateTimeField(null=True, help_text="Set when a complete listing no longer held it; the row stays.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "guid"], name="device_once_an_organization"),
        ]
        indexes = [
            models.Index(fields=["organization", "wire_digest"], name="device_digest"),
            models.Index(fields=["organization", "mailbox_key", "device_id_key"], name="device_partnership"),
            models.Index(fields=["organization", "device_id_key"], name="device_by_device_id"),
        ]

    def __str__(self) -> str:
        return f"{self.mailbox} · {self.device_id}"


class DeviceStatistics(models.Model):
    """What the mailbox knows of a partnership: Get-MobileDeviceStatistics, which is expensive and read only when asked
    for, after a wipe, and before a default level is tightened."""

    device = models.OneToOneField(MobileDevice, primary_key=True, on_delete=models.CASCADE, related_name="statistics")
    read_at = models.DateTimeField()
    first_sync_at = models.DateTimeField(null=True)
    last_attempt_at = models.DateTimeField(null=True)
    last_success_at = models.DateTimeField(null=True, db_index=True)
    status = models.CharField(max_length=64, blank=True, help_text="Exchange's label: DeviceOk, DeviceWipePending, ...")
    policy_applied = models.CharField(max_length=255, blank=True)
    policy_status = models.CharField(max_length=64, blank=True)
    wipe_requested_at = models.DateTimeField(null=True)
    wipe_sent_at = models.DateTimeField(null=True)
    wipe_acknowledged_at = models.DateTimeField(null=True)
    wipe_requestor = models.CharField(max_length=320, blank=True)
    account_wipe_requested_at = models.DateTimeField(null=True)
    account_wipe_sent_at = models.DateTimeField(null=True)
    account_wipe_acknowledged_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.device_id} {self.status}"


def person_name(display_name: str, mailbox: str) -> str:
    """A device's person as people call them, without the path before it: Exchange gives the name as a canonical one,
    contoso.lab/Users/Ada. mailbox: instead, where there is no name."""
    name = display_name or mailbox
    # A slash that belongs to the name is escaped in a canonical name.
    return name.replace("\\/", "\0").rsplit("/", 1)[-1].replace("\0", "/")
