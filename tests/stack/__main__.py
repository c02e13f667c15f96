"""`python3 -m stack up|down|demo`, with tests/ on PYTHONPATH; make calls it."""

import shlex
import signal
import subprocess
import sys

from . import demo, keep
from .process import StackError

COMMANDS = {"up": keep.up, "down": keep.down, "demo": demo.main}


def main():
    if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
        print(f"usage: python3 -m stack {'|'.join(COMMANDS)}", file=sys.stderr)
        return 2
    # As Ctrl-C: blocks are left in order, and servers go.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return COMMANDS[sys.argv[1]]()
    except StackError as wrong:
        print(f"{sys.argv[1]}: {wrong}", file=sys.stderr)
        return 1
    except subprocess.TimeoutExpired as late:
        print(f"{sys.argv[1]}: not done within {late.timeout:g} s: {shlex.join(late.cmd)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\n{sys.argv[1]}: interrupted, everything is stopped", file=sys.stderr)
        return 130


sys.exit(main())
