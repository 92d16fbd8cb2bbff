"""A phone: asks an ActiveSync endpoint for its mail and says what it got. Also `python -m lab.phone URL USER PASSWORD ID`."""

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
    ca_file: str | None = None

    def sync(self, command: str = "Sync") -> Answer:
        """One request. Raises OSError when the server cannot be reached."""
        split = urllib.parse.urlsplit(self.url)
        assert split.hostname is not None
        connection: http.client.HTTPConnection
        if split.scheme == "https":
            context = ssl.create_default_context(cafile=self.ca_file)
            connection = http.client.HTTPSConnection(split.hostname, split.port, timeout=30, context=context)
        else:
            connection = http.client.HTTPConnection(split.hostname, split.port, timeout=30)
        query = urllib.parse.urlencode(
            {"Cmd": command, "User": self.user, "DeviceId": self.device_id, "DeviceType": self.device_type}
        )
        token = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        headers = {
            "Authorization": f"Basic {token}",
            "MS-ASProtocolVersion": "16.1",
            "User-Agent": self.user_agent,
            "X-Device-Model": self.model,
            "X-Device-OS": self.os,
        }
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
