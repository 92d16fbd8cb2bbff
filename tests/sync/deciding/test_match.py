"""Which record a phone is: named cases for each of the rules of matching (docs/access.md), by their numbers."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.deciding.facts import DirectoryUser, EasDevice, Link, LinkKind, Mailbox, ManagedDevice, Presence
from sync.deciding.match import is_active_sync, match
from sync.deciding.matches import DeviceBy, Outcome
from sync.deciding.people import UserKey
from tests.sync.facts import DEVICE_ID, days, mailbox, matched, person, phone, record

BERT = DirectoryUser("user-bert", upn="bert@contoso.test", mail="bert@contoso.test")
UNLINK = Link("anna", DEVICE_ID, "record", LinkKind.UNLINK)


class TestId:
    """Rules 1, 2, 3, 5 and 6."""

    def test_one_id_and_one_person_match(self) -> None:
        found = matched()
        assert (found.outcome, found.record, found.person) == (Outcome.MATCHED, record(), person())
        assert (found.device_by, found.user_by) == (DeviceBy.EAS_ID, UserKey.SMTP)

    def test_1_one_id_in_two_mailboxes_is_two_phones(self) -> None:
        """A shared device: the record is of the one, and another person's for the other."""
        devices = [phone(), phone(key="other", mailbox="bert")]
        mailboxes = [mailbox(), Mailbox("bert", "guid-of-bert", primary_smtp="bert@contoso.test")]
        found = match(devices, mailboxes, [record()], [person(), BERT])
        assert found["phone"].outcome is Outcome.MATCHED
        assert found["other"].outcome is Outcome.OTHER_PERSONS

    def test_1_each_person_has_a_record_of_the_shared_id(self) -> None:
        devices = [phone(), phone(key="other", mailbox="bert")]
        mailboxes = [mailbox(), Mailbox("bert", "guid-of-bert", primary_smtp="bert@contoso.test")]
        of_bert = record(key="of bert", user="user-bert", compliance="noncompliant")
        found = match(devices, mailboxes, [record(), of_bert], [person(), BERT])
        assert [found[key].record for key in ("phone", "other")] == [record(), of_bert]

    @pytest.mark.parametrize(
        "written", [DEVICE_ID.lower(), DEVICE_ID.upper(), f" {DEVICE_ID}\t"], ids=["lower", "upper", "with spaces"]
    )
    def test_2_ids_are_compared_without_case_and_spaces(self, written: str) -> None:
        assert matched(records=[record(eas_device_id=written)]).outcome is Outcome.MATCHED
        assert matched(phone(device_id=written)).outcome is Outcome.MATCHED

    def test_2_letters_are_not_folded_together(self) -> None:
        assert matched(phone(device_id="Straße"), [record(eas_device_id="Strasse")]).outcome is Outcome.UNMATCHED

    @pytest.mark.parametrize("part", [DEVICE_ID[:-1], DEVICE_ID[1:], DEVICE_ID + "0", "Appl"])
    def test_3_a_part_of_an_id_is_another_id(self, part: str) -> None:
        assert matched(phone(device_id=part)).outcome is Outcome.UNMATCHED

    @pytest.mark.parametrize(
        "nothing", ["", " ", "0", "00000000000000000000000000000000", "{00000000-0000-0000-0000-000000000000}"]
    )
    def test_5_ids_that_say_nothing_never_match(self, nothing: str) -> None:
        assert matched(phone(device_id=nothing), [record(eas_device_id=nothing)]).outcome is Outcome.UNMATCHED

    def test_6_one_record_may_be_two_phones(self) -> None:
        """Native mail and another app: the record's own id, and one that a person linked."""
        link = Link("anna", "second", "record")
        found = match([phone(), phone(key="app", device_id="second")], [mailbox()], [record()], [person()], [link])
        assert {key: this.record for key, this in found.items()} == {"phone": record(), "app": record()}


