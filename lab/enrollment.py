"""The page that an enrolment link leads to: a person says who they are and which phone, and the phone has a record.

Stands for a company portal. It asks for no password and no certificate: who can reach the lab's loopback may enrol.
"""

from __future__ import annotations

import html
import re

from lab.tenant import Tenant, enrolled_device
from lab.web import Reply, Request

PATH = re.compile(r"/enroll/([^/]+)/?")
_TYPE = {"Content-Type": "text/html; charset=utf-8"}
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Enrol a phone · {tenant}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:32rem;margin:3rem auto;padding:0 1rem}}
label{{display:block;margin-top:1rem}}input{{width:100%;box-sizing:border-box;padding:.5rem;font:inherit}}
button{{margin-top:1rem;padding:.5rem 1rem;font:inherit}}</style>
<h1>Enrol a phone</h1><p>{said}</p>
<form method="post"><label>Your e-mail address <input name="user" type="email" value="{user}" required></label>
<label>Device ID, as the mail says <input name="device" value="{device}" required></label>
<button>Enrol</button></form></html>
"""


def page(tenants: list[Tenant], name: str, request: Request) -> Reply:
    """GET shows the form, POST enrols: a compliant record appears in the tenant's device management."""
    tenant = next((one for one in tenants if one.name.lower() == name.lower()), None)
    if tenant is None:
        return Reply(404, b"There is no such tenant in the lab.", _TYPE)
    if request.method != "POST":
        return _show(tenant, 200, f"{tenant.name} manages phones that read its mail.", request.query)
    form = request.form()
    with tenant.lock:
        user = tenant.find_user(form.get("user", "").strip())
        if user is None:
            return _show(tenant, 404, "Nobody here has this address.", form)
        device = form.get("device", "").strip()
        if not device:
            return _show(tenant, 400, "The device ID is missing.", form)
        row = enrolled_device(user, device)
        tenant.devices[row["id"]] = row
    return _show(tenant, 200, "The phone is enrolled and compliant. Its mail comes back within minutes.", form)


def _show(tenant: Tenant, status: int, said: str, given: dict[str, str]) -> Reply:
    texts = {"tenant": tenant.name, "said": said, "user": given.get("user", ""), "device": given.get("device", "")}
    return Reply(status, _PAGE.format(**{k: html.escape(v, quote=True) for k, v in texts.items()}).encode(), _TYPE)
