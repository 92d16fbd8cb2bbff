"""Which organisations a lab has: the specification of one, its text form, and the default three."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace

from lab.exchange.auth import ALL_SCHEMES
from lab.exchange.versions import VERSIONS

DEFAULT_DEVICES = 300
_DOMAIN = re.compile(r"(?=.{1,200}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+")


@dataclass(frozen=True)
class OrganizationSpec:
    """`seed` None takes the lab's. `authentications` () offers all kinds the lab speaks.

    Every `child`-th account lives in a child domain; 0: the organisation has one domain, as most do.
    """

    name: str
    tenant: str = ""
    version: str = "SE"
    domain: str = ""
    cas: int = 1
    devices: int = DEFAULT_DEVICES
    seed: int | None = None
    child: int = 0
    authentications: tuple[str, ...] = ()

    def completed(self) -> OrganizationSpec:
        """With defaults filled in. Raises ValueError that names the field, the reason and what is allowed."""
        slug = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")
        if not slug:
            raise ValueError("name: an organisation needs a name with letters or digits")
        if self.version not in VERSIONS:
            raise ValueError(f"version: {self.version!r} is none of {', '.join(VERSIONS)}")
        if not 1 <= self.cas <= 20:
            raise ValueError("cas: 1 to 20 servers")
        if not 0 <= self.devices <= 2_000_000:
            raise ValueError("devices: 0 to 2000000")
        if self.child < 0:
            raise ValueError("child: 0 for none, or 10 for every tenth account in the child domain")
        if unknown := set(self.authentications) - set(ALL_SCHEMES):
            raise ValueError(f"authentications: {', '.join(unknown)} is none of {', '.join(ALL_SCHEMES)}")
        domain = (self.domain or f"{slug}.lab").lower()
        if not _DOMAIN.fullmatch(domain):
            raise ValueError(f"domain: {domain!r} is no domain name like contoso.lab")
        return replace(self, tenant=self.tenant or self.name, domain=domain)


DEFAULTS = (
    OrganizationSpec("Contoso", "Contoso", "SE", "contoso.lab", cas=3),
    OrganizationSpec("Contoso Research", "Contoso", "2016", "research.lab", cas=2),
    OrganizationSpec("Fabrikam", "Fabrikam", "2013", "fabrikam.lab", cas=1),
)


def parse(text: str) -> OrganizationSpec:
    """From "name=Bench,version=2016,cas=1,devices=50000". Raises ValueError."""
    known = {field.name for field in fields(OrganizationSpec)}
    values: dict[str, object] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        name = name.strip()
        if not equals or name not in known:
            raise ValueError(f"{part!r}: write name=value; known names are {', '.join(sorted(known))}")
        values[name] = value
    return from_values(values)


def from_values(values: dict[str, object]) -> OrganizationSpec:
    """From text or JSON values. Raises ValueError."""
    clean: dict[str, object] = {}
    for name, value in values.items():
        if name in ("cas", "devices", "seed", "child"):
            try:
                clean[name] = int(str(value))
            except ValueError:
                raise ValueError(f"{name}: {value!r} is not a whole number") from None
        elif name == "authentications":
            clean[name] = tuple(value) if isinstance(value, list) else tuple(str(value).split("+"))
        elif name in {field.name for field in fields(OrganizationSpec)}:
            clean[name] = str(value)
        else:
            raise ValueError(f"{name}: no such field")
    if "name" not in clean:
        raise ValueError("name: missing")
    return OrganizationSpec(**clean).completed()  # type: ignore[arg-type]