USER_CASES = {
    "sid": ({"sid": "S-1-5-21-1-2-3-4"}, {"sid": "s-1-5-21-1-2-3-4"}, UserKey.SID),
    "sid of a linked mailbox": (
        {"sid": "S-1-5-21-9-9-9-1", "master_sid": "S-1-5-21-1-2-3-4"}, {"sid": "S-1-5-21-1-2-3-4"}, UserKey.SID),
    "immutable id": ({"immutable_id": "aGVsbG8="}, {"immutable_id": "aGVsbG8="}, UserKey.IMMUTABLE_ID),
    "domain and account": (
        {"domain": "Contoso.test", "sam": "Anna"}, {"domain": "contoso.TEST", "sam": "anna"}, UserKey.DOMAIN_SAM),
    "primary address": ({"primary_smtp": "A.Nna@contoso.test"}, {"mail": "a.nna@CONTOSO.test"}, UserKey.SMTP),
    "proxy address of the mailbox": (
        {"proxies": ("X500:/o=x", "smtp:old@contoso.test")}, {"mail": "old@contoso.test"}, UserKey.SMTP),
    "proxy address of the person": (
        {"primary_smtp": "x@contoso.test"}, {"proxies": ("SMTP:x@contoso.test",)}, UserKey.SMTP),
    "upn": ({"upn": "anna@contoso.test"}, {"upn": "ANNA@contoso.test"}, UserKey.UPN),
    "on-premises upn": (
        {"upn": "anna@ad.test"}, {"upn": "x@cloud.test", "on_premises_upn": "anna@ad.test"}, UserKey.UPN),
}  # fmt: skip
NOT_CASES = {
    "immutable ids differ in case": ({"immutable_id": "aGVsbG8="}, {"immutable_id": "AGVsbG8="}),
    "account without its domain": ({"sam": "anna"}, {"sam": "anna"}),
    "account of another domain": ({"domain": "a.test", "sam": "anna"}, {"domain": "b.test", "sam": "anna"}),
    "an X500 address": ({"proxies": ("X500:/o=x",)}, {"proxies": ("X500:/o=x",)}),
    "an address, but another account of the domain": (
        {"primary_smtp": "a@contoso.test", "sid": "S-1-5-21-1-2-3-4"},
        {"mail": "a@contoso.test", "sid": "S-1-5-21-1-2-3-5"}),
    "nothing in common": ({"upn": "anna@contoso.test"}, {"upn": "bert@contoso.test"}),
    "nothing at all": ({}, {}),
}  # fmt: skip


class TestPerson:
    """Rule 4."""

    @pytest.mark.parametrize(("box", "user", "by"), USER_CASES.values(), ids=USER_CASES.keys())
    def test_agreement(self, box: dict[str, Any], user: dict[str, Any], by: UserKey) -> None:
        found = matched(of=Mailbox("anna", "guid", **box), users=[DirectoryUser("user-anna", **user)])
        assert (found.outcome, found.user_by) == (Outcome.MATCHED, by)

    @pytest.mark.parametrize(("box", "user"), NOT_CASES.values(), ids=NOT_CASES.keys())
    def test_no_agreement(self, box: dict[str, Any], user: dict[str, Any]) -> None:
        found = matched(of=Mailbox("anna", "guid", **box), users=[DirectoryUser("user-anna", **user)])
        assert found.person is None
        assert found.outcome is not Outcome.MATCHED

    def test_the_safest_key_decides(self) -> None:
        """The address went to Bert when Anna changed her name: her SID still says who she is."""
        box = mailbox(sid="S-1-5-21-1-2-3-4", primary_smtp="a@contoso.test")
        anna, bert = DirectoryUser("user-anna", sid="S-1-5-21-1-2-3-4"), DirectoryUser("bert", mail="a@contoso.test")
        found = matched(of=box, users=[bert, anna])
        assert (found.person, found.user_by) == (anna, UserKey.SID)

    def test_a_later_key_tells_two_people_apart(self) -> None:
        box = mailbox(primary_smtp="shared@contoso.test", upn="anna@contoso.test")
        anna = DirectoryUser("user-anna", mail="shared@contoso.test", upn="anna@contoso.test")
        assert matched(of=box, users=[anna, DirectoryUser("bert", mail="shared@contoso.test")]).person == anna

    def test_two_people_name_nobody(self) -> None:
        users = [person(), DirectoryUser("double", mail="anna@contoso.test")]
        found = matched(users=users)
        assert (found.outcome, found.person) == (Outcome.AMBIGUOUS, None)
        assert matched(users=users, records=[]).outcome is Outcome.UNMATCHED

    def test_4_another_persons_record_is_a_warning(self) -> None:
        theirs = record(user="user-bert")
        found = matched(records=[theirs], users=[person(), BERT])
        assert (found.outcome, found.record, found.person) == (Outcome.OTHER_PERSONS, theirs, person())

    def test_4_a_record_of_nobody_proves_nothing(self) -> None:
        assert matched(records=[record(user=None)]).outcome is Outcome.UNMATCHED

    def test_a_record_names_its_person_by_text(self) -> None:
        by_upn, by_mail = record(user=None, upn="Anna@contoso.test"), record(user=None, email="SMTP:anna@contoso.test")
        assert matched(records=[by_upn]).outcome is Outcome.MATCHED
        assert matched(records=[by_mail]).outcome is Outcome.MATCHED

    @pytest.mark.parametrize("name", ["upn", "email"])
    def test_a_text_that_several_people_share_names_the_mailbox_that_has_it(self, name: str) -> None:
        """A phone that went from one to another must not be let in for both by one record."""
        bert = DirectoryUser("user-bert", mail="bert@contoso.test", proxies=("smtp:anna@contoso.test",), sid="S-2")
        anna = person(sid="S-1")
        shared = record(user=None, **{name: "anna@contoso.test"})
        assert matched(records=[shared], users=[anna, bert], of=mailbox(sid="S-1")).record == shared
        his = mailbox(sid="S-2", primary_smtp="bert@contoso.test")
        found = matched(records=[shared], users=[anna, bert], of=his)
        assert (found.outcome, found.person) == (Outcome.OTHER_PERSONS, bert)

    def test_text_agrees_where_the_directory_knows_nobody(self) -> None:
        """Pushed records: no directory at all."""
        found = matched(records=[record(user=None, upn="anna@contoso.test")], users=[])
        assert (found.outcome, found.person) == (Outcome.MATCHED, None)

    def test_text_of_a_record_yields_to_its_key(self) -> None:
        """The record's person is Bert, whatever address it still carries."""
        theirs = record(user="user-bert", email="anna@contoso.test")
        assert matched(records=[theirs], users=[person(), BERT]).outcome is Outcome.OTHER_PERSONS

    def test_a_record_whose_person_has_gone_is_told_by_text_to_nobodys_mailbox_alone(self) -> None:
        lost = record(user="user-gone", upn="anna@contoso.test")
        assert matched(records=[lost]).outcome is Outcome.OTHER_PERSONS
        assert matched(records=[lost], users=[]).outcome is Outcome.MATCHED


