"""What a dry run found, as a page and as a file; and that nobody else's is shown."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from sync.models import DryRun, DryRunLine, SyncRun
from tests.console.conftest import Scene
from tests.console.test_access_pages import count, get, rows_of
from tests.console.test_connectors import text_of
from tests.factories import (
    DeviceFactory,
    DryLineFactory,
    DryRunFactory,
    RunFactory,
)

pytestmark = pytest.mark.django_db
NAMES = r'table-name"[^>]*>(?:<bdi>)?(.*?)</bdi>'


@pytest.fixture
def scene(scene: Scene) -> Scene:
    """The same browser of a person each time."""
    return Scene(scene.connector, cache(scene.client))


def frozen(scene: Scene, **values: Any) -> DryRun:
    """Ada would be let in; Bob would wait; Cy stays; an entry of Di outlived her phone; one setting goes, one waits."""
    run = RunFactory(connector=scene.connector, is_dry_run=True, decided=3, commands_planned=3, held=1)
    usual = {
        "changed": 2, "held": 1, "unchanged": 1,
        "settings": ["Set-ActiveSyncOrganizationSettings -UserMailInsert"],
        "settings_held": ["Set-ActiveSyncOrganizationSettings -DefaultAccessLevel"],
    }  # fmt: skip
    found: DryRun = DryRunFactory(run=run, **{**usual, **values})
    ada = DeviceFactory(organization=scene.connector.organization)
    DryLineFactory(dry_run=found, person="Ada", device_public_id=ada.public_id, commands="Set-CASMailbox ada")
    denied = {"access": "block", "state": "blocked", "reason": "notEnrolled", "rule": "noRecord"}
    DryLineFactory(
        dry_run=found, person="=Bob", effect="held", commands="", commands_held="Set-CASMailbox bob", **denied
    )
    DryLineFactory(dry_run=found, person="Cy", effect="unchanged", commands="", **denied)
    DryLineFactory(
        dry_run=found, person="Di", device_public_id=None, access="", state="", reason="", rule="", access_state="",
        commands="Set-CASMailbox di", device_id="ApplGONE",
    )  # fmt: skip
    return found


def page(scene: Scene, found: DryRun, who: str = "reader", **query: str) -> str:
    return get(scene, "dry_run", found.run.public_id, who=who, **query)


class TestPage:
    def test_is_asked_for_by_a_button_and_says_that_nothing_is_changed(self, scene: Scene) -> None:
        address = reverse("connector_sync", args=[scene.connector.public_id])
        answer = scene.client("operator").post(address, {"kind": "fullSync", "dry": "1"}, follow=True)
        assert "Nothing in Exchange is changed" in answer.content.decode()
        run = SyncRun.objects.get()
        assert run.is_dry_run
        assert "Dry run" in get(scene, "run", run.public_id)
        assert "has not decided anything yet" in get(scene, "dry_run", run.public_id)
        again = scene.client("operator").post(address, {"kind": "fullSync", "dry": "1"}, follow=True)
        assert "A dry run is under way already" in again.content.decode()
        follows = scene.client("operator").post(address, {"kind": "fullSync"}, follow=True)
        assert "asked for a full sync" in follows.content.decode()

    def test_shows_commands_with_verdict_and_reason(self, scene: Scene) -> None:
        found = frozen(scene)
        assert reverse("dry_run", args=[found.run.public_id]) in get(scene, "run", found.run.public_id)
        html = page(scene, found)
        words = text_of(html)
        for shown in ("Set-CASMailbox ada", "Set-CASMailbox di", "-UserMailInsert", "Entry whose device is gone",
                      "Held back until somebody approves: Set-ActiveSyncOrganizationSettings -DefaultAccessLevel",
                      "Enrolled and compliant Rule 19: Enrolled and compliant, always allowed",
                      "1 device would newly lose mail, which is beyond the limit of 10 devices and 5 %, or 1,000 "
                      "devices: a run that acts"):  # fmt: skip
            assert shown in words, shown
        assert re.findall(NAMES, html) == ["Ada", "Di"]
        assert "Would change 2 Would wait 1 Unchanged 1 All devices 4" in words

    @pytest.mark.parametrize(
        ("query", "names"),
        [
            ({"shown": "changed"}, ["Ada", "Di"]),
            ({"shown": "held"}, ["=Bob"]),
            ({"shown": "unchanged"}, ["Cy"]),
            ({"shown": "all"}, ["Ada", "Di", "=Bob", "Cy"]),
            ({"shown": "all", "q": "applgone"}, ["Di"]),
            ({"shown": "all", "q": "bob phone"}, ["=Bob"]),
            ({"shown": "all", "q": "cy contoso.lab"}, ["Cy"]),
            ({"shown": "changed", "q": "bob"}, []),
            ({"shown": "x\0"}, ["Ada", "Di"]),
        ],
    )
    def test_filters_and_search(self, scene: Scene, query: dict[str, str], names: list[str]) -> None:
        assert re.findall(NAMES, page(scene, frozen(scene), **query)) == names

    def test_what_would_wait_is_listed_with_its_exact_command(self, scene: Scene) -> None:
        words = text_of(page(scene, frozen(scene), shown="held"))
        assert "Held back until somebody approves: Set-CASMailbox bob" in words
        # The rule says the same as the reason, and is not said twice.
        assert "Not enrolled Rule 11 " in words

    def test_a_device_that_is_gone_is_shown_without_a_link(self, scene: Scene) -> None:
        html = page(scene, frozen(scene), shown="all")
        assert len(re.findall(r'<a class="table-name"', html)) == 1

    def test_first_shows_what_there_is(self, scene: Scene) -> None:
        found = frozen(scene, changed=0)
        assert re.findall(NAMES, page(scene, found)) == ["=Bob"]
        DryRun.objects.update(held=0)
        assert len(re.findall(NAMES, page(scene, found))) == 4

    @pytest.mark.parametrize(
        ("values", "status", "said", "lines"),
        [
            ({"finished_at": None}, "running", "The run is under way", 2),
            ({"finished_at": None}, "failed", "what is shown here is a part. Start another", 2),
            ({"pruned_at": "now"}, "succeeded", "the newest 3 dry runs are kept that looked at everybody", 0),
            ({"withheld": ["recordsUnreadable"]}, "succeeded", "device records could not be read", 2),
            ({"is_whole": False}, "succeeded", "and not at everybody", 2),
        ],
    )
    def test_says_what_there_is_of_it(
        self, scene: Scene, values: dict[str, Any], status: str, said: str, lines: int
    ) -> None:
        found = frozen(scene, **{key: timezone.now() if value == "now" else value for key, value in values.items()})
        SyncRun.objects.filter(pk=found.pk).update(status=status)
        html = page(scene, found)
        assert said in text_of(html)
        assert len(re.findall(NAMES, html)) == lines
        assert ("Would change 2" in text_of(html)) == (lines > 0 and "finished_at" not in values)

    def test_of_a_run_that_kept_nothing(self, scene: Scene) -> None:
        run = RunFactory(connector=scene.connector, is_dry_run=True)
        assert "Nothing was kept of this run" in get(scene, "dry_run", run.public_id)
        answer: Any = scene.client("administrator").get(reverse("dry_run_csv", args=[run.public_id]))
        assert answer.url == reverse("dry_run", args=[run.public_id])

    def test_an_observing_connectors_full_sync_is_one(self, scene: Scene) -> None:
        run = RunFactory(connector=scene.connector)
        assert reverse("dry_run", args=[run.public_id]) not in get(scene, "run", run.public_id)
        DryRunFactory(run=run)
        assert reverse("dry_run", args=[run.public_id]) in get(scene, "run", run.public_id)

    def test_pages_and_queries_stay_the_same_however_many(self, scene: Scene) -> None:
        found = frozen(scene)
        browser, address = scene.client("reader"), reverse("dry_run", args=[found.run.public_id])
        few = count(browser, address)
        for _number in range(120):
            DryLineFactory(dry_run=found)
        assert count(browser, address) == few <= 10
        first, second = page(scene, found), page(scene, found, page="2")
        assert "Page 1 of 2" in text_of(first)
        names = re.findall(NAMES, first) + re.findall(NAMES, second)
        assert len(names) == len(set(names)) == 122


class TestFile:
    def test_every_device_with_what_was_not_sent_and_what_waits(self, scene: Scene) -> None:
        found = frozen(scene)
        rows = rows_of(scene.client("reader").get(reverse("dry_run_csv", args=[found.run.public_id])))
        by_person = {row[0]: row for row in rows[1:] if row[0]}
        assert by_person["Ada"][-3:] == ["Would change", "Set-CASMailbox ada", ""]
        assert by_person["'=Bob"][-3:] == ["Would wait", "", "Set-CASMailbox bob"]
        assert by_person["'=Bob"][5:9] == ["Block", "Blocked", "Not enrolled", "Rule 11"]
        assert by_person["Di"][2] == "Entry whose device is gone"
        assert by_person["Cy"][-3:] == ["Unchanged", "", ""]
        assert [(row[2], *row[-3:]) for row in rows[1:] if not row[0]] == [
            ("The whole organization", "Would change", "Set-ActiveSyncOrganizationSettings -UserMailInsert", ""),
            ("The whole organization", "Would wait", "", "Set-ActiveSyncOrganizationSettings -DefaultAccessLevel"),
        ]
        assert len({len(row) for row in rows}) == 1

    def test_nothing_in_it_is_run_by_a_spreadsheet(self, scene: Scene) -> None:
        found = frozen(scene)
        DryLineFactory(dry_run=found, person="Eve", device_name="=1+1", device_id="@x", mailbox="+m", commands="-c")
        rows = rows_of(scene.client("reader").get(reverse("dry_run_csv", args=[found.run.public_id])))
        eve = next(row for row in rows if row[0] == "Eve")
        assert (eve[1], eve[2], eve[3], eve[-2]) == ("'+m", "'=1+1", "'@x", "'-c")

    def test_it_is_read_some_at_a_time_in_one_query(self, scene: Scene) -> None:
        found = frozen(scene)
        DryRunLine.objects.bulk_create(
            DryRunLine(dry_run=found, person=f"P{number}", effect="unchanged") for number in range(3000)
        )
        answer: Any = scene.client("reader").get(reverse("dry_run_csv", args=[found.run.public_id]))
        with CaptureQueriesContext(connection) as queries:
            assert len(list(answer.streaming_content)) == 2 + 2 + 4 + 3000
        assert len(queries) == 1


def test_another_tenants_administrator_finds_neither_page_nor_file(scene: Scene) -> None:
    found = frozen(scene)
    for name in ("dry_run", "dry_run_csv"):
        assert scene.client("stranger").get(reverse(name, args=[found.run.public_id])).status_code == 404
