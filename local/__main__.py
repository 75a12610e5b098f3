"""`python -m local`: starts the stack, prints one JSON line with its addresses, stays up until it is told to stop.

SIGINT, SIGTERM and the death of the process that started it end it; nothing is left behind.
"""

import os
import signal
import sys
from types import FrameType

from local.lifeline import die_with_parent
from local.postgres import PostgresError
from local.stack import StackError, demo_user, described, running

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def stop(_number: int, _frame: FrameType | None) -> None:
    """Leaves the stack's block once; what comes while it is being taken down is ignored."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> int:
    """Exit codes: 0 stopped as asked, 1 a part did not come up."""
    die_with_parent(os.getppid())
    for number in STOPPING:
        signal.signal(number, stop)
    try:
        with running(os.environ) as stack:
            if not stack.is_isolated:
                sys.stderr.write("warning: SANDBOX_ISOLATION=none: commands run on this machine as you, unisolated\n")
            sys.stdout.write(described(stack.addresses, demo_user(stack.addresses)) + "\n")
            sys.stdout.flush()
            while True:
                signal.pause()
    except KeyboardInterrupt:
        return 0
    except (StackError, PostgresError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
