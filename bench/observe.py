"""Our client alone: every device listed and parsed into records, nothing stored. `python -m bench.observe TARGET_JSON`.

With "dump" in the target the objects' bytes are written there instead (length as four bytes, then the CLIXML).
"""

from __future__ import annotations

import json
import struct
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from connectors.exchange.client import Account, Endpoint, Options
from connectors.exchange.session import connect


def main() -> None:
    target = json.loads(sys.argv[1])
    endpoint = Endpoint(fqdn=target["fqdn"], address=target["host"], port=target["port"], use_tls=False)
    account = Account(username=target["user"], password=target["password"], authentication="basic")
    options = Options(select_properties=target["select"])
    count = 0
    with ExitStack() as stack:
        dump = stack.enter_context(Path(target["dump"]).open("wb")) if target.get("dump") else None
        client = stack.enter_context(connect(endpoint, account, options))
        started = time.perf_counter()
        for page in client.devices():
            for wire in page.objects:
                if dump is None:
                    page.parse(wire)
                else:
                    dump.write(struct.pack(">I", len(wire.raw)) + wire.raw)
            count += len(page.objects)
        seconds = time.perf_counter() - started
    print(json.dumps({"objects": count, "seconds": seconds}))


if __name__ == "__main__":
    main()