OLD = {"key": "old", "enrolled": days(-300), "last_check_in": days(-200)}
NEW = {"key": "new", "enrolled": days(-10), "last_check_in": days(-1)}
DOUBLE_CASES = {
    "newer is compliant": (OLD | {"compliance": "noncompliant"}, NEW, "new"),
    "a compliant stale one does not speak": (OLD, NEW | {"compliance": "noncompliant"}, "new"),
    "enrolled at once, one checks in": (
        OLD | {"enrolled": days(-10)}, NEW | {"compliance": "noncompliant"}, "new"),
    "of one check-in, the later enrolment": (
        OLD | {"last_check_in": days(-1), "compliance": "error"}, NEW, "new"),
    "they contradict: enrolled later, checked in earlier": (
        OLD | {"last_check_in": days(0)}, NEW | {"compliance": "noncompliant"}, None),
    "nothing tells which is newer": (
        {"key": "old", "enrolled": None, "last_check_in": None},
        {"key": "new", "enrolled": None, "last_check_in": None, "compliance": "noncompliant"}, None),
    "nothing tells, but they agree": (
        {"key": "new", "enrolled": None, "last_check_in": None},
        {"key": "old", "enrolled": None, "last_check_in": None}, "old"),
    "they contradict in time, but agree": (OLD | {"last_check_in": days(0)}, NEW, "new"),
    "they contradict in time, and one is not registered": (
        OLD | {"last_check_in": days(0), "registered": False}, NEW, "old"),
    "an older one that is not registered says nothing": (OLD | {"registered": False}, NEW, "new"),
    "nothing tells, and the grace of one ends": (
        {"key": "old", "compliance": "inGracePeriod", "grace_until": days(1), "enrolled": None, "last_check_in": None},
        {"key": "new", "compliance": "inGracePeriod", "enrolled": None, "last_check_in": None}, "old"),
}  # fmt: skip


