"""What a dry run keeps: verdicts as they were, the commands that were not sent, and those that would wait besides."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from connectors.actors import SETUP, Actor
from connectors.exchange import cmdlets
from connectors.models import Connector
from sync import runs
from sync.enforcing import dry_results
from sync.enforcing.approvals import approval_approve
from sync.enforcing.enforce import Enforcement
from sync.models import Approval, Command, DryRun, DryRunLine, ManagedDevice, MobileDevice, SyncRun
from sync.records.sources import RefreshReport
from sync.recover import runs_recover
from sync.services import sync_request
from sync.showing.dry_run import Standing, dry_lines, dry_of, standing
from tests.sync.access import enrolled, govern, organize, record
from tests.sync.exchange import FakeExchange, device, mailbox
from tests.sync.worlds import Killed, codes, lease_expire

Sync = Callable[..., SyncRun]
QUICK, APPLY = SyncRun.Kind.QUICK, SyncRun.Kind.APPLY
ADA = Actor(name="Ada")
CHANGED, HELD, UNCHANGED = DryRunLine.Effect.values


@pytest.fixture(autouse=True)
def _world(exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten devices with their mailboxes, looked at three mailboxes at a time; Exchange quarantines whom nothing else
    lets in."""
    exchange.put_people(*range(10))
    monkeypatch.setattr("sync.enforcing.loading.BLOCK", 3)
    monkeypatch.setattr(dry_results, "ROWS", 2)


def read(*numbers: int, **values: Any) -> RefreshReport:
    """What reading the records came to: those of these devices' mailboxes changed."""
    ids = [device(number).device_id for number in numbers]
    owners = MobileDevice.objects.filter(device_id__in=ids).values_list("owner", flat=True)
    return RefreshReport("graph", mailboxes=frozenset(owners), **values)


def settle() -> None:
    """As if all devices had last changed long ago."""
    MobileDevice.objects.update(changed_at=timezone.now() - datetime.timedelta(days=1))


def effects(run: SyncRun) -> dict[str, str]:
    return dict(DryRunLine.objects.filter(dry_run=run.pk).values_list("device_id", "effect"))


def texts(run: SyncRun, column: str) -> list[str]:
    """What devices' lines say, each command once."""
    rows = DryRunLine.objects.filter(dry_run=run.pk).values_list(column, flat=True)
    return sorted({text for row in rows for text in row.splitlines()})


def sent(run: SyncRun, kind: str = "mailboxEntries") -> list[str]:
    return sorted(Command.objects.filter(run=run, state="done", kind=kind).values_list("text", flat=True))


