"""The start of every supervised process: dies with its parent, in a session of its own, then becomes the real program.

`python child.py LIFELINE PROGRAM ARGUMENT...`, LIFELINE being the number of the pipe's file descriptor. Linux has
a signal for a parent's death, but it does not reach grandchildren (granian's workers, Celery's pool). So the program is
not exec'ed: this small process stays as its parent, holds one end of a pipe to the runner, and kills the whole process
group when the pipe closes, however the runner died. Standard library only: it is started before anything is imported.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
from types import FrameType

PR_SET_PDEATHSIG = 1


def main() -> None:
    lifeline = int(sys.argv[1])
    os.setsid()
    program = subprocess.Popen(sys.argv[2:], close_fds=True, preexec_fn=_program_setup)

    def forward(number: int, _frame: FrameType | None) -> None:
        program.send_signal(number)

    signal.signal(signal.SIGTERM, forward)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the runner decides what Ctrl-C means
    while program.poll() is None:
        ready, _, _ = select.select([lifeline], [], [], 0.2)
        if ready:  # end of file: the runner is gone
            os.killpg(0, signal.SIGKILL)
    # What the program left behind of its own (a pool child that outlived it) goes with it.
    code = program.returncode
    _kill_others()
    sys.exit(code if code >= 0 else 128 - code)


def _program_setup() -> None:
    # Should this guardian itself be killed, the program at least goes with it; the runner sees to the rest.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _kill_others() -> None:
    """Everyone else in our process group."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)


if __name__ == "__main__":
    main()
