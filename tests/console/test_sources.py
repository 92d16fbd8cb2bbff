"""Pages of device records: choosing a source, importing files, making tokens; nothing secret shown, tenants apart."""

from __future__ import annotations

import datetime
import os
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse
from django.utils import timezone

from connectors.graph.errors import NotPermittedGraphError, StopGraphError
from connectors.graph.verification import Check
from connectors.models import DeviceSource, Tenant
from connectors.sources import Verified
from console.accounts.models import ApiToken
from console.uploads import BoundedUploadHandler
from sync.models import CsvImport, DirectoryGroup, GroupMember, ManagedDevice, PolicyVersion
from sync.policies.policy import GroupRef, TenantPolicyValues
from tests.console.conftest import Scene
from tests.console.test_connectors import text_of
from tests.factories import TenantFactory

pytestmark = pytest.mark.django_db

GUID = "11111111-2222-3333-4444-555555555555"
GRAPH = {
    "kind": "graph", "cloud": "global", "directory_id": "Contoso.onmicrosoft.com", "client_id": GUID,
    "credential": "secret", "client_secret": "S3cret~value", "secret_expires_on": "2099-01-31",
}  # fmt: skip
TEXT = "id,complianceState,userPrincipalName\nr1,compliant,ada@contoso.com\nr2,noncompliant,bo@contoso.com\n"


@pytest.fixture
def tenant(scene: Scene) -> Tenant:
    return scene.connector.organization.tenant


@pytest.fixture
def pushed(tenant: Tenant) -> DeviceSource:
    return DeviceSource.objects.create(tenant=tenant, kind=DeviceSource.Kind.PUSHED)


def address(name: str, found: Any) -> str:
    return reverse(name, args=[found.public_id])


def record(tenant: Tenant, number: int, **more: Any) -> ManagedDevice:
    now = timezone.now()
    values = {"source": "pushed", "source_id": f"r{number}", "upn": f"person{number}@contoso.com"}
    return ManagedDevice.objects.create(tenant=tenant, first_seen_at=now, changed_at=now, **{**values, **more})


class TestConfigure:
    def test_graph_is_chosen_and_its_secret_never_shown(self, scene: Scene, tenant: Tenant) -> None:
        browser = scene.client("administrator")
        answer = browser.post(address("source_configure", tenant), GRAPH, follow=True)
        html = answer.content.decode()
        assert "Press Test connection" in html
        source = DeviceSource.objects.get()
        assert (source.kind, source.directory_id, source.client_id) == ("graph", "contoso.onmicrosoft.com", GUID)
        assert source.client_secret.reveal() == "S3cret~value"
        assert source.credential_expires_at is not None
        for page in (html, browser.get(address("source_configure", tenant)).content.decode()):
            assert "S3cret" not in page
            assert "contoso.onmicrosoft.com" in page

    def test_an_empty_secret_keeps_the_stored_one(self, scene: Scene, tenant: Tenant) -> None:
        browser = scene.client("administrator")
        browser.post(address("source_configure", tenant), GRAPH)
        browser.post(address("source_configure", tenant), {**GRAPH, "client_secret": "", "cloud": "china"})
        source = DeviceSource.objects.get()
        assert (source.cloud, source.client_secret.reveal()) == ("china", "S3cret~value")

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"directory_id": "common x"}, "not a directory (tenant) ID"),
            ({"client_id": "my app"}, "not an application (client) ID"),
            ({"client_secret": GUID}, "the ID of a secret and not the secret itself"),
            ({"client_secret": ""}, "Enter the client secret"),
            ({"credential": "certificate"}, "Give the private key and the certificate"),
            ({"credential": "certificate", "certificate": "x"}, "cannot be used to sign in"),
            ({"graph_root": "http://graph.contoso.com"}, "cannot be used"),
            ({"kind": "x"}, "Select a valid choice"),
        ],
    )  # fmt: skip
    def test_what_cannot_work_is_refused_with_its_remedy(
        self, scene: Scene, tenant: Tenant, changes: dict[str, str], words: str
    ) -> None:
        answer = scene.client("administrator").post(address("source_configure", tenant), {**GRAPH, **changes})
        assert answer.status_code == 422
        assert words in text_of(answer.content.decode())
        assert not DeviceSource.objects.exists()

    def test_records_of_the_former_source_are_told_and_ended(
        self, scene: Scene, tenant: Tenant, pushed: DeviceSource
    ) -> None:
        record(tenant, 1, source="graph")
        browser = scene.client("administrator")
        assert "1 record of the former source is still listed" in text_of(
            browser.get(address("source", tenant)).content.decode()
        )
        browser.post(address("source_others", tenant))
        assert ManagedDevice.objects.get().presence == "gone"
        assert "still listed" not in browser.get(address("source", tenant)).content.decode()


