"""The page behind an enrolment link, as a browser meets it."""

from __future__ import annotations

import urllib.error
import urllib.parse
import urllib.request

import pytest

from tests.labs import Lab

_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


def _page(lab: Lab, tenant: str = "Contoso", **form: str) -> tuple[int, str]:
    data = urllib.parse.urlencode(form).encode() if form else None
    try:
        with _open(f"{lab.state['graph']['graph']}/enroll/{tenant}", data, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture
def somebody(lab: Lab) -> str:
    """The address of somebody in the directory."""
    return str(lab.call("GET", "graph/Contoso/users", limit=1)["users"][0]["mail"])


@pytest.mark.wire
def test_the_link_opens_a_form(lab: Lab) -> None:
    status, text = _page(lab)
    assert status == 200
    assert "<form" in text


@pytest.mark.wire
def test_who_enrols_has_a_compliant_record(lab: Lab, somebody: str) -> None:
    status, text = _page(lab, user=somebody, device="ApplENROLLED1")
    assert (status, "enrolled and compliant" in text) == (200, True)
    rows = lab.call("GET", "graph/Contoso/devices", user=somebody)["devices"]
    assert [row["complianceState"] for row in rows if row["easDeviceId"] == "ApplENROLLED1"] == ["compliant"]


@pytest.mark.wire
@pytest.mark.parametrize(
    ("tenant", "form", "status"),
    [
        pytest.param("Nowhere", {}, 404, id="no such tenant"),
        pytest.param("Contoso", {"user": "nobody@x.lab", "device": "A"}, 404, id="nobody of that address"),
    ],
)
def test_what_cannot_be_enrolled(lab: Lab, tenant: str, form: dict[str, str], status: int) -> None:
    assert _page(lab, tenant, **form)[0] == status


@pytest.mark.wire
def test_what_was_typed_comes_back_as_text(lab: Lab) -> None:
    _, text = _page(lab, user='"><script>alert(1)</script>', device="A")
    assert "<script>" not in text
