"""EWS and Autodiscover: a message gets into the mailbox it is for, and whoever looks for EWS finds it."""

from __future__ import annotations

import http.client
from base64 import b64decode, b64encode
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import pytest
import requests
import spnego

from tests.labs import Lab, Organization

pytestmark = pytest.mark.wire
T = "{http://schemas.microsoft.com/exchange/services/2006/types}"
M = "{http://schemas.microsoft.com/exchange/services/2006/messages}"
E = "{http://schemas.microsoft.com/exchange/services/2006/errors}"
A = "{http://schemas.microsoft.com/exchange/2010/Autodiscover}"
POX = "{http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a}"
REQUEST = """<?xml version="1.0"?>
<soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"
 xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types"
 xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages">
 <soap:Header><t:RequestServerVersion Version="{version}"/>{header}</soap:Header>
 <soap:Body><m:CreateItem MessageDisposition="{disposition}">
  <m:SavedItemFolderId><t:DistinguishedFolderId Id="sentitems"/></m:SavedItemFolderId>
  <m:Items><t:Message><t:Subject>{subject}</t:Subject><t:Body BodyType="HTML">{body}</t:Body>
   <t:ToRecipients>{recipients}</t:ToRecipients>{sender}</t:Message></m:Items>
 </m:CreateItem></soap:Body></soap:Envelope>"""


def address(text: str) -> str:
    return f"<t:Mailbox><t:EmailAddress>{escape(text)}</t:EmailAddress></t:Mailbox>"


def send(organization: Organization, *recipients: str, role: str = "notification", **changes: str) -> requests.Response:
    values = {
        "version": "Exchange2010_SP2", "header": "", "disposition": "SendAndSaveCopy", "subject": "Enrol, 請",
        "sender": "",
        "body": escape("<p>Zoë’s 📱</p>"), "recipients": "".join(map(address, recipients)),
    } | changes  # fmt: skip
    body = changes.get("raw", REQUEST.format(**values))
    account, server = organization.account(role), organization.servers[0]
    return requests.post(
        f"https://127.0.0.1:{server.https_port}/EWS/Exchange.asmx", body.encode(), verify=organization.lab.ca,
        auth=(account.user, account.password), headers={"Content-Type": "text/xml; charset=utf-8"}, timeout=10,
    )  # fmt: skip


def response_code(answer: requests.Response) -> str:
    root = ElementTree.fromstring(answer.content)
    found = root.find(f".//{M}ResponseCode")
    return str((found if found is not None else root.find(f".//{E}ResponseCode")).text)  # type: ignore[union-attr]


def test_a_message_arrives_and_a_copy_stays(lab: Lab) -> None:
    organization = lab.organization("SE")
    person = organization.mailboxes()[0]
    answer = send(organization, person["smtp"])
    assert (answer.status_code, response_code(answer)) == (200, "NoError")
    root = ElementTree.fromstring(answer.content)
    assert root.find(f".//{T}ServerVersionInfo").attrib == {  # type: ignore[union-attr]
        "MajorVersion": "15", "MinorVersion": "2", "MajorBuildNumber": "2562", "MinorBuildNumber": "17",
    }  # fmt: skip
    got = organization.messages(person["smtp"])[-1]
    assert (got["sender"], got["subject"], got["body"], got["body_type"], got["folder"]) == (
        f"notify@{organization.domain}", "Enrol, 請", "<p>Zoë’s 📱</p>", "HTML", "inbox",
    )  # fmt: skip
    kept = organization.messages("notify")[-1]
    assert (kept["folder"], kept["recipients"]) == ("sentitems", [person["smtp"]])
    # It does not show up on the sender's phone, but on the receiver's.
    assert "Enrol, 請" in organization.phone(person["upn"], "READER")["mail"]


def test_dispositions(lab: Lab) -> None:
    organization = lab.organization("2016")
    person = organization.mailboxes()[0]["smtp"]
    before = len(organization.messages("notify")), len(organization.messages(person))
    send(organization, person, disposition="SendOnly")
    assert (len(organization.messages("notify")), len(organization.messages(person))) == (before[0], before[1] + 1)
    saved = send(organization, person, disposition="SaveOnly")
    assert b"ItemId" in saved.content
    assert (len(organization.messages("notify")), len(organization.messages(person))) == (before[0] + 1, before[1] + 1)