class TestStanding:
    def graph(self, tenant: Tenant, **more: Any) -> DeviceSource:
        return DeviceSource.objects.create(
            tenant=tenant, kind="graph", directory_id="contoso.com", client_id=GUID, client_secret="S3cret", **more
        )

    def test_the_list_for_several_tenants_and_the_page_for_one(self, scene: Scene, tenant: Tenant) -> None:
        self.graph(tenant, last_error_code="graph_secret_expired", last_error_at=timezone.now())
        assert scene.client("reader").get(reverse("sources")).headers["Location"] == address("source", tenant)
        TenantFactory(name="Other")
        words = text_of(scene.client("superuser").get(reverse("sources")).content.decode())
        assert "Contoso" in words
        assert "Other" in words
        assert "None chosen" in words

    def test_what_went_wrong_is_told_with_its_remedy(self, scene: Scene, tenant: Tenant) -> None:
        self.graph(
            tenant, last_error_code="graph_permission_missing", last_error_params={"permission": "User.Read.All"}
        )
        html = scene.client("reader").get(address("source", tenant)).content.decode()
        assert "User.Read.All" in html
        assert "graph_permission_missing" in html

    @pytest.mark.parametrize(("days", "words"), [(-1, "has ended"), (10, "Make a new one in time"), (90, "")])
    def test_a_secret_that_ends(self, scene: Scene, tenant: Tenant, days: int, words: str) -> None:
        self.graph(tenant, credential_expires_at=timezone.now() + datetime.timedelta(days=days))
        html = text_of(scene.client("reader").get(address("source", tenant)).content.decode())
        assert ("has ended" in html, "Make a new one in time" in html) == (
            words == "has ended", words == "Make a new one in time",
        )  # fmt: skip

    def test_groups_of_the_policy(self, scene: Scene, tenant: Tenant) -> None:
        self.graph(tenant)
        content = TenantPolicyValues(included_groups=(GroupRef("g1", "Pilots"), GroupRef("g2", "Lost"))).to_json()
        PolicyVersion.objects.create(tenant=tenant, number=1, content=content, made_at=timezone.now(), made_by_name="A")
        group = DirectoryGroup.objects.create(tenant=tenant, source_id="g1", name="Pilots", read_at=timezone.now())
        GroupMember.objects.bulk_create(GroupMember(group=group, user_source_id=f"u{n}") for n in range(3))
        DirectoryGroup.objects.create(tenant=tenant, source_id="g2", name="Lost", error_code="graph_not_found")
        words = text_of(scene.client("reader").get(address("source", tenant)).content.decode())
        assert "No such group" in words
        assert "Pilots 3" in " ".join(words.split())

    def test_the_connection_is_tried_and_told(
        self, scene: Scene, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.graph(tenant)
        checks = (
            Check("sign_in"),
            Check("managed_devices", found=12),
            Check("users", NotPermittedGraphError("no", permission="User.Read.All")),
            Check("licences", found=0, is_warning=True),
        )
        monkeypatch.setattr("console.pages.sources.source_verify", lambda tenant: Verified(checks))
        words = text_of(scene.client("administrator").post(address("source_verify", tenant)).content.decode())
        for expected in ("Not everything works yet", "12 found", "User.Read.All", "license for Intune"):
            assert expected in words

    def test_a_connection_that_cannot_even_begin(self, scene: Scene, tenant: Tenant) -> None:
        self.graph(tenant, cloud="nowhere")
        words = text_of(scene.client("administrator").post(address("source_verify", tenant)).content.decode())
        assert "graph_bad_settings" in words
        error = StopGraphError("x", code="graph_bad_settings")
        assert Verified(error=error).is_ok is False

    def test_reading_is_asked_of_a_worker(self, scene: Scene, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
        self.graph(tenant)
        asked: list[int] = []
        monkeypatch.setattr("console.pages.sources.records_dispatch", asked.append)
        answer = scene.client("operator").post(address("source_read", tenant), follow=True)
        assert asked == [tenant.pk]
        assert "A worker reads the records now" in answer.content.decode()


class TestRecords:
    def test_searched_and_page_by_page(self, scene: Scene, tenant: Tenant, pushed: DeviceSource) -> None:
        for number in range(55):
            record(tenant, number, upn_key=f"person{number:02}", serial=f"SER{number}")
        record(TenantFactory(), 99)
        browser = scene.client("reader")
        html = browser.get(address("source_records", tenant)).content.decode()
        assert "1–50 of 55" in html
        assert "person99" not in html
        assert "person54@" in browser.get(address("source_records", tenant), {"page": 2}).content.decode()
        assert "1–1 of 1" in browser.get(address("source_records", tenant), {"q": "ser54"}).content.decode()
        assert (
            "No record matches" in browser.get(address("source_records", tenant), {"presence": "gone"}).content.decode()
        )

    def test_none_yet(self, scene: Scene, tenant: Tenant, pushed: DeviceSource) -> None:
        assert "No record yet" in scene.client("reader").get(address("source_records", tenant)).content.decode()


class TestImport:
    def upload(self, scene: Scene, tenant: Tenant, content: bytes = TEXT.encode(), who: str = "operator") -> Any:
        file = SimpleUploadedFile("phones <b>.csv", content, "text/csv")
        return scene.client(who).post(address("source_upload", tenant), {"file": file}, follow=True)

    def test_uploaded_shown_and_imported(self, scene: Scene, tenant: Tenant, pushed: DeviceSource) -> None:
        html = self.upload(scene, tenant).content.decode()
        assert "What the file would do" in html
        assert "phones &lt;b&gt;.csv" in html
        assert not ManagedDevice.objects.exists()
        kept = CsvImport.objects.get()
        browser = scene.client("administrator")
        answer = browser.post(address("record_import_apply", kept), follow=True)
        assert "Imported: 2 new, 0 changed" in answer.content.decode()
        assert ManagedDevice.objects.count() == 2
        again = browser.post(address("record_import_apply", kept), follow=True)
        assert "imported already" in again.content.decode()

    def test_bad_rows_are_listed_and_stop_all(self, scene: Scene, tenant: Tenant, pushed: DeviceSource) -> None:
        html = self.upload(scene, tenant, (TEXT + "r3,perhaps,<script>\n").encode()).content.decode()
        assert "perhaps" in html
        assert "<script>\n" not in html
        assert "Leave out 1 bad row" in html
        kept = CsvImport.objects.get()
        browser = scene.client("administrator")
        assert (
            "Nothing was imported" in browser.post(address("record_import_apply", kept), follow=True).content.decode()
        )
        assert not ManagedDevice.objects.exists()
        browser.post(address("record_import_apply", kept), {"leave_out_bad": "on"})
        assert ManagedDevice.objects.count() == 2

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", "The file is empty"),
            (b"name;state\nx;y\n", "does not name the column id, complianceState"),
            ("id,complianceState\nÄ,compliant\n".encode("latin-1"), "not UTF-8"),
        ],
    )
    def test_a_wrong_file(self, scene: Scene, tenant: Tenant, pushed: DeviceSource, content: bytes, words: str) -> None:
        answer = self.upload(scene, tenant, content)
        assert answer.status_code == 422
        assert words in text_of(answer.content.decode())
        assert not CsvImport.objects.exists()

    def test_no_file_at_all(self, scene: Scene, tenant: Tenant, pushed: DeviceSource) -> None:
        answer = scene.client("operator").post(address("source_upload", tenant))
        assert "Choose a file first" in answer.content.decode()

    def test_a_file_that_django_keeps_on_disk(
        self, scene: Scene, tenant: Tenant, pushed: DeviceSource, settings: Any, tmp_path: Path
    ) -> None:
        settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 10
        settings.FILE_UPLOAD_TEMP_DIR = str(tmp_path)
        assert "What the file would do" in self.upload(scene, tenant).content.decode()

    def test_a_million_rows_are_refused_at_once_and_in_words(
        self, scene: Scene, tenant: Tenant, pushed: DeviceSource
    ) -> None:
        rows = b"".join(b"r%d,compliant\n" % number for number in range(1_000_000))
        started = time.process_time()
        answer = self.upload(scene, tenant, b"id,complianceState\n" + rows)
        assert time.process_time() - started < 5
        assert answer.status_code == 422
        assert "The file has more than 50000 rows. Split it, or push the records through the API." in text_of(
            answer.content.decode()
        )
        assert not CsvImport.objects.exists()

    def test_what_goes_beyond_the_limit_is_kept_nowhere_and_told(
        self, scene: Scene, tenant: Tenant, pushed: DeviceSource, monkeypatch: pytest.MonkeyPatch, settings: Any
    ) -> None:
        settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 10
        monkeypatch.setattr("console.uploads.BYTE_LIMIT", 2**20)
        monkeypatch.setattr("sync.records.record_import.BYTE_LIMIT", 2**20)
        kept: list[int] = []

        class Watched(BoundedUploadHandler):
            def file_complete(self, file_size: int) -> Any:
                kept.append(os.stat(self.file.temporary_file_path()).st_size)
                return super().file_complete(file_size)

        monkeypatch.setattr("console.uploads.BoundedUploadHandler", Watched)
        answer = self.upload(scene, tenant, b"x" * (5 * 2**20 + 1))
        assert "The file has 6 MB; at most 1 are taken." in text_of(answer.content.decode())
        assert max(kept) <= 2**20
        assert "What the file would do" in self.upload(scene, tenant, who="administrator").content.decode()

    def test_a_request_carries_one_file_alone(self, scene: Scene, tenant: Tenant, pushed: DeviceSource) -> None:
        files = {name: SimpleUploadedFile(name, TEXT.encode()) for name in ("file", "another")}
        answer = scene.client("operator").post(address("source_upload", tenant), files)
        assert answer.status_code == 400
        assert not CsvImport.objects.exists()

    def test_not_where_records_come_from_elsewhere(self, scene: Scene, tenant: Tenant) -> None:
        assert self.upload(scene, tenant).status_code == 422
        assert (
            "Files can be imported only"
            in scene.client("administrator").get(address("source_upload", tenant)).content.decode()
        )

    def test_another_tenants_file_does_not_exist(self, scene: Scene, tenant: Tenant, pushed: DeviceSource) -> None:
        self.upload(scene, tenant)
        kept = CsvImport.objects.get()
        stranger = scene.client("stranger")
        assert stranger.get(address("record_import", kept)).status_code == 404
        assert stranger.post(address("record_import_apply", kept)).status_code == 404
        assert not ManagedDevice.objects.exists()


