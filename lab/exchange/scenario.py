"""Organisations of a given size, the same for the same seed: people, their phones, rules, servers."""

from __future__ import annotations

import datetime
import itertools
import random
import unicodedata
import uuid
from collections.abc import Sequence

from lab.exchange import people
from lab.exchange.access import Claim, evaluate
from lab.exchange.objects import EPOCH, AccessRule, Device, ExchangeServer, Mailbox
from lab.exchange.store import Store
from lab.exchange.versions import VERSIONS

SITE = "Default-First-Site-Name"


def build(
    *,
    version: str,
    name: str,
    domain: str,
    devices: int,
    seed: int,
    servers: Sequence[str],
    password: str = "",
    child: int = 10,
) -> Store:
    """A store with `devices` partnerships. `servers` are FQDNs; `password` is every mailbox user's (for phones).

    Every `child`-th account lives in the child domain, seen by sessions that ask for the entire forest; 0: none.
    """
    if version not in VERSIONS:
        raise ValueError(f"unknown Exchange version {version!r}; known: {', '.join(VERSIONS)}")
    store = Store(name=name, domain=domain, version=VERSIONS[version], seed=seed)
    chance = random.Random(f"{seed}/{domain}")
    for fqdn in servers:
        store.servers.append(
            ExchangeServer(
                name=fqdn.split(".", 1)[0].upper(), fqdn=fqdn, build=store.version.builds[0],
                site=f"{domain}/Configuration/Sites/{SITE}", guid=_guid(chance),
            )
        )  # fmt: skip
    store.rules = [
        AccessRule("BlackBerry", "DeviceType", "Block", _guid(chance), EPOCH, EPOCH),
        AccessRule("XQ-DC54", "DeviceModel", "Quarantine", _guid(chance), EPOCH, EPOCH),
    ]
    for policy in store.policies:
        policy.created = policy.changed = EPOCH
    _add_people(store, chance, devices, password, child)
    return store


def _guid(chance: random.Random) -> uuid.UUID:
    return uuid.UUID(int=chance.getrandbits(128), version=4)


def _add_people(store: Store, chance: random.Random, devices: int, password: str, child: int) -> None:
    weights = [weight for weight, _ in people.PHONES]
    phones = [people.of_version(phone, store.version.rank) for _, phone in people.PHONES]
    numbers = itertools.count(1)
    shared_id = ""
    made = 0
    while made < devices:
        number = next(numbers)
        mailbox = store.add_mailbox(_person(store, chance, number, password, child))
        # Most have one, some two or three, a few none.
        for _ in range(min(devices - made, chance.choices((0, 1, 2, 3), (5, 60, 28, 7))[0])):
            phone = chance.choices(phones, weights)[0]
            device_id = people.device_id(chance, phone.id_form)
            if made % 97 == 41 and shared_id:
                device_id, shared_id = shared_id, ""  # the same phone, handed on: one id under two mailboxes
            elif made % 97 == 13:
                shared_id = device_id
            store.add_device(_device(store, chance, mailbox, phone, device_id, made))
            made += 1


def _person(store: Store, chance: random.Random, number: int, password: str, child: int) -> Mailbox:
    given, family = chance.choice(people.GIVEN), chance.choice(people.FAMILY)
    ascii_name = unicodedata.normalize("NFKD", f"{given}{family[:1]}").encode("ascii", "ignore").decode()
    sam = f"{''.join(c for c in ascii_name if c.isalnum()).lower()[:12] or 'user'}{number}"
    domain = store.child_domain if child and number % child == 0 else store.domain
    # Some people's sign-in name differs from their address, as after a marriage or a merger.
    upn = f"{sam}@{store.domain}"
    smtp = f"{sam}.mail@{store.domain}" if number % 13 == 0 else upn
    # Names may be shared; what Active Directory calls the account may not.
    display = f"{given} {family}" if number % 3 else f"{given} {family} {number}"
    cn = display if not store.find_mailboxes(f"{domain}/Users/{display}") else f"{display} {number}"
    return Mailbox(
        guid=_guid(chance), sam=sam, display_name=display, cn=cn, domain=domain, upn=upn, smtp=smtp,
        sid=f"S-1-5-21-1111-2222-3333-{1100 + number}", password=password, created=EPOCH, changed=EPOCH,
        aliases=[f"{sam}@old.{store.domain}"] if number % 5 == 0 else [],
    )  # fmt: skip


def _device(
    store: Store, chance: random.Random, mailbox: Mailbox, phone: people.Phone, device_id: str, number: int
) -> Device:
    first = EPOCH - datetime.timedelta(seconds=chance.randrange(3 * 365 * 86400))
    friendly = people.ODD[number // 23 % len(people.ODD)] if number % 23 == 5 else phone.friendly_name
    claim = Claim(device_id, phone.device_type, phone.model, phone.os, phone.user_agent)
    decision = evaluate(store, mailbox, claim)
    state, reason, rule = decision.state, decision.reason, decision.rule
    if number % 19 == 7 and reason == "Global":
        # Let in, or kept out, one by one in the past.
        target, state = (mailbox.allowed, "Allowed") if number % 2 else (mailbox.blocked, "Blocked")
        target.append(device_id)
        reason = "Individual"
    elif number % 31 == 11 and reason == "Global":
        state = "Quarantined"
    elif number % 151 == 60 and reason == "Global":
        state = "DeviceDiscovery"
    return Device(
        guid=_guid(chance), mailbox=mailbox, device_id=device_id, device_type=phone.device_type, model=phone.model,
        os=phone.os, os_language=chance.choice(people.LANGUAGES), user_agent=phone.user_agent, friendly_name=friendly,
        imei=str(chance.randrange(10**14, 10**15)) if phone.device_type == "SamsungDevice" else "",
        operator="", phone_number=f"******{chance.randrange(10**4):04d}" if number % 4 == 0 else "",
        client_type=phone.client_type, client_version=phone.client_version,
        state=state, reason=reason, rule=rule, first_sync=first, created=first,
        changed=first + datetime.timedelta(seconds=chance.randrange(1, 86400)),
        last_attempt=EPOCH, last_success=EPOCH if state == "Allowed" else None,
    )  # fmt: skip
