"""What differs between the Exchange versions that the lab plays (exchange.md section 9)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Version:
    """One product version. `builds`: AdminDisplayVersion texts, newest first. `rank` orders the versions."""

    label: str
    rank: int
    builds: tuple[str, ...]
    exchange_version: str  # of directory objects: the oldest version able to manage them
    protocol: str  # PSRP
    role_text: str

    @property
    def has_mobile_names(self) -> bool:
        """Get-MobileDevice and the like; before, only the ActiveSync names."""
        return self.rank >= 2013

    @property
    def has_client_switches(self) -> bool:
        """-RestApi, -UniversalOutlook, Clear-MobileDevice -AccountOnly."""
        return self.rank >= 2016

    @property
    def has_prefixed_errors(self) -> bool:
        """[Server=..,RequestId=..,TimeStamp=..] [FailureCategory=..] before the error id."""
        return self.rank >= 2013


VERSIONS = {
    version.label: version
    for version in (
        Version(
            "2010",
            2010,
            ("Version 14.3 (Build 123.4)",),
            "0.10 (14.0.100.0)",
            "2.1",
            "Mailbox, ClientAccess, HubTransport",
        ),
        Version("2013", 2013, ("Version 15.0 (Build 1497.2)",), "0.20 (15.0.0.0)", "2.2", "Mailbox, ClientAccess"),
        Version("2016", 2016, ("Version 15.1 (Build 2507.6)",), "0.20 (15.0.0.0)", "2.3", "Mailbox"),
        Version("2019", 2019, ("Version 15.2 (Build 1748.10)",), "0.20 (15.0.0.0)", "2.3", "Mailbox"),
        Version("SE", 2025, ("Version 15.2 (Build 2562.17)",), "0.20 (15.0.0.0)", "2.3", "Mailbox"),
    )
}
