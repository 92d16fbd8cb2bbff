"""Records that a person is offered for a phone without one: what is offered, how sure it is, and what never is."""

from __future__ import annotations

from typing import Any

import pytest

from sync.deciding.facts import DirectoryUser, Link, LinkKind, ManagedDevice
from sync.deciding.matches import Confidence, Likeness, Outcome, Suggestion
from tests.sync.facts import DEVICE_ID, days, matched, person, phone, record

IMEI = "490154203237518"


def other(**changes: Any) -> ManagedDevice:
    """A record of Anna's that is not the phone's by id."""
    return record(**{"eas_device_id": "", "os": "", **changes})


def suggested(*args: Any, **kwargs: Any) -> list[tuple[Any, Confidence, Likeness]]:
    return [(each.record, each.confidence, each.likeness) for each in matched(*args, **kwargs).suggestions]


CASES = {
    "Appl and the serial number": (
        {}, {"serial": DEVICE_ID[4:].lower()}, Likeness.APPLE_SERIAL, Confidence.HIGH),
    "the IMEI": ({"imei": IMEI}, {"imei": IMEI}, Likeness.IMEI, Confidence.HIGH),
    "the IMEI without its check digit": ({"imei": IMEI[:14]}, {"imei": IMEI}, Likeness.IMEI, Confidence.HIGH),
    "the IMEI as a person writes it": (
        {"imei": "49-015420-323751-8"}, {"imei": IMEI}, Likeness.IMEI, Confidence.HIGH),
    "the only record, of one platform": ({}, {"os": "iOS"}, Likeness.ONLY_RECORD, Confidence.LOW),
    "the only record, told by its maker": (
        {"device_type": "SAMSUNGSMG991B", "model": "", "os": "Android"}, {"manufacturer": "samsung"},
        Likeness.ONLY_RECORD, Confidence.LOW),
}  # fmt: skip
NONE_CASES = {
    "no serial number": ({"device_id": "Appl"}, {"serial": ""}),
    "a serial number of zeros": ({"device_id": "Appl000"}, {"serial": "000"}),
    "an IMEI of zeros": ({"imei": "0" * 15}, {"imei": "0" * 15}),
    "half an IMEI": ({"imei": IMEI[:8]}, {"imei": IMEI[:8]}),
    "the only record, of another platform": ({}, {"os": "Android"}),
    "the only record, of a platform that nothing tells": ({}, {"os": ""}),
    "a record that only repeats Exchange": ({}, {"agent": "eas", "serial": DEVICE_ID[4:]}),
    "another person's record": ({}, {"user": "user-bert", "serial": DEVICE_ID[4:], "os": "iOS"}),
}


@pytest.mark.parametrize(("device", "of_record", "likeness", "confidence"), CASES.values(), ids=CASES.keys())
def test_what_is_offered(
    device: dict[str, Any], of_record: dict[str, Any], likeness: Likeness, confidence: Confidence
) -> None:
    found = matched(phone(**device), [other(**of_record)])
    assert found.outcome is Outcome.UNMATCHED
    assert found.suggestions == (Suggestion("record", confidence, likeness),)


@pytest.mark.parametrize(("device", "of_record"), NONE_CASES.values(), ids=NONE_CASES.keys())
def test_what_is_not_offered(device: dict[str, Any], of_record: dict[str, Any]) -> None:
    users = [person(), DirectoryUser("user-bert", mail="bert@contoso.test")]
    assert suggested(phone(**device), [other(**of_record)], users=users) == []


def test_a_record_of_nobody_with_this_id() -> None:
    assert suggested(records=[record(user=None)]) == [("record", Confidence.MEDIUM, Likeness.ID_OF_NOBODY)]


def test_a_phone_that_has_another_persons_record_is_offered_ones_own() -> None:
    theirs, own = record(key="theirs", user="user-bert"), other(serial=DEVICE_ID[4:])
    users = [person(), DirectoryUser("user-bert", mail="bert@contoso.test")]
    found = matched(records=[theirs, own], users=users)
    assert found.outcome is Outcome.OTHER_PERSONS
    assert [each.record for each in found.suggestions] == ["record"]


def test_a_matched_phone_is_offered_nothing() -> None:
    assert suggested(records=[record(), other(key="second", serial=DEVICE_ID[4:])]) == []


def test_surest_first_and_each_record_once() -> None:
    records = [
        other(key="only in name", os=""),
        other(key="by imei", imei=IMEI),
        other(key="by serial", serial=DEVICE_ID[4:], imei=IMEI),
    ]
    assert suggested(phone(imei=IMEI), records) == [
        ("by serial", Confidence.HIGH, Likeness.APPLE_SERIAL),
        ("by imei", Confidence.HIGH, Likeness.IMEI),
    ]


def test_what_a_person_unlinked_is_not_offered_again() -> None:
    links = [Link("anna", DEVICE_ID, "record", LinkKind.UNLINK)]
    assert suggested(records=[other(serial=DEVICE_ID[4:], os="iOS")], links=links) == []
    assert suggested(links=links) == []


def test_two_unused_records_are_no_only_one() -> None:
    assert suggested(records=[other(os="iOS"), other(key="second", os="iOS")]) == []


def test_a_record_that_is_another_phones_is_not_the_only_one() -> None:
    used = record(key="used", eas_device_id="second")
    mate = phone(key="mate", device_id="second")
    assert suggested(records=[used, other(os="iOS")], others=[mate]) == [
        ("record", Confidence.LOW, Likeness.ONLY_RECORD)
    ]
    assert suggested(records=[used], others=[mate]) == []


class TestReset:
    """Same person, model and system; a new id; the old one silent: offered as a re-link."""

    def offered(self, new: dict[str, Any], old: dict[str, Any], **kwargs: Any) -> list[Suggestion]:
        device = phone(**{"device_id": "new", "first_seen": days(-5), **new})
        before = phone(**{"key": "before", "last_seen": days(-6), **old})
        return list(matched(device, [record()], others=[before], **kwargs).suggestions)

    def test_is_offered(self) -> None:
        assert self.offered({}, {}) == [Suggestion("record", Confidence.MEDIUM, Likeness.RESET, DEVICE_ID)]

    @pytest.mark.parametrize(
        ("new", "old"),
        [
            ({}, {"last_seen": days(-4)}),
            ({}, {"last_seen": None}),
            ({"first_seen": None}, {}),
            ({"model": "iPad4C1"}, {}),
            ({"os": "iOS 18.1"}, {}),
            ({"model": ""}, {"model": ""}),
            ({}, {"mailbox": "bert"}),
        ],
        ids=[
            "the old one still speaks",
            "not known when it last spoke",
            "not known when the new one came",
            "another model",
            "another system",
            "no model",
            "another mailbox",
        ],
    )
    def test_is_not(self, new: dict[str, Any], old: dict[str, Any]) -> None:
        assert Likeness.RESET not in [each.likeness for each in self.offered(new, old)]

    def test_the_one_that_went_silent_last_comes_first(self) -> None:
        device = phone(device_id="new", first_seen=days(-5))
        records = [record(key="a", eas_device_id="a"), record(key="b", eas_device_id="b")]
        before = [
            phone(key="a", device_id="a", last_seen=days(-60)),
            phone(key="b", device_id="b", last_seen=days(-6)),
        ]
        found = matched(device, records, others=before)
        assert [each.instead_of for each in found.suggestions] == ["b", "a"]