class TestTokens:
    def test_shown_once(self, scene: Scene, tenant: Tenant) -> None:
        browser = scene.client("administrator")
        body = {"name": "MDM", "role": "operator", "expires_on": "2099-01-31"}
        answer = browser.post(address("api_tokens", tenant), body)
        html = answer.content.decode()
        token = ApiToken.objects.get()
        assert token.expires_at == datetime.datetime(2099, 1, 31, 22, 59, 59, tzinfo=datetime.UTC)
        text = html.split('readonly value="')[1].split('"')[0]
        assert text.startswith(token.hint)
        assert "no-store" in answer.headers["Cache-Control"]
        again = browser.get(address("api_tokens", tenant)).content.decode()
        assert text not in again
        assert "MDM" in again

    def test_used_and_revoked(self, scene: Scene, tenant: Tenant) -> None:
        browser = scene.client("administrator")
        html = browser.post(address("api_tokens", tenant), {"name": "MDM", "role": "reader"}).content.decode()
        headers = {"Authorization": f"Bearer {html.split('readonly value=' + chr(34))[1].split(chr(34))[0]}"}
        assert browser.get("/api/v1/connectors", headers=headers).status_code == 200
        browser.post(reverse("api_token_revoke", args=[ApiToken.objects.get().public_id]))
        assert browser.get("/api/v1/connectors", headers=headers).status_code == 401
        assert "Revoked" in browser.get(address("api_tokens", tenant)).content.decode()

    def test_a_wrong_form(self, scene: Scene, tenant: Tenant) -> None:
        body = {"name": " ", "role": "operator", "expires_on": "2001-01-01"}
        answer = scene.client("administrator").post(address("api_tokens", tenant), body)
        assert answer.status_code == 422
        assert not ApiToken.objects.exists()

    def test_another_tenants_token_does_not_exist(self, scene: Scene, tenant: Tenant) -> None:
        scene.client("administrator").post(address("api_tokens", tenant), {"name": "MDM", "role": "reader"})
        stranger = scene.client("stranger")
        assert stranger.get(address("api_tokens", tenant)).status_code == 404
        assert stranger.post(reverse("api_token_revoke", args=[ApiToken.objects.get().public_id])).status_code == 404
        assert ApiToken.objects.get().revoked_at is None


def test_an_unknown_id_is_not_found(scene: Scene) -> None:
    for name in ("source", "record_import", "api_tokens"):
        assert scene.client("superuser").get(reverse(name, args=[uuid.UUID(int=5)])).status_code == 404
