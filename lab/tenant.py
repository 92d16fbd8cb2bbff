"""A directory tenant's data: people, groups, licences, managed devices, made from the Exchange organisations it has.

What graph.py tells of it is documented there. About six phones in ten have a record, most with their ActiveSync id.
"""

from __future__ import annotations

import base64
import datetime
import random
import re
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from lab.exchange.objects import Device, Mailbox
from lab.exchange.store import Store
from lab.graph_application import ApplicationCertificate
from lab.graph_faults import GraphFaults

UNSET_DATE = "0001-01-01T00:00:00Z"
NO_DEADLINE = "9999-12-31T23:59:59Z"
# Service plans (exchange.md 7.4). INTUNE_O365 is not Intune, and most people have it.
INTUNE_A = "c1ec4a95-1f05-45b3-a911-aa3fa01094f5"
INTUNE_O365 = "882e1d05-acd1-4ccb-8708-6ee03664b117"
EMS = "efccb6f7-5641-4e0e-bd10-b4976e1bf68e"
# What assignedPlans says of a plan whose provisioning is so: one that is switched off is "Deleted".
_CAPABILITY = {"Success": "Enabled", "PendingActivation": "Enabled", "Disabled": "Deleted"}
_COMPLIANCE: tuple[tuple[str, int], ...] = (
    ("compliant", 70), ("noncompliant", 15), ("inGracePeriod", 5), ("unknown", 5), ("configManager", 5),
)  # fmt: skip
# The application permissions that the product's application has, unless somebody takes one away.
PERMISSIONS = frozenset(
    {
        "DeviceManagementManagedDevices.Read.All",
        "DeviceManagementServiceConfig.Read.All",
        "GroupMember.Read.All",
        "User.Read.All",
    }
)


# The documented sample: a fraction of seconds.
RETRY_AFTER = "2.128"


@dataclass
class Tenant:
    """One directory tenant. Hold `lock` while reading or changing.

    changes: user ids by the number of their last change, for delta; those that are not in `users` were removed.
    delta_from: delta links of earlier changes are forgotten.
    """

    name: str
    id: str
    client_id: str
    client_secret: str
    certificate: ApplicationCertificate | None = None
    users: dict[str, dict[str, Any]] = field(default_factory=dict)
    groups: dict[str, dict[str, Any]] = field(default_factory=dict)
    devices: dict[str, dict[str, Any]] = field(default_factory=dict)
    tokens: dict[str, float] = field(default_factory=dict)
    permissions: frozenset[str] = PERMISSIONS
    lock: threading.RLock = field(default_factory=threading.RLock)
    faults: GraphFaults = field(default_factory=GraphFaults)
    # Throttle the next n requests with this Retry-After.
    throttle_next: int = 0
    retry_after: str = RETRY_AFTER
    changes: dict[str, int] = field(default_factory=dict)
    last_change: int = 0
    delta_from: int = 0
    _in_order: list[str] | None = None
    _people: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def in_order(self) -> list[str]:
        """Ids of all people, sorted; kept until somebody changes."""
        if self._in_order is None:
            self._in_order = sorted(self.users)
        return self._in_order

    def find_user(self, key: str) -> dict[str, Any] | None:
        """By id, sign-in name or mail address."""
        if key in self.users:
            return self.users[key]
        wanted = key.lower()
        return next((u for u in self.users.values() if wanted in (u["userPrincipalName"].lower(), u["mail"])), None)

    def changed(self, user_id: str) -> None:
        """Remember that the person was added, changed or removed."""
        self.last_change += 1
        self._in_order = None
        self.regrouped()
        self.changes.pop(user_id, None)
        self.changes[user_id] = self.last_change

    def regrouped(self) -> None:
        """Forget who is in which group: a group, or who is in one, has changed."""
        self._people.clear()

    def people(self, group_id: str) -> list[dict[str, Any]]:
        """The people in the group, through other groups too, each once; kept until something changes."""
        if group_id not in self._people:
            self._people[group_id] = [self.users[user_id] for user_id in self._members(group_id)]
        return self._people[group_id]

    def _members(self, group_id: str) -> Iterator[str]:
        seen: set[str] = set()
        groups, waiting = {group_id}, [group_id]
        while waiting:
            group = self.groups.get(waiting.pop(), {"_members": (), "_groups": ()})
            for member in group["_members"]:
                if member in self.users and member not in seen:
                    seen.add(member)
                    yield member
            inner = [one for one in group["_groups"] if one not in groups]
            groups.update(inner)
            waiting += inner

    def add_group(self, group_id: str, name: str, members: list[str]) -> dict[str, Any]:
        group = {"id": group_id, "displayName": name, "_members": members, "_groups": []}
        self.groups[group_id] = group
        self.regrouped()
        return group


