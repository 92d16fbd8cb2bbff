"""What administrators decide about single devices: rows, lines in the story, and marks; what is refused or left."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from connectors.actors import Actor
from sync.models import (
    AccessOverride,
    DeviceEvent,
    DeviceLink,
    Drift,
    EntryChoice,
    MailboxCheck,
    ManagedDevice,
    MobileDevice,
    Presence,
)
from sync.policies.overrides import (
    BULK_LIMIT,
    REASON_LENGTH,
    entry_choice_clear,
    entry_choose,
    link_clear,
    link_set,
    override_clear,
    override_set,
    overrides_end,
    overrides_preview,
    recheck,
)
from tests.factories import (
    AccessFactory,
    DeviceFactory,
    DriftFactory,
    MailboxFactory,
    OverrideFactory,
    RecordFactory,
    UserFactory,
)

pytestmark = pytest.mark.django_db
NOW = timezone.now()
ADA = Actor(name="Ada")


@pytest.fixture
def device() -> MobileDevice:
    return make()


def make(**values: Any) -> MobileDevice:
    mailbox = values.pop("owner", None) or MailboxFactory()
    made: MobileDevice = DeviceFactory(organization=mailbox.organization, owner=mailbox, **values)
    return made


def allow(*devices: MobileDevice, **values: Any) -> Any:
    wanted = {"level": "allow", "reason": "Travels", "expires_at": None, "actor": ADA} | values
    return override_set(devices=devices, **wanted)


def codes(device: MobileDevice) -> list[str]:
    return list(DeviceEvent.objects.filter(device=device).order_by("pk").values_list("code", flat=True))


class TestOverride:
    def test_is_a_row_a_line_and_a_mark(self, device: MobileDevice) -> None:
        user = UserFactory()
        until = NOW + datetime.timedelta(days=7)
        done = allow(device, reason="  Travels  ", expires_at=until, actor=Actor("Ada", user.pk))
        assert (done.devices, done.left) == ((device,), ())
        row = AccessOverride.objects.get()
        assert (row.level, row.reason, row.expires_at, row.mailbox) == ("allow", "Travels", until, device.owner)
        assert (row.made_by_name, row.made_by_id, row.organization_id) == ("Ada", user.pk, device.organization_id)
        line = DeviceEvent.objects.get(device=device)
        assert (line.code, line.actor_name) == ("overrideSet", "Ada")
        assert line.params == {"level": "allow", "reason": "Travels", "until": until.isoformat()}
        assert MailboxCheck.objects.get().because == "override"

    def test_a_newer_one_replaces_it_and_the_same_one_is_left(self, device: MobileDevice) -> None:
        allow(device)
        assert [left.because for left in allow(device).left] == ["same"]
        assert AccessOverride.objects.count() == 1
        allow(device, level="block")
        rows = list(AccessOverride.objects.order_by("pk").values_list("level", "ended_by_name"))
        assert rows == [("allow", "Ada"), ("block", "")]
        assert AccessOverride.objects.get(ended_at=None).level == "block"

    def test_other_partnerships_are_not_touched(self, device: MobileDevice) -> None:
        other = make(owner=device.owner)
        same_id = make(device_id=device.device_id)
        allow(other)
        allow(same_id)
        allow(device, level="block")
        levels = dict(AccessOverride.objects.filter(ended_at=None).values_list("mailbox__pk", "level").exclude(
            device_id_key=other.device_id_key
        ))  # fmt: skip
        assert levels == {device.owner_id: "block", same_id.owner_id: "allow"}
        assert AccessOverride.objects.filter(ended_at=None, device_id_key=other.device_id_key).exists()

    def test_devices_that_share_an_id_share_the_override(self, device: MobileDevice) -> None:
        twin = make(owner=device.owner, device_id=device.device_id)
        done = allow(device, twin)
        assert done.devices == (device, twin)
        assert AccessOverride.objects.count() == 1
        assert codes(twin) == ["overrideSet"]

    def test_who_is_left_out_and_why(self, device: MobileDevice) -> None:
        outlook = make(client_type="Outlook")
        AccessFactory(device=outlook, rule="notActiveSync", access="leaveAlone")
        gone = make(gone_at=NOW)
        homeless = DeviceFactory()
        done = overrides_preview([device, outlook, gone, homeless], level="block")
        assert done.devices == (device,)
        assert [(left.device, left.because) for left in done.left] == [
            (outlook, "notActiveSync"), (gone, "gone"), (homeless, "noMailbox"),
        ]  # fmt: skip
        assert not AccessOverride.objects.exists()
        assert allow(device, outlook, gone, homeless).devices == (device,)

    @pytest.mark.parametrize(
        ("values", "field"),
        [
            ({"level": "quarantine"}, "level"),
            ({"reason": "  "}, "reason"),
            ({"reason": "x" * (REASON_LENGTH + 1)}, "reason"),
            ({"expires_at": NOW - datetime.timedelta(seconds=1)}, "expires_at"),
            ({"expires_at": NOW + datetime.timedelta(days=4000)}, "expires_at"),
        ],
    )
    def test_what_is_refused_says_where(self, device: MobileDevice, values: dict[str, Any], field: str) -> None:
        with pytest.raises(ValidationError) as refused:
            allow(device, **values)
        assert list(refused.value.message_dict) == [field]
        assert not AccessOverride.objects.exists()
        assert codes(device) == []

    def test_too_many_at_once_are_a_policy(self, device: MobileDevice) -> None:
        with pytest.raises(ValidationError) as refused:
            allow(*[device] * (BULK_LIMIT + 1))
        assert list(refused.value.message_dict) == ["devices"]

    def test_what_no_database_stores_is_replaced(self, device: MobileDevice) -> None:
        allow(device, reason="a\x00b")
        assert AccessOverride.objects.get().reason == "a\ufffdb"

    def test_cleared_it_ends_and_a_second_time_nothing_does(self, device: MobileDevice) -> None:
        other = make()
        allow(device)
        done = override_clear(devices=[device, other], actor=ADA)
        assert done.devices == (device,)
        assert [(left.device, left.because) for left in done.left] == [(other, "none")]
        assert AccessOverride.objects.get().ended_by_name == "Ada"
        assert codes(device) == ["overrideSet", "overrideEnded"]
        assert override_clear(devices=[device], actor=ADA).devices == ()
        assert codes(device) == ["overrideSet", "overrideEnded"]

    def test_ended_by_its_row_where_the_phone_is_gone(self, device: MobileDevice) -> None:
        orphan = OverrideFactory()
        allow(device)
        rows = list(AccessOverride.objects.all())
        assert overrides_end(overrides=rows, actor=ADA) == 2
        assert not AccessOverride.objects.filter(ended_at=None).exists()
        assert codes(device) == ["overrideSet", "overrideEnded"]
        assert MailboxCheck.objects.filter(mailbox=orphan.mailbox).exists()
        assert overrides_end(overrides=rows, actor=ADA) == 0


class TestLink:
    def record(self, device: MobileDevice, **values: Any) -> ManagedDevice:
        made: ManagedDevice = RecordFactory(tenant=device.organization.tenant, **values)
        return made

    def test_is_a_word_about_a_pair(self, device: MobileDevice) -> None:
        record = self.record(device)
        link_set(device=device, record=record, kind="link", actor=ADA)
        row = DeviceLink.objects.get()
        assert (row.kind, row.managed_device, row.device_id_key) == ("link", record, device.device_id_key)
        assert codes(device) == ["linked"]
        assert MailboxCheck.objects.get().because == "linked"

    def test_a_newer_word_replaces_an_older_one(self, device: MobileDevice) -> None:
        first, second = self.record(device), self.record(device)
        link_set(device=device, record=first, kind="link", actor=ADA)
        link_set(device=device, record=second, kind="link", actor=ADA)
        assert list(DeviceLink.objects.values_list("managed_device", "kind")) == [(second.pk, "link")]
        link_set(device=device, record=second, kind="unlink", actor=ADA)
        link_set(device=device, record=first, kind="unlink", actor=ADA)
        assert set(DeviceLink.objects.values_list("managed_device", "kind")) == {
            (first.pk, "unlink"), (second.pk, "unlink"),
        }  # fmt: skip

    def test_taken_back_the_rules_decide_again(self, device: MobileDevice) -> None:
        record = self.record(device)
        assert not link_clear(device=device, record=record, actor=ADA)
        link_set(device=device, record=record, kind="unlink", actor=ADA)
        assert link_clear(device=device, record=record, actor=ADA)
        assert not DeviceLink.objects.exists()
        assert codes(device) == ["unlinked", "linkCleared"]

    def test_what_is_refused(self, device: MobileDevice) -> None:
        cases = {
            "another tenant": (device, RecordFactory(), "link"),
            "gone": (device, self.record(device, presence=Presence.GONE), "link"),
            "marry": (device, self.record(device), "marry"),
            "mailbox": (DeviceFactory(organization=device.organization), self.record(device), "link"),
        }
        for name, (of, record, kind) in cases.items():
            with pytest.raises(ValidationError):
                link_set(device=of, record=record, kind=kind, actor=ADA)
            assert not DeviceLink.objects.exists(), name


class TestEntry:
    def drift(self, device: MobileDevice, **values: Any) -> Drift:
        made: Drift = DriftFactory(mailbox=device.owner, device=device, device_id_key=device.device_id_key, **values)
        return made

    @pytest.mark.parametrize(("choice", "because"), [("adopt", "adopted"), ("override", "overridden")])
    def test_a_choice_ends_the_drift(self, device: MobileDevice, choice: str, because: str) -> None:
        drift = self.drift(device)
        entry_choose(drift=drift, choice=choice, reason="Known", actor=ADA)
        row = EntryChoice.objects.get()
        assert (row.choice, row.listed, row.reason, row.device_id_key) == (
            choice, "allowed", "Known", device.device_id_key,
        )  # fmt: skip
        drift.refresh_from_db()
        assert (drift.ended_because, drift.ended_by_name) == (because, "Ada")
        assert codes(device) == ["entryChosen"]
        assert MailboxCheck.objects.get().because == "entryChosen"

    def test_what_is_refused(self, device: MobileDevice) -> None:
        setting = DriftFactory(
            mailbox=None, organization=device.organization, kind=Drift.Kind.SETTING_CHANGED, device_id_key=""
        )
        over = self.drift(device, ended_at=NOW)
        for drift, choice, reason in (
            (setting, "adopt", "x"), (over, "adopt", "x"), (self.drift(device), "adopt", " "),
            (self.drift(make()), "keep", "x"),
        ):  # fmt: skip
            with pytest.raises(ValidationError):
                entry_choose(drift=drift, choice=choice, reason=reason, actor=ADA)
        assert not EntryChoice.objects.exists()

    def test_taken_back(self, device: MobileDevice) -> None:
        choice = entry_choose(drift=self.drift(device), choice="adopt", reason="Known", actor=ADA)
        entry_choice_clear(choice=choice, actor=ADA)
        assert not EntryChoice.objects.exists()
        assert codes(device) == ["entryChosen", "entryChoiceCleared"]


def test_recheck_marks_each_mailbox_once(device: MobileDevice) -> None:
    twin = make(owner=device.owner)
    assert recheck(devices=[device, twin, DeviceFactory()], actor=ADA) == 1
    assert MailboxCheck.objects.get().because == "asked"
    assert codes(device) == codes(twin) == ["recheck"]
