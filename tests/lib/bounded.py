"""Commands with an end."""

import os
import signal
import subprocess
import tempfile


def run_bounded(command, limit_s, cwd, env=None):
    """Runs a command in a process group of its own. Returns (exit code or None when time was up, output)."""
    with tempfile.TemporaryFile() as out:
        child = subprocess.Popen(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
            start_new_session=True, env=env)
        code = None
        try:
            code = child.wait(limit_s)
        except subprocess.TimeoutExpired:
            pass
        finally:
            # Also what it left behind: a case that failed may not have stopped its servers.
            try:
                os.killpg(child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            child.wait()
        out.seek(0)
        return code, out.read().decode(errors="replace")
