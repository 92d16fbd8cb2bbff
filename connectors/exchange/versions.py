"""Which Exchange answers: AdminDisplayVersion, and the product by its build. Pure.

Good for choosing features, not for telling the patch level: security updates usually do not move AdminDisplayVersion.
"""

from __future__ import annotations

import re

from connectors.exchange.records import ServerVersion

# SE and 2019 share 15.2; only the build tells them apart (SE RTM is 15.2.2562.17).
FIRST_SE_BUILD = 2562

# "Version 15.2 (Build 986.5)", and the padded long form "15.02.1748.010" of other tools.
_DISPLAYED = re.compile(r"(?:Version )?(\d+)\.(\d+) \(Build (\d+)\.(\d+)\)", re.IGNORECASE)
_LONG = re.compile(r"(?:Version )?(\d+)\.(\d+)\.(\d+)\.(\d+)", re.IGNORECASE)


def parse(text: str) -> ServerVersion:
    """The version that AdminDisplayVersion tells; all zero, product "", for a text of another form."""
    stripped = text.strip()
    match = _DISPLAYED.fullmatch(stripped) or _LONG.fullmatch(stripped)
    if match is None:
        return ServerVersion(text=text, major=0, minor=0, build=0, revision=0, product="")
    major, minor, build, revision = (int(part) for part in match.groups())
    return ServerVersion(
        text=text, major=major, minor=minor, build=build, revision=revision, product=product(major, minor, build)
    )


def product(major: int, minor: int, build: int) -> str:
    """2010, 2013, 2016, 2019 or SE; "" for what is none of these (older, or newer than this program)."""
    if major == 14:
        return "2010"
    if major != 15:
        return ""
    if minor == 2:
        return "SE" if build >= FIRST_SE_BUILD else "2019"
    return {0: "2013", 1: "2016"}.get(minor, "")