class TestDoubles:
    """Rules 7 and 8."""

    @pytest.mark.parametrize(("one", "other", "best"), DOUBLE_CASES.values(), ids=DOUBLE_CASES.keys())
    @pytest.mark.parametrize("is_turned", [False, True], ids=["", "turned round"])
    def test_7_newer_records_win(
        self, one: dict[str, Any], other: dict[str, Any], best: str | None, is_turned: bool
    ) -> None:
        records = [record(**one), record(**other)]
        found = matched(records=records[::-1] if is_turned else records)
        if best is None:
            assert (found.outcome, found.record, len(found.others)) == (Outcome.AMBIGUOUS, None, 2)
        else:
            assert found.record is not None
            assert (found.outcome, found.record.key, len(found.others)) == (Outcome.MATCHED, best, 1)

    def test_7_another_persons_newer_record_does_not_count(self) -> None:
        theirs = record(user="user-bert", **(NEW | {"compliance": "noncompliant"}))
        assert matched(records=[record(), theirs], users=[person(), BERT]).record == record()

    def test_8_a_record_that_one_listing_missed_is_there(self) -> None:
        missing = record(presence=Presence.MISSING)
        assert matched(records=[missing]).record == missing

    def test_a_record_that_only_repeats_exchange_is_none(self) -> None:
        assert matched(records=[record(agent="eas")]).outcome is Outcome.UNMATCHED
        assert matched(records=[record(agent="easMdm")]).outcome is Outcome.MATCHED


class TestLinks:
    def test_a_persons_word_needs_no_id(self) -> None:
        found = matched(phone(device_id="other"), links=[Link("anna", "OTHER", "record")])
        assert (found.outcome, found.device_by) == (Outcome.MATCHED, DeviceBy.LINK)

    def test_nor_agreement(self) -> None:
        theirs = record(user="user-bert")
        found = matched(records=[theirs], users=[person(), BERT], links=[Link("anna", DEVICE_ID, "record")])
        assert (found.outcome, found.record, found.person) == (Outcome.MATCHED, theirs, person())

    def test_it_tells_whose_the_phone_is_where_the_mailbox_does_not(self) -> None:
        found = matched(of=Mailbox("anna", "guid"), links=[Link("anna", DEVICE_ID, "record")])
        assert found.person == person()

    def test_it_speaks_for_its_own_mailbox_alone(self) -> None:
        link = Link("bert", DEVICE_ID, "other")
        found = matched(records=[record(), record(key="other", user="user-bert")], links=[link])
        assert found.record == record()

    def test_a_link_to_a_record_that_is_gone_says_nothing(self) -> None:
        assert matched(links=[Link("anna", DEVICE_ID, "gone")]).device_by is DeviceBy.EAS_ID

    def test_linked_records_that_contradict_are_ambiguous(self) -> None:
        records = [record(**OLD | {"last_check_in": days(0)}), record(**NEW | {"compliance": "error"})]
        links = [Link("anna", DEVICE_ID, "old"), Link("anna", DEVICE_ID, "new")]
        assert matched(records=records, links=links).outcome is Outcome.AMBIGUOUS

    def test_what_was_unlinked_is_no_match(self) -> None:
        assert matched(links=[UNLINK]).outcome is Outcome.UNMATCHED

    def test_what_was_unlinked_leaves_the_next(self) -> None:
        assert matched(records=[record(), record(key="second", compliance="error")], links=[UNLINK]).record == record(
            key="second", compliance="error"
        )

    def test_what_was_unlinked_is_no_warning_either(self) -> None:
        theirs = record(user="user-bert")
        assert matched(records=[theirs], users=[person(), BERT], links=[UNLINK]).outcome is Outcome.UNMATCHED


NOT_ACTIVE_SYNC = {
    "client type Outlook": {"client_type": "Outlook"},
    "client type REST": {"client_type": "REST"},
    "client type MOWA": {"client_type": "MOWA"},
    "a client type never heard of": {"client_type": "Hologram"},
    "device type OutlookService": {"device_type": "OutlookService"},
    "Exchange 2010 tells no client type": {"client_type": "", "device_type": "Outlook"},
    "Outlook that speaks ActiveSync": {"model": "Outlook for iOS and Android"},
}
ACTIVE_SYNC = {
    "EAS": {},
    "in another case": {"client_type": "eas"},
    "Exchange 2010": {"client_type": ""},
    "Windows Mail": {"device_type": "WindowsMail", "model": "Virtual Machine"},
}


