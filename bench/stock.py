"""pypsrp as shipped, draining Get-MobileDevice: what a first attempt would do. `python -m bench.stock TARGET_JSON`.

Drained after each poll, since otherwise every object is kept (about 20 KB each).
"""

from __future__ import annotations

import json
import sys
import time

from pypsrp.complex_objects import PSInvocationState
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.wsman import WSMan


def main() -> None:
    target = json.loads(sys.argv[1])
    wsman = WSMan(
        target["host"],
        port=target["port"],
        ssl=False,
        path="PowerShell",
        auth="basic",
        encryption="never",
        username=target["user"],
        password=target["password"],
        no_proxy=True,
        read_timeout=60,
    )
    count = 0
    with wsman, RunspacePool(wsman, configuration_name="Microsoft.Exchange") as pool:
        started = time.perf_counter()
        shell = PowerShell(pool)
        shell.add_cmdlet("Get-MobileDevice").add_parameter("ResultSize", "Unlimited")
        shell.begin_invoke()
        while shell.state == PSInvocationState.RUNNING:
            shell.poll_invoke(timeout=20)
            count += len(shell.output)
            shell.output.clear()
        seconds = time.perf_counter() - started
        assert not shell.streams.error, shell.streams.error
        shell.close()
    print(json.dumps({"objects": count, "seconds": seconds}))


if __name__ == "__main__":
    main()