def populate(tenant: Tenant, store: Store, seed: int) -> None:
    """Users for all mailboxes; groups of everyone, of every third and of a few; records for about six in ten phones."""
    chance = random.Random(f"graph/{seed}/{store.domain}")
    members: list[str] = []
    with tenant.lock:
        for mailbox in store.mailboxes.values():
            user = _user(store, mailbox)
            tenant.users[user["id"]] = user
            tenant.changed(user["id"])
            members.append(user["id"])
        few = members[:: max(1, len(members) // 4)][:4]
        for key, name, chosen in (
            ("everyone", "mobile users", members),
            ("sales", "sales", members[::3]),
            ("executives", "executives", few),
        ):
            tenant.add_group(str(uuid.uuid5(store.guid, key)), f"{store.name} {name}", chosen)
        for device in store.devices.values():
            if device.client_type == "EAS" and chance.random() < 0.6:
                record = managed_device(device, chance)
                tenant.devices[record["id"]] = record


def _user(store: Store, mailbox: Mailbox) -> dict[str, Any]:
    given, _, family = mailbox.display_name.partition(" ")
    licensed = mailbox.guid.int % 20 != 0  # one in twenty has no Intune licence
    user = {
        "id": str(uuid.uuid5(mailbox.guid, "user")), "displayName": mailbox.display_name, "givenName": given,
        "surname": family, "userPrincipalName": mailbox.upn, "mail": mailbox.smtp, "accountEnabled": True,
        "userType": "Member",
        "proxyAddresses": [f"SMTP:{mailbox.smtp}", *(f"smtp:{alias}" for alias in mailbox.aliases)],
        "businessPhones": [], "jobTitle": None, "mobilePhone": None, "officeLocation": None, "preferredLanguage": None,
        "onPremisesSamAccountName": mailbox.sam, "onPremisesDomainName": mailbox.domain,
        "onPremisesUserPrincipalName": mailbox.upn, "onPremisesSecurityIdentifier": mailbox.sid,
        "onPremisesImmutableId": base64.b64encode(mailbox.guid.bytes_le).decode(),
        "onPremisesDistinguishedName": mailbox.dn, "onPremisesSyncEnabled": True, "_organization": store.name,
    }  # fmt: skip
    license_user(user, with_intune=licensed)
    return user


def license_user(user: dict[str, Any], *, with_intune: bool) -> None:
    """A licence counts by its plans: the plan may be switched off within it."""
    licence = _licence(with_intune=with_intune)
    user["_licences"] = [licence]
    user["assignedPlans"] = [
        {
            "assignedDateTime": "2024-05-01T08:00:00Z", "capabilityStatus": _CAPABILITY[plan["provisioningStatus"]],
            "service": "SCO", "servicePlanId": plan["servicePlanId"],
        }
        for plan in licence["servicePlans"]
    ]  # fmt: skip


def _licence(*, with_intune: bool) -> dict[str, Any]:
    plans = ((INTUNE_A, "INTUNE_A", "Success" if with_intune else "Disabled"),
             (INTUNE_O365, "INTUNE_O365", "PendingActivation"))  # fmt: skip
    return {
        "id": f"{EMS}-lab",
        "skuId": EMS,
        "skuPartNumber": "EMS",
        "servicePlans": [
            {"servicePlanId": plan, "servicePlanName": name, "provisioningStatus": status, "appliesTo": "User"}
            for plan, name, status in plans
        ],
    }


def managed_device(device: Device, chance: random.Random) -> dict[str, Any]:
    """The Intune record of a phone."""
    mailbox = device.mailbox
    labels, weights = zip(*_COMPLIANCE, strict=True)
    state = chance.choices(labels, weights)[0]
    activated = chance.random() < 0.9
    enrolled = f"{device.first_sync.astimezone(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"
    is_serial = device.device_id.startswith("Appl")
    return {
        "id": str(uuid.uuid5(device.guid, "managed")), "userId": str(uuid.uuid5(mailbox.guid, "user")),
        "deviceName": f"{mailbox.sam}_{device.device_type}", "userPrincipalName": mailbox.upn,
        "emailAddress": mailbox.smtp, "userDisplayName": mailbox.display_name,
        "operatingSystem": device.os.split(" ")[0], "osVersion": (re.findall(r"[\d.]+", device.os) or [""])[0],
        "model": device.model, "manufacturer": "",
        "serialNumber": device.device_id[4:] if is_serial else f"SN{device.guid.hex[:10].upper()}",
        "imei": device.imei, "easActivated": activated, "easDeviceId": device.device_id if activated else "",
        "easActivationDateTime": enrolled if activated else UNSET_DATE, "azureADRegistered": True,
        "azureADDeviceId": str(uuid.uuid5(device.guid, "aad")), "deviceRegistrationState": "registered",
        "complianceState": state, "complianceGracePeriodExpirationDateTime": NO_DEADLINE, "managementAgent": "mdm",
        "exchangeAccessState": "none", "exchangeAccessStateReason": "none",
        "exchangeLastSuccessfulSyncDateTime": UNSET_DATE, "lastSyncDateTime": enrolled, "enrolledDateTime": enrolled,
        "jailBroken": "Unknown", "ethernetMacAddress": device.guid.hex[:12].upper(), "iccid": "",
    }  # fmt: skip


def enrolled_device(user: dict[str, Any], eas_device_id: str) -> dict[str, Any]:
    """The record of a phone that its owner has just enrolled, compliant at once."""
    now = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"
    is_serial = eas_device_id.startswith("Appl")
    return {
        "id": str(uuid.uuid4()), "userId": user["id"], "deviceName": f"{user['onPremisesSamAccountName']}_phone",
        "userPrincipalName": user["userPrincipalName"], "emailAddress": user["mail"],
        "userDisplayName": user["displayName"], "operatingSystem": "iOS", "osVersion": "17.6.1", "model": "iPhone14C5",
        "manufacturer": "Apple", "serialNumber": eas_device_id[4:] if is_serial else uuid.uuid4().hex[:12].upper(),
        "imei": "", "easActivated": bool(eas_device_id), "easDeviceId": eas_device_id,
        "easActivationDateTime": now if eas_device_id else UNSET_DATE, "azureADRegistered": True,
        "azureADDeviceId": str(uuid.uuid4()), "deviceRegistrationState": "registered", "complianceState": "compliant",
        "complianceGracePeriodExpirationDateTime": NO_DEADLINE, "managementAgent": "mdm",
        "exchangeAccessState": "none", "exchangeAccessStateReason": "none",
        "exchangeLastSuccessfulSyncDateTime": UNSET_DATE, "lastSyncDateTime": now, "enrolledDateTime": now,
        "jailBroken": "Unknown", "ethernetMacAddress": uuid.uuid4().hex[:12].upper(), "iccid": "",
    }  # fmt: skip
