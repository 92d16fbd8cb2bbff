"""Names, phones and odd texts that scenarios are made of. Invented; the forms follow exchange.md sections 3 and 8."""

from __future__ import annotations

import random
import string
from dataclasses import dataclass, replace

GIVEN = (
    "Adele",
    "Alex",
    "Allan",
    "Amira",
    "Anna",
    "Bianca",
    "Carlos",
    "Chen",
    "Christie",
    "Diego",
    "Emily",
    "Enrico",
    "Fatima",
    "Grady",
    "Haruto",
    "Henrietta",
    "Isaiah",
    "Johanna",
    "Jörg",
    "Joni",
    "Lee",
    "Lidia",
    "Lynne",
    "Małgorzata",
    "Megan",
    "Miriam",
    "Nestor",
    "Noémie",
    "Olga",
    "Patti",
    "Pradeep",
    "Raúl",
    "Sigrún",
    "Søren",
    "Thị Mai",
    "Yuki",
    "Zoë",
    "美玲",
    "志明",
    "雅婷",
    "さくら",
    "Ольга",
    "Δημήτρης",
    "محمد",
    "נועה",
)
FAMILY = (
    "Abe",
    "Bergström",
    "Brunner",
    "Çelik",
    "Cline",
    "Deyoung",
    "Dvořák",
    "Fernández",
    "Gruber",
    "Hamilton",
    "Hansen",
    "Ivanova",
    "Johnson",
    "Kowalski",
    "Langer",
    "Lindqvist",
    "Morales",
    "Müller",
    "Nakamura",
    "Nguyễn",
    "O'Brien",
    "Okafor",
    "Papadopoulos",
    "Rossi",
    "Schmidt",
    "Singh",
    "Sørensen",
    "Tanaka",
    "Vance",
    "Wilber",
    "Wójcik",
    "Young",
    "Zhang",
    "陳",
    "林",
    "王",
    "佐藤",
    "Смирнова",
    "العلي",
    "כהן",
)
# Texts that must survive every border: XML escapes, entities, wide and right-to-left characters, a control character.
ODD = (
    "Ada's iPhone & <iPad>",
    '"Quoted" phone',
    "📱 Zoë’s 手機",
    "هاتف محمد",
    "הטלפון של נועה",
    "Tab\there",
    "Bell\x07phone",
    "_x0041_ literal",
    "Ünïcödé §§ separator",
    "emoji 👩🏽‍💻 family 👨‍👩‍👧",
    "trailing space ",
    "\u202eright-to-left override",
)


@dataclass(frozen=True)
class Phone:
    """A kind of phone: what its mail client says of itself."""

    device_type: str
    model: str
    os: str
    user_agent: str
    id_form: str
    client_type: str = "EAS"
    client_version: str = "16.1"
    friendly_name: str = ""


PHONES = (
    (30, Phone("iPhone", "iPhone14C5", "iOS 17.6.1 21G93", "Apple-iPhone14C5/2107.93", "apple")),
    (12, Phone("iPhone", "iPhone15C2", "iOS 18.1 22B83", "Apple-iPhone15C2/2202.83", "apple")),
    (6, Phone("iPhone", "iPhone12C8", "iOS 16.7.10 20H350", "Apple-iPhone12C8/2008.350", "serial")),
    (6, Phone("iPad", "iPad13C18", "iPadOS 17.5 21F79", "Apple-iPad13C18/2106.79", "apple")),
    (14, Phone("SamsungDevice", "SM-S918B", "Android 14", "Android-SAMSUNG-SM-S918B/101.14", "samsung",
               friendly_name="Galaxy S23 Ultra")),
    (8, Phone("Android", "Pixel 8", "Android 15", "Android/15-EAS-2.0", "android", friendly_name="Pixel 8")),
    (4, Phone("Android", "XQ-DC54", "Android 13", "Android/13-EAS-1.3", "android", client_version="14.1")),
    (3, Phone("WindowsMail", "Surface Pro 9", "Windows 10.0.22631", "MSFT-WIN-4/10.0.22631", "hex")),
    (2, Phone("BlackBerry", "BBB100-2", "BlackBerry 10.3", "RIM-BBB100-2/10.3", "android", client_version="14.1")),
    (15, Phone("Outlook", "Outlook for iOS and Android", "Outlook for iOS and Android 1.0", "Outlook-iOS-Android/1.0",
               "hex", client_type="REST", client_version="", friendly_name="Outlook for iOS and Android")),
)  # fmt: skip


def of_version(phone: Phone, rank: int) -> Phone:
    """The phone as an older Exchange knows it: protocol 14.1 at most, and Outlook by ActiveSync."""
    if rank >= 2016:
        return phone
    if phone.client_type == "REST":
        return replace(phone, client_type="EAS", client_version="14.1")
    return replace(phone, client_version=min(phone.client_version, "14.1"))


LANGUAGES = ("en", "en-US", "de-DE", "fr-FR", "zh-TW", "ja-JP", "es-ES", "pl-PL")
_UPPER = string.ascii_uppercase + string.digits


def device_id(chance: random.Random, form: str) -> str:
    """An ActiveSync DeviceId in the form that the kind of client uses."""
    if form == "serial":
        return "Appl" + "".join(chance.choices(_UPPER, k=12))
    if form == "apple":
        return "".join(chance.choices(_UPPER, k=26))
    if form == "samsung":
        return "SEC" + "".join(chance.choices(string.hexdigits[:16].upper(), k=13))
    if form == "android":
        return "androidc" + "".join(chance.choices(string.digits, k=10))
    return "".join(chance.choices(string.hexdigits[:16].lower(), k=32))
