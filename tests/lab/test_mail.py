"""EWS, Autodiscover, SMTP: a message gets into the mailbox it is for, and whoever looks for EWS finds it."""

from __future__ import annotations

import http.client
import json
import os
import smtplib
import ssl
import subprocess
import sys
from base64 import b64decode, b64encode
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import pytest
import requests
import spnego

from tests.labs import ROOT, Lab, Organization, environment_without_proxies

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


# What exchangelib does out of the box: it finds out version and sign-in by itself, opens folders, sends, searches.
STOCK = """
import json, sys
from exchangelib import Account, Configuration, Credentials, HTMLBody, Message, NTLM

given = json.load(sys.stdin)
config = Configuration(
    credentials=Credentials(given["user"], given["password"]), service_endpoint=given["url"], **given["options"]
)
account = Account(given["upn"], config=config, access_type="delegate")
message = Message(
    account=account, subject="Stock", body=HTMLBody("<b>hi</b>"), to_recipients=[given["to"]],
    message_id="<stock@" + given["upn"].partition("@")[2] + ">",
)
message.send()
json.dump({
    "version": str(account.version.build),
    "sent": [item.subject for item in account.sent.filter(message_id=message.message_id)],
    "body": [item.body for item in account.sent.filter(subject="Stock").only("body", "subject")][-1],
    "names": [mailbox.email_address for mailbox in account.protocol.resolve_names([given["to"]])],
}, sys.stdout)
"""


@pytest.mark.parametrize("options", [{}, {"auth_type": "basic"}], ids=["all by itself", "Basic"])
@pytest.mark.parametrize("version", ["2010", "SE"])
def test_stock_exchangelib(lab: Lab, version: str, options: dict[str, str]) -> None:
    organization = lab.organization(version)
    account, to = organization.account("notification"), organization.mailboxes()[0]["smtp"]
    given = {
        "user": account.user, "upn": account.upn, "password": account.password, "to": to, "options": options,
        "url": ews_url(organization),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", STOCK], input=json.dumps(given), capture_output=True, text=True, timeout=60, check=False,
        env=environment_without_proxies() | {"REQUESTS_CA_BUNDLE": lab.ca, "PYTHONPATH": os.fspath(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["version"].startswith({"2010": "14.3.", "SE": "15.2."}[version])
    assert found["sent"].count("Stock") >= 1
    assert (found["body"], found["names"]) == ("<b>hi</b>", [to])
    assert organization.messages(to)[-1]["subject"] == "Stock"


FAULTS: dict[str, tuple[str, str, int, str]] = {
    "the item's": ("ews_error", "ErrorSendAsDenied", 200, "ErrorSendAsDenied"),
    "the request's": ("ews_fault", "ErrorServerBusy:5000", 500, "ErrorServerBusy"),
}


@pytest.mark.parametrize("case", FAULTS.values(), ids=FAULTS.keys())
def test_failures_on_demand(lab: Lab, case: tuple[str, str, int, str]) -> None:
    kind, value, status, code = case
    organization = lab.organization("2013")
    with lab.fault(kind, server=organization.servers[0].fqdn, cmdlet="CreateItem", value=value):
        answer = send(organization, f"notify@{organization.domain}")
    assert (answer.status_code, response_code(answer)) == (status, code)
    assert (b'"BackOffMilliseconds">5000<' in answer.content) == (kind == "ews_fault")


# --- SMTP -------------------------------------------------------------------------------------------------------


def smtp(organization: Organization, *, tls: bool = True) -> smtplib.SMTP:
    where = organization.row["smtp"]
    client = smtplib.SMTP(where["host"], where["port"], "client.test", timeout=10)
    if tls:
        context = ssl.create_default_context(cafile=organization.lab.ca)
        context.check_hostname = False  # dialled by its address
        client.starttls(context=context)
    return client


MAIL = (
    "From: a@b.test\r\nSubject: =?utf-8?b?6KuL?=\r\nMessage-ID: <1@b.test>\r\nMIME-Version: 1.0\r\n"
    "Content-Type: multipart/alternative; boundary=x\r\n\r\n"
    "--x\r\nContent-Type: text/plain\r\n\r\n..plain\r\n--x\r\nContent-Type: text/html\r\n\r\n<b>html</b>\r\n--x--\r\n"
)


def test_a_mail_by_smtp(lab: Lab) -> None:
    organization = lab.organization("2016")
    people = [row["smtp"] for row in organization.mailboxes()[:2]]
    with smtp(organization) as client:
        assert client.sendmail("stranger@b.test", [*people, f"nobody@{organization.domain}"], MAIL).keys() == {
            f"nobody@{organization.domain}"
        }
    for person in people:
        got = organization.messages(person)[-1]
        assert (got["sender"], got["subject"], got["message_id"]) == ("stranger@b.test", "請", "<1@b.test>")
        assert (got["body"].strip(), got["body_type"], got["text"].strip()) == ("<b>html</b>", "HTML", "..plain")
        assert got["recipients"] == people


def test_sign_in_by_smtp(lab: Lab) -> None:
    organization = lab.organization("2016")
    account = organization.account("notification")
    with smtp(organization, tls=False) as client, pytest.raises(smtplib.SMTPNotSupportedError):
        client.login(account.user, account.password)
    for way in ("PLAIN", "LOGIN"):
        with smtp(organization) as client:
            client.ehlo()
            client.esmtp_features["auth"] = way
            client.login(account.upn, account.password)
            assert client.sendmail(account.upn, ["someone@elsewhere.test"], MAIL) == {}
            with pytest.raises(smtplib.SMTPSenderRefused):
                client.sendmail("boss@b.test", [account.upn], MAIL)
    with smtp(organization) as client, pytest.raises(smtplib.SMTPAuthenticationError):
        client.login(account.user, "wrong")
    with smtp(organization) as client, pytest.raises(smtplib.SMTPRecipientsRefused):
        client.sendmail("stranger@b.test", ["someone@elsewhere.test"], MAIL)


def test_smtp_s_ports_stay(fresh_lab: Any, tmp_path: Any) -> None:
    first = fresh_lab("name=A,version=2016,devices=1", home=tmp_path)
    before = first.organization("A").row["smtp"]
    first.stop()
    assert fresh_lab("name=A,version=2016,devices=1", home=tmp_path).organization("A").row["smtp"] == before


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
