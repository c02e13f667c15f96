"""
`make up` and `make down`: a stack that outlives the command, one a user and machine. What `up` prints is for
`eval "$(make up)"`: only what a shell may evaluate goes to stdout.
"""

import getpass
import json
import os
import shlex
import shutil
import signal
import sys
import tempfile

from .kafka import ApacheKafka
from .process import Process, StackError, unprivileged_user
from .stack import Stack

# Partitions of each. Those of .deferred are classes of waiting, of which there are four.
TOPICS = {"delivery-events": 6, "delivery-events.deferred": 4, "delivery-events.dlq": 1}

# How each server leaves in order; in this order they are stopped.
STOP = {"kafka": signal.SIGTERM, "postgres": signal.SIGINT, "redis": signal.SIGTERM}


def folder_path():
    base = tempfile.gettempdir()
    # The servers run as another user, who must get there.
    if unprivileged_user() and not os.stat(base).st_mode & 0o001:
        base = "/tmp"
    return os.path.join(base, f"delivery-worker-up-{getpass.getuser()}")


def load():
    """What `up` wrote down: {"exports": {...}, "processes": [[name, pid, start time], ...]}, or None."""
    path = folder_path()
    if os.path.isdir(path) and os.stat(path).st_uid != os.geteuid():
        raise StackError(f"{path} belongs to somebody else")
    try:
        with open(os.path.join(path, "state.json"), encoding="utf-8") as state:
            return json.load(state)
    except FileNotFoundError:
        return None


def adopted(name, pid, start):
    process = Process(name, os.path.join(folder_path(), f"{name}.log"), None)
    process.adopt(pid, start)
    return process


def say(text):
    print(text, file=sys.stderr, flush=True)


def print_exports(state):
    for name, value in state["exports"].items():
        print(f"export {name}={shlex.quote(value)}")


def up():
    state = load()
    if state:
        dead = [row[0] for row in state["processes"] if not adopted(*row).alive()]
        if dead:
            raise StackError(f"of the stack that is up, {', '.join(dead)} died: make down, then up again")
        say("up already")
        print_exports(state)
        return 0
    folder = folder_path()
    try:
        os.mkdir(folder, 0o711)
    except FileExistsError:
        raise StackError(f"{folder} is there without a state: wait for another `make up`, or `make down`") from None
    say(f"starting {ApacheKafka.LABEL}, PostgreSQL and Redis in {folder}")
    stack = Stack(folder=folder)
    try:
        stack.start()
        stack.create_topics(TOPICS)
        state = {
            "exports": {
                "DW_KAFKA_BROKERS": stack.brokers,
                "DW_PG_DSN": stack.pg_dsn,
                "DW_REDIS_URL": stack.redis_url,
            },
            "processes": [[process.name, process.pid, process.start]
                for process in (server.process for server in stack.servers())],
        }
        with open(os.path.join(folder, "state.json"), "w", encoding="utf-8") as out:
            json.dump(state, out)
    except BaseException:
        stack.close()
        raise
    stack.detach()
    say(f"topics: {', '.join(TOPICS)}; next: delivery-worker migrate; the end: make down")
    print_exports(state)
    return 0


def down():
    folder = folder_path()
    state = load()
    if not os.path.isdir(folder):
        print("nothing is up")
        return 0
    for name, pid, start in state["processes"] if state else []:
        process = adopted(name, pid, start)
        if process.alive():
            process.stop(STOP[name], 60)
    shutil.rmtree(folder)
    print(f"down; {folder} is gone")
    return 0
