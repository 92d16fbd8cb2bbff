"""What differs between the Exchange versions that the lab plays (exchange.md section 9)."""

from __future__ import annotations

from dataclasses import dataclass

_OLD_PROTOCOLS = ("2.5", "12.0", "12.1", "14.0", "14.1")
_NEW_PROTOCOLS = (*_OLD_PROTOCOLS, "16.0", "16.1")


@dataclass(frozen=True)
class Version:
    """One product version. `builds`: AdminDisplayVersion texts, newest first. `rank` orders the versions.

    exchange_version: of directory objects, the oldest version able to manage them. protocol: PSRP's. phones: the
    ActiveSync protocols, oldest first.
    """

    label: str
    rank: int
    builds: tuple[str, ...]
    exchange_version: str
    protocol: str
    role_text: str
    phones: tuple[str, ...] = _NEW_PROTOCOLS

    @property
    def has_mobile_names(self) -> bool:
        """Get-MobileDevice and the like; before, only the ActiveSync names."""
        return self.rank >= 2013

    @property
    def has_client_switches(self) -> bool:
        """-RestApi, -UniversalOutlook, Clear-MobileDevice -AccountOnly; Outlook without ActiveSync."""
        return self.rank >= 2016

    @property
    def has_prefixed_errors(self) -> bool:
        """[Server=..,RequestId=..,TimeStamp=..] [FailureCategory=..] before the error id."""
        return self.rank >= 2013

    @property
    def numbers(self) -> tuple[int, int, int, int]:
        """Major, minor, build and revision of the newest build."""
        text = self.builds[0].replace("Version ", "").replace(" (Build ", ".").rstrip(")")
        major, minor, build, revision = (int(part) for part in text.split("."))
        return major, minor, build, revision


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
            _OLD_PROTOCOLS,
        ),
        Version(
            "2013",
            2013,
            ("Version 15.0 (Build 1497.2)",),
            "0.20 (15.0.0.0)",
            "2.2",
            "Mailbox, ClientAccess",
            _OLD_PROTOCOLS,
        ),
        Version("2016", 2016, ("Version 15.1 (Build 2507.6)",), "0.20 (15.0.0.0)", "2.3", "Mailbox"),
        Version("2019", 2019, ("Version 15.2 (Build 1748.10)",), "0.20 (15.0.0.0)", "2.3", "Mailbox"),
        Version("SE", 2025, ("Version 15.2 (Build 2562.17)",), "0.20 (15.0.0.0)", "2.3", "Mailbox"),
    )
}