class TestClients:
    """Rules 10 and 11."""

    @pytest.mark.parametrize("changes", NOT_ACTIVE_SYNC.values(), ids=NOT_ACTIVE_SYNC.keys())
    def test_10_outlook_mobile_stays_out(self, changes: dict[str, Any]) -> None:
        assert not is_active_sync(phone(**changes))
        found = matched(phone(**changes))
        assert (found.outcome, found.record, found.person) == (Outcome.NOT_ACTIVE_SYNC, None, person())

    @pytest.mark.parametrize("changes", ACTIVE_SYNC.values(), ids=ACTIVE_SYNC.keys())
    def test_10_others_do_not(self, changes: dict[str, Any]) -> None:
        assert matched(phone(**changes)).outcome is Outcome.MATCHED

    def test_11_what_a_phone_says_of_itself_matches_nothing(self) -> None:
        """Model, system, IMEI and serial number fit, the id does not."""
        like = record(eas_device_id="", model="iPhone14C5", imei="490154203237518", serial=DEVICE_ID[4:])
        assert matched(phone(imei="490154203237518"), [like]).outcome is Outcome.UNMATCHED


def test_9_a_mailbox_that_is_not_known_is_nobodys() -> None:
    found = match([phone(mailbox="gone")], [mailbox()], [record()], [person()])
    assert (found["phone"].outcome, found["phone"].person) == (Outcome.OTHER_PERSONS, None)


def test_no_more_than_a_few_others_are_named() -> None:
    records = [record(key=number, enrolled=days(-number)) for number in range(50)]
    assert len(matched(records=records).others) == 5


KEYS = st.sampled_from(("user-anna", "user-bert", None))
RECORDS = st.lists(
    st.builds(
        ManagedDevice,
        key=st.integers(),
        user=KEYS,
        upn=st.sampled_from(("", "anna@contoso.test", "bert@contoso.test")),
        eas_device_id=st.sampled_from((DEVICE_ID, DEVICE_ID.lower(), "", "other")),
        compliance=st.sampled_from(("compliant", "noncompliant")),
        enrolled=st.none() | st.integers(-3, 0).map(days),
        last_check_in=st.none() | st.integers(-3, 0).map(days),
        agent=st.sampled_from(("", "eas")),
    ),
    max_size=5,
    unique_by=lambda record: record.key,
)
LINKS = st.lists(
    st.builds(Link, st.just("anna"), st.just(DEVICE_ID), st.just(1), st.sampled_from(LinkKind)), max_size=2
)


@given(RECORDS, LINKS)
def test_no_record_of_anybody_else_is_ever_a_match(records: list[ManagedDevice], links: list[Link]) -> None:
    """Whatever the records are, what matches by id is Anna's and has the id."""
    found = matched(records=records, users=[person(), BERT], links=links)
    if found.device_by is DeviceBy.EAS_ID and found.outcome is Outcome.MATCHED:
        assert found.record is not None
        assert found.record.eas_device_id.lower() == DEVICE_ID.lower()
        assert found.record.user == "user-anna" or (found.record.user, found.record.upn) == (None, "anna@contoso.test")
        assert found.record.agent != "eas"


@given(RECORDS, LINKS, st.randoms(use_true_random=False))
def test_no_input_needs_an_order(records: list[ManagedDevice], links: list[Link], random: object) -> None:
    def outcome(records: list[ManagedDevice], users: list[DirectoryUser]) -> tuple[object, ...]:
        found = matched(records=records, users=users, links=links)
        return found.outcome, found.record, found.person, found.device_by, found.user_by

    expected = outcome(records, [person(), BERT])
    for order in itertools.islice(itertools.permutations(records), 6):
        assert outcome(list(order), [BERT, person()]) == expected


def test_one_id_in_many_records_takes_no_square_of_time() -> None:
    """An MDM that gives each phone one id: 4,000 records and phones are matched within a few seconds."""
    numbers = range(4_000)
    boxes = [Mailbox(number, "", primary_smtp=f"p{number}@contoso.test") for number in numbers]
    users = [DirectoryUser(f"u{number}", mail=f"p{number}@contoso.test") for number in numbers]
    records = [record(key=number, user=f"u{number}") for number in numbers]
    devices = [EasDevice(number, number, DEVICE_ID) for number in numbers]
    begun = time.perf_counter()
    found = match(devices, boxes, records, users)
    assert all(found[number].record is records[number] for number in numbers)
    assert time.perf_counter() - begun < 10