REFUSED: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "no mailbox of its own": ("SE", {"role": "connector"}, 500, "ErrorNonExistentMailbox"),
    "too new a schema": ("2013", {"version": "Exchange2016"}, 500, "ErrorInvalidServerVersion"),
    "no such schema": ("SE", {"version": "Exchange2050"}, 500, "ErrorSchemaValidation"),
    "no such disposition": ("SE", {"disposition": "Send"}, 500, "ErrorSchemaValidation"),
    "no recipient": ("SE", {"recipients": ""}, 200, "ErrorInvalidRecipients"),
    "a recipient that is none": ("SE", {"recipients": address("nobody")}, 200, "ErrorInvalidRecipients"),
    "somebody else's name": (
        "SE", {"sender": f"<t:From>{address('boss@ese.lab')}</t:From>"}, 200, "ErrorSendAsDenied"),
    "impersonation": (
        "SE", {"header": "<t:ExchangeImpersonation/>"}, 500, "ErrorImpersonateUserDenied"),
    "no XML": ("SE", {"raw": "hello"}, 500, "ErrorInvalidRequest"),
    "namespaces with https, as some documents have them": (
        "SE", {"raw": REQUEST.replace("http://schemas.microsoft", "https://schemas.microsoft")}, 500,
        "ErrorInvalidRequest"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_refused(lab: Lab, case: tuple[str, dict[str, Any], int, str]) -> None:
    version, changes, status, code = case
    answer = send(lab.organization(version), "x@y.test", **changes)
    assert (answer.status_code, response_code(answer)) == (status, code)


def test_sign_in_to_ews(lab: Lab) -> None:
    organization = lab.organization("2019")
    url = f"https://127.0.0.1:{organization.servers[0].https_port}/EWS/Exchange.asmx"
    answer = requests.post(url, b"", verify=lab.ca, timeout=10)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].replace(" ", "").startswith("Negotiate,NTLM,Basic")
    account, server = organization.account("notification"), organization.servers[0]
    body = REQUEST.format(version="Exchange2016", header="", disposition="SendOnly", subject="x", body="y", sender="",
                          recipients=address(f"notify@{organization.domain}"))  # fmt: skip
    client = spnego.client(account.user, account.password, hostname="127.0.0.1", service="HTTP", protocol="ntlm")
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=10)
    token = client.step()
    for status in (401, 200):
        headers = {"Authorization": f"NTLM {b64encode(token or b'').decode()}", "Content-Type": "text/xml"}
        connection.request("POST", "/EWS/Exchange.asmx", body.encode() if status == 200 else b"", headers)
        reply = connection.getresponse()
        text = reply.read()
        assert reply.status == status
        if status == 401:
            challenge = next(one for one in reply.headers.get_all("WWW-Authenticate", []) if one.startswith("NTLM "))
            token = client.step(b64decode(challenge[5:]))
    assert b"NoError" in text
    connection.close()


# --- Autodiscover -----------------------------------------------------------------------------------------------


def autodiscover(organization: Organization, path: str, body: str | None = None) -> requests.Response:
    account = organization.account("notification")
    url = f"https://127.0.0.1:{organization.servers[0].https_port}/autodiscover/{path}"
    if body is None:
        return requests.get(url, verify=organization.lab.ca, timeout=10)
    headers = {"Content-Type": "text/xml; charset=utf-8"}
    return requests.post(url, body.encode(), verify=organization.lab.ca, auth=(account.upn, account.password),
                         headers=headers, timeout=10)  # fmt: skip


def ews_url(organization: Organization) -> str:
    return f"https://127.0.0.1:{organization.servers[0].https_port}/EWS/Exchange.asmx"


POX_REQUEST = """<Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006">
<Request><EMailAddress>{address}</EMailAddress><AcceptableResponseSchema>{schema}</AcceptableResponseSchema></Request>
</Autodiscover>"""


