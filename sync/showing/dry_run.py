"""What a dry run found: each device with its verdict, and the exact command that was not sent.

Verdicts are those that are kept now: a dry run keeps what it decides, as any run does. Reads only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from django.db.models import Q, QuerySet

from sync.blocks import blocks
from sync.models import Command, MobileDevice, SyncRun


@dataclass(frozen=True, slots=True)
class DryLine:
    """A device, and the text of the commands that name it; () where nothing is to change."""

    device: MobileDevice
    texts: tuple[str, ...]


def is_dry(run: SyncRun) -> bool:
    """Asked for as one, or made one by a connector that only observes."""
    return run.is_dry_run or run.commands.filter(state=Command.State.OBSERVED).exists()


def dry_devices(run: SyncRun, *, only_changed: bool, text: str = "") -> QuerySet[MobileDevice]:
    """The organization's present devices, by person; only_changed: of mailboxes that a command is about."""
    rows = MobileDevice.objects.filter(organization=run.connector.organization_id, gone_at=None)
    if only_changed:
        rows = rows.filter(owner__in=_commands(run).filter(mailbox__isnull=False).values("mailbox"))
    for word in text.split()[:8]:
        rows = rows.filter(
            Q(user_display_name__icontains=word) | Q(device_id__icontains=word) | Q(device_model__icontains=word)
        )
    return rows.select_related("access", "owner", "organization__tenant").order_by("user_display_name", "pk")


def dry_lines(run: SyncRun, devices: Iterable[MobileDevice], *, only_changed: bool) -> list[DryLine]:
    """One query. only_changed: without devices that share a mailbox with one that a command names."""
    known = list(devices)
    texts: dict[int, list[str]] = {}
    owners = {device.owner_id for device in known if device.owner_id is not None}
    for payload, command in _commands(run).filter(mailbox__in=owners).values_list("payload", "text"):
        for key in payload.get("devices", ()):
            texts.setdefault(int(key), []).append(command)
    lines = [DryLine(device, tuple(texts.get(device.pk, ()))) for device in known]
    return [line for line in lines if line.texts] if only_changed else lines


def dry_lines_all(run: SyncRun, *, only_changed: bool = False) -> Iterator[DryLine]:
    """All of them, some hundred at a time."""
    for part in blocks(dry_devices(run, only_changed=only_changed).iterator(chunk_size=500)):
        yield from dry_lines(run, part, only_changed=only_changed)


def dry_settings(run: SyncRun) -> list[str]:
    """Commands about settings, rules, and entries whose device is gone: they name no device."""
    rows = _commands(run).order_by("pk").values_list("payload", "text")
    return [text for payload, text in rows.filter(mailbox=None)] + [
        text for payload, text in rows.filter(mailbox__isnull=False, payload__devices=[])
    ]


def _commands(run: SyncRun) -> QuerySet[Command]:
    return Command.objects.filter(run=run, state=Command.State.OBSERVED)