class TestFrozen:
    def test_each_device_with_its_verdict_and_the_command_not_sent(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        govern(connector)
        enrolled(connector, 0, 1)
        exchange.change_box(2, allowed_device_ids=("ID0002",))

        run = sync(is_dry_run=True)

        found = DryRun.objects.get()
        assert (found.pk, found.is_whole, found.changed, found.held, found.unchanged) == (run.pk, True, 2, 0, 8)
        assert standing(run, found) == Standing.WHOLE
        lines = {line.device_id: line for line in found.lines.all()}
        assert sorted(lines) == [f"ID{number:04d}" for number in range(10)]
        first = lines["ID0000"]
        assert first.commands == Command.objects.get(mailbox__guid=mailbox(0).guid).text
        assert "@{Add='ID0000'}" in first.commands
        assert (first.access, first.state, first.reason, first.rule, first.effect) == (
            "allow", "allowed", "compliant", "alwaysAllowed", CHANGED,
        )  # fmt: skip
        row = MobileDevice.objects.get(device_id="ID0000")
        assert (first.device_public_id, first.mailbox, first.access_state) == (
            row.public_id, "person0@contoso.com", row.access_state,
        )  # fmt: skip
        assert first.person == "Person 0"
        assert lines["ID0002"].hindered_by == "foreignAllow"
        assert {lines["ID0009"].commands, lines["ID0009"].commands_held} == {""}
        assert (run.commands_planned, run.commands_done) == (2, 2)

    def test_it_stays_as_it_was_whatever_comes(self, connector: Connector, exchange: FakeExchange, sync: Sync) -> None:
        govern(connector)
        enrolled(connector, 0, 1)
        run = sync(is_dry_run=True)
        kept = list(dry_lines(dry_of(run)).values())  # type: ignore[arg-type]

        ManagedDevice.objects.update(compliance="noncompliant")
        exchange.take(0, 5)
        sync()
        MobileDevice.objects.filter(device_id="ID0000").delete()

        assert list(dry_lines(dry_of(run)).values()) == kept  # type: ignore[arg-type]
        assert len(kept) == 10

    @pytest.mark.parametrize("level", ["Quarantine", "Allow"])
    def test_a_run_that_acts_sends_exactly_that(
        self, connector: Connector, exchange: FakeExchange, sync: Sync, level: str
    ) -> None:
        exchange.settings = exchange.settings.__class__(level, "", ())
        govern(connector)
        enrolled(connector, 0, 1, 2)
        enrolled(connector, 3, compliance="noncompliant")
        organize(connector, user_mail_insert="Call the desk", denial="block")

        dry = sync(is_dry_run=True)
        acting = sync()

        assert texts(dry, "commands") == sent(acting) != []
        assert texts(dry, "commands_held") == []
        assert DryRun.objects.get().settings == sent(acting, "settings") != []

    def test_entries_whose_device_is_gone_have_a_line_of_their_own(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        govern(connector)
        enrolled(connector, 4)
        sync()
        exchange.take(4)

        dry = sync(is_dry_run=True)

        line = DryRunLine.objects.get(dry_run=dry.pk, device_public_id=None)
        assert (line.device_id, line.mailbox, line.rule, line.effect) == ("ID0004", "person4@contoso.com", "", CHANGED)
        assert "@{Remove='ID0004'}" in line.commands

    @pytest.mark.parametrize("by", ["run", "connector"])
    def test_a_quick_one_keeps_whom_it_looked_at(
        self, connector: Connector, exchange: FakeExchange, sync: Sync, by: str
    ) -> None:
        govern(connector)
        sync()
        enrolled(connector, 7)
        settle()
        if by == "connector":
            Connector.objects.update(is_observe_only=True)

        run = sync(QUICK, is_dry_run=by == "run", records=read(7))

        found = DryRun.objects.get()
        assert (found.pk, found.is_whole, found.changed) == (run.pk, False, 1)
        assert effects(run) == {"ID0007": CHANGED}

    @pytest.mark.parametrize("is_dry", [True, False])
    def test_whatever_it_would_send_by_mistake_is_refused(
        self,
        connector: Connector,
        exchange: FakeExchange,
        sync: Sync,
        monkeypatch: pytest.MonkeyPatch,
        is_dry: bool,
    ) -> None:
        govern(connector)

        def mistaken(wanted: Enforcement) -> None:
            with (
                wanted.open_sessions(wanted.connector, role="act") as sessions,
                sessions.open(should_stop=lambda: False) as client,
            ):
                client.set_mailbox_entries(cmdlets.Identity(str(mailbox(0).guid)), allowed_add=("ID0000",))

        monkeypatch.setattr("sync.enforcing.second_half.enforce", mistaken)

        run = sync(is_dry_run=is_dry)

        assert (run.error_code, len(exchange.written)) == (("observe_only", 0) if is_dry else ("", 1))

    def test_a_run_that_acts_keeps_nothing(self, connector: Connector, sync: Sync) -> None:
        govern(connector)
        enrolled(connector, 0)

        run = sync()

        assert not DryRun.objects.exists()
        assert standing(run, dry_of(run)) == Standing.NOTHING


class TestHeld:
    def test_of_one_mailbox_a_part_goes_and_a_part_waits(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        govern(connector, guard_devices=1, guard_percent=1.0)
        enrolled(connector, 0, 1, 2)
        sync()
        ManagedDevice.objects.update(compliance="noncompliant")
        second = device(
            20,
            distinguished_name=f"CN=Pad§20,CN=ExchangeActiveSyncDevices,{mailbox(0).distinguished_name}",
            mailbox=mailbox(0).identity,
        )
        exchange.put(second)
        record(connector, 20, user_source_id="user-0")

        dry = sync(is_dry_run=True)

        assert effects(dry) == {f"ID{n:04d}": HELD if n < 3 else UNCHANGED for n in range(10)} | {"ID0020": CHANGED}
        lines = {line.device_id: line for line in DryRunLine.objects.filter(dry_run=dry.pk)}
        assert "Add='ID0020'" in lines["ID0020"].commands
        assert (lines["ID0000"].commands, lines["ID0020"].commands_held) == ("", "")
        assert "Remove='ID0000'" in lines["ID0000"].commands_held
        assert dry.held == DryRun.objects.get().held == 3
        assert not Approval.objects.exists()

        acting = sync()
        assert texts(dry, "commands") == sent(acting)
        approval_approve(approval=Approval.objects.get(), actor=ADA)
        assert texts(dry, "commands_held") == sent(sync(APPLY))

    def _flip(self, connector: Connector, exchange: FakeExchange, **limits: Any) -> None:
        """Everybody is let in by Exchange's default, which is to block; two have a record."""
        exchange.settings = exchange.settings.__class__("Allow", "", ())
        govern(connector, **limits)
        organize(connector, default_level="block", denial="block")
        enrolled(connector, 0, 1)

    def test_a_setting_that_waits_with_all_that_comes_with_it(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        self._flip(connector, exchange, guard_devices=1, guard_percent=1.0)

        dry = sync(is_dry_run=True)

        found = DryRun.objects.get()
        assert (found.settings, len(found.settings_held), found.held, found.changed) == ([], 1, 10, 0)
        assert "-DefaultAccessLevel 'Block'" in found.settings_held[0]
        assert not Command.objects.exists()
        assert "nothing_may_be_done" in codes(dry)
        by_id = {line.device_id: line for line in found.lines.all()}
        assert "Add='ID0000'" in by_id["ID0000"].commands_held
        assert (by_id["ID0009"].commands_held, by_id["ID0009"].state) == ("", "blocked")

        sync()
        approval_approve(approval=Approval.objects.get(), actor=ADA)
        acting = sync(APPLY)
        assert texts(dry, "commands_held") == sent(acting)
        assert found.settings_held == sent(acting, "settings")

    def test_a_setting_that_would_be_sent_changes_whom_it_denies(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        self._flip(connector, exchange, guard_devices=100)

        dry = sync(is_dry_run=True)

        found = DryRun.objects.get()
        assert (found.changed, found.held, len(found.settings), found.settings_held) == (10, 0, 1, [])
        assert set(effects(dry).values()) == {CHANGED}
        acting = sync()
        assert texts(dry, "commands") == sent(acting)
        assert found.settings == sent(acting, "settings")

    def test_nobody_is_kept_out_on_records_that_were_never_read(
        self, connector: Connector, exchange: FakeExchange, sync: Sync
    ) -> None:
        govern(connector)
        enrolled(connector, 0, 1)
        sync()
        ManagedDevice.objects.update(compliance="noncompliant")

        dry = sync(is_dry_run=True, records=read(error_code="graph_unavailable", is_complete=False))

        found = DryRun.objects.get()
        assert (found.withheld, found.held) == (["recordsUnreadable"], 2)
        assert [text.count("Remove=") for text in texts(dry, "commands_held")] == [1, 1]


class TestTakenUpAgain:
    @pytest.mark.parametrize(("place", "nth"), [("_insert", 1), ("_insert", 5), ("_observe", 2), ("_prune", 1)])
    def test_killed_anywhere_it_leaves_no_doubles(
        self,
        connector: Connector,
        exchange: FakeExchange,
        sync: Sync,
        monkeypatch: pytest.MonkeyPatch,
        place: str,
        nth: int,
    ) -> None:
        monkeypatch.setattr("sync.recover.run_dispatch", lambda run: None)
        govern(connector)
        enrolled(connector, *range(8))
        organize(connector, user_mail_insert="Call the desk")
        whole = sync(is_dry_run=True)
        expected = _kept(whole)
        assert len(expected[0]) == 10
        run = sync_request(connector=connector, kind="fullSync", trigger="button", actor=SETUP, is_dry_run=True).run
        real, calls = getattr(dry_results, place), []

        def killed(*arguments: Any) -> Any:
            calls.append(1)
            real(*arguments)
            if len(calls) == nth:
                raise Killed

        monkeypatch.setattr(dry_results, place, killed)
        with pytest.raises(Killed):
            _do(run, exchange)
        monkeypatch.setattr(dry_results, place, real)
        run.refresh_from_db()
        found = dry_of(run)
        assert standing(run, found) == (Standing.WHOLE if place == "_prune" else Standing.UNDER_WAY)
        lease_expire(run)
        runs_recover()
        run.refresh_from_db()
        _do(run, exchange)

        run.refresh_from_db()
        assert (run.status, run.attempt) == ("succeeded", 2)
        assert standing(run, dry_of(run)) == Standing.WHOLE
        assert _kept(run) == expected

    def test_given_up_it_says_that_it_is_a_part(
        self, connector: Connector, exchange: FakeExchange, sync: Sync, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        govern(connector)
        enrolled(connector, *range(8))

        def fail(*arguments: Any) -> None:
            raise RuntimeError("of a test")

        monkeypatch.setattr(dry_results, "_observe", fail)

        run = sync(is_dry_run=True)

        assert run.status == "failed"
        assert standing(run, dry_of(run)) == Standing.CUT_OFF
        assert DryRunLine.objects.filter(dry_run=run.pk).exists()


def _do(run: SyncRun, exchange: FakeExchange) -> None:
    runs.run_execute(run.pk, open_exchange=exchange.open, open_sessions=exchange.open_sessions_of, owner="w/1")


def _kept(run: SyncRun) -> tuple[list[Any], list[Any], Any]:
    columns = ("device_id", "effect", "commands", "commands_held", "state")
    return (
        sorted(DryRunLine.objects.filter(dry_run=run.pk).values_list(*columns)),
        sorted(Command.objects.filter(run=run).values_list("subject", "text", "state")),
        DryRun.objects.filter(pk=run.pk).values("changed", "held", "unchanged", "settings").get(),
    )


class TestPruned:
    @pytest.fixture(autouse=True)
    def _few(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(dry_results, "KEPT", 2)
        monkeypatch.setattr(dry_results, "KEPT_PARTS", 1)

    def test_the_newest_few_are_kept_and_the_others_say_so(self, connector: Connector, sync: Sync) -> None:
        govern(connector)
        enrolled(connector, 0)
        made = [sync(is_dry_run=True) for _ in range(4)]

        standings = [standing(run, dry_of(run)) for run in made]

        assert standings == [Standing.PRUNED, Standing.PRUNED, Standing.WHOLE, Standing.WHOLE]
        assert [DryRunLine.objects.filter(dry_run=run.pk).count() for run in made] == [0, 0, 10, 10]
        assert [run.commands.count() for run in made] == [0, 0, 1, 1]
        found = dry_of(made[0])
        assert found is not None
        assert (found.changed, found.unchanged) == (1, 9)
        assert not dry_lines(found).exists()

    def test_quick_ones_push_no_whole_one_out(self, connector: Connector, sync: Sync) -> None:
        govern(connector)
        sync()
        enrolled(connector, 7)
        whole = sync(is_dry_run=True)
        settle()
        quick = [sync(QUICK, is_dry_run=True, records=read(7)) for _ in range(3)]

        assert [DryRunLine.objects.filter(dry_run=run.pk).count() for run in (whole, *quick)] == [10, 0, 0, 1]

    def test_what_was_sent_stays_in_the_journal(self, connector: Connector, sync: Sync) -> None:
        govern(connector)
        enrolled(connector, 0)
        acting = sync()
        # As a command that was on its way when the connector was switched to observing.
        refused = Command.objects.get(run=acting)
        first = sync(is_dry_run=True)
        Command.objects.filter(pk=refused.pk).update(run=first, state="observed")
        for _ in range(3):
            sync(is_dry_run=True)

        assert standing(first, dry_of(first)) == Standing.PRUNED
        assert list(first.commands.all()) == [refused]

    def test_cut_off_in_between_the_next_one_goes_on(
        self, connector: Connector, sync: Sync, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        govern(connector)
        enrolled(connector, 0)
        made = [sync(is_dry_run=True) for _ in range(2)]
        real = dry_results._empty

        def fail(run: int, lease: Any) -> None:
            if run == made[0].pk:
                raise RuntimeError("of a test")
            real(run, lease)

        monkeypatch.setattr(dry_results, "_empty", fail)
        assert sync(is_dry_run=True).status == "failed"
        assert standing(made[0], dry_of(made[0])) == Standing.PRUNED
        assert DryRunLine.objects.filter(dry_run=made[0].pk).exists()
        monkeypatch.setattr(dry_results, "_empty", real)

        sync(is_dry_run=True)

        assert not DryRunLine.objects.filter(dry_run__in=[run.pk for run in made]).exists()

    def test_another_organizations_stay(self, connector: Connector, sync: Sync) -> None:
        from tests.connectors import factories

        other = SyncRun.objects.create(
            connector=factories.connector(name="Branch"), kind="fullSync", trigger="button", status="succeeded",
            queued_at="2026-01-01T00:00:00Z", is_dry_run=True,
        )  # fmt: skip
        kept = DryRun.objects.create(
            run=other, organization=other.connector.organization, is_whole=True, begun_at=other.queued_at,
            limit_devices=1, limit_percent=1.0,
        )  # fmt: skip
        DryRunLine.objects.create(dry_run=kept, effect=CHANGED)
        govern(connector)
        for _ in range(3):
            sync(is_dry_run=True)

        assert kept.lines.count() == 1