def test_pox(lab: Lab) -> None:
    organization = lab.organization("2010")
    person = organization.mailboxes()[0]["smtp"]
    root = ElementTree.fromstring(
        autodiscover(organization, "autodiscover.xml", POX_REQUEST.format(address=person, schema=POX[1:-1])).content
    )
    assert root.findtext(f".//{POX}Action") == "settings"
    assert root.findtext(f".//{POX}AutoDiscoverSMTPAddress") == person
    found = {one.findtext(f"{POX}Type"): one.findtext(f"{POX}EwsUrl") for one in root.iter(f"{POX}Protocol")}
    assert found == {"EXCH": ews_url(organization), "EXPR": ews_url(organization)}


POX_ERRORS = {"no address": ("", POX[1:-1], "600"), "another schema": ("a@b.test", "urn:x", "600"),
              "nobody": ("nobody@e2010.lab", POX[1:-1], "500")}  # fmt: skip


@pytest.mark.parametrize("case", POX_ERRORS.values(), ids=POX_ERRORS.keys())
def test_pox_says_200_and_carries_an_error(lab: Lab, case: tuple[str, str, str]) -> None:
    who, schema, code = case
    answer = autodiscover(lab.organization("2010"), "autodiscover.xml", POX_REQUEST.format(address=who, schema=schema))
    assert answer.status_code == 200
    assert f"<ErrorCode>{code}</ErrorCode>" in answer.text


SOAP_REQUEST = """<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"
 xmlns:a="http://schemas.microsoft.com/exchange/2010/Autodiscover"><s:Body><a:GetUserSettingsRequestMessage><a:Request>
 <a:Users><a:User><a:Mailbox>{address}</a:Mailbox></a:User></a:Users><a:RequestedSettings>
 <a:Setting>ExternalEwsUrl</a:Setting><a:Setting>CasVersion</a:Setting><a:Setting>MicrosoftOnline</a:Setting>
 </a:RequestedSettings></a:Request></a:GetUserSettingsRequestMessage></s:Body></s:Envelope>"""


def test_soap(lab: Lab) -> None:
    organization = lab.organization("2016")
    person = organization.mailboxes()[0]["smtp"]
    root = ElementTree.fromstring(
        autodiscover(organization, "autodiscover.svc", SOAP_REQUEST.format(address=person)).content
    )
    found = {one.findtext(f"{A}Name"): one.findtext(f"{A}Value") for one in root.iter(f"{A}UserSetting")}
    assert found == {"ExternalEwsUrl": ews_url(organization), "CasVersion": "15.01.2507.006"}
    assert root.findtext(f".//{A}UserSettingError/{A}SettingName") == "MicrosoftOnline"
    unknown = autodiscover(organization, "autodiscover.svc", SOAP_REQUEST.format(address="nobody@x.test"))
    assert "<ErrorCode>InvalidUser</ErrorCode>" in unknown.text


def test_both_need_a_sign_in(lab: Lab) -> None:
    for path in ("autodiscover.xml", "autodiscover.svc"):
        assert autodiscover(lab.organization("SE"), path).status_code == 401


@pytest.mark.parametrize("version", ["2013", "2016", "SE"])
def test_version_2_is_anonymous_and_newer(lab: Lab, version: str) -> None:
    organization = lab.organization(version)
    answer = autodiscover(organization, "autodiscover.json/v1.0/a@b.test?Protocol=ews")
    if version == "2013":
        assert answer.status_code == 404
        return
    assert answer.json() == {"Protocol": "EWS", "Url": ews_url(organization)}
    answer = autodiscover(organization, "autodiscover.json/v1.0/a@b.test?Protocol=ActiveSync")
    assert answer.json()["Url"].endswith("/Microsoft-Server-ActiveSync")
    answer = autodiscover(organization, "autodiscover.json/v1.0/a@b.test?Protocol=Fax")
    assert (answer.status_code, answer.json()["ErrorCode"]) == (400, "InvalidProtocol")
