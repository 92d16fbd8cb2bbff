"""A phone: asks an ActiveSync endpoint for its mail and says what it got.

Also a program: `python -m lab.phone URL USER PASSWORD DEVICE_ID`. It knows the server by HTTP alone, speaks no WBXML.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import ssl
import urllib.parse
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """`state` and `reason` as the lab's server tells them; `mail` are the subjects that the phone got to see."""

    status: int
    eas_status: str
    state: str
    reason: str
    mail: tuple[str, ...]


@dataclass
class Phone:
    """One mail client installation. `url`: https://host:port (or http) of a Client Access Server."""

    url: str
    user: str
    password: str
    device_id: str
    device_type: str = "iPhone"
    model: str = "iPhone14C5"
    os: str = "iOS 17.6.1 21G93"
    user_agent: str = "Apple-iPhone14C5/2107.93"
    name: str = ""
    protocol_version: str = "16.1"
    is_provisioned: bool = True
    ca_file: str | None = None

    def sync(self, command: str = "Sync") -> Answer:
        """One request. Raises OSError when the server cannot be reached."""
        connection = self._connection()
        query = urllib.parse.urlencode(
            {"Cmd": command, "User": self.user, "DeviceId": self.device_id, "DeviceType": self.device_type}
        )
        token = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        headers = {
            "Authorization": f"Basic {token}",
            "MS-ASProtocolVersion": self.protocol_version,
            "X-MS-PolicyKey": "1" if self.is_provisioned else "0",
            "User-Agent": self.user_agent,
        }
        told = {"X-Device-Model": self.model, "X-Device-OS": self.os, "X-Device-Name": self.name}
        # Header fields are Latin-1 to http.client; names of phones are anything.
        headers |= {name: urllib.parse.quote(value) for name, value in told.items()}
        try:
            connection.request("POST", f"/Microsoft-Server-ActiveSync?{query}", headers=headers)
            response = connection.getresponse()
            body = response.read().decode()
        finally:
            connection.close()
        return Answer(
            response.status,
            response.headers.get("X-Lab-EAS-Status", ""),
            response.headers.get("X-Lab-Access-State", ""),
            response.headers.get("X-Lab-Access-Reason", ""),
            tuple(body.splitlines()),
        )

    def _connection(self) -> http.client.HTTPConnection:
        split = urllib.parse.urlsplit(self.url)
        if split.hostname is None:
            raise ValueError(f"no server in {self.url!r}; write https://host:port")
        if split.scheme != "https":
            return http.client.HTTPConnection(split.hostname, split.port, timeout=30)
        context = ssl.create_default_context(cafile=self.ca_file)
        return http.client.HTTPSConnection(split.hostname, split.port, timeout=30, context=context)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("url", "user", "password", "device_id"):
        parser.add_argument(name)
    parser.add_argument("--type", default="iPhone")
    parser.add_argument("--ca", default=None)
    options = parser.parse_args()
    answer = Phone(
        options.url, options.user, options.password, options.device_id, options.type, ca_file=options.ca
    ).sync()
    print(f"HTTP {answer.status}, status {answer.eas_status}: {answer.state} ({answer.reason})")
    for subject in answer.mail:
        print(f"  {subject}")


if __name__ == "__main__":
    main()
