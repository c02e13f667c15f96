"""
Checks a ledger against a journal, from the command line (in tests/):

    python3 -m checker JOURNAL.ndjson RULES.json... --brokers B --dsn DSN [--topic T] [--group G] ...

JOURNAL.ndjson is what Journal.save wrote; the rule files are given in the order in which they were applied. The worker
should be at rest. Exit code: 0 when all counts are 0, 1 when any is not, 2 usage or a server that does not answer.
"""

import argparse
import csv
import io
import json
import os
import subprocess
import sys

from stack import StackError

from . import Journal, Rulebook, judge
from .reading import read_snapshot


def psql(dsn, sql):
    done = subprocess.run(["psql", "-X", "-q", "-t", "--csv", "-P", "null=\\N", "-v", "ON_ERROR_STOP=1", dsn],
        input=sql, capture_output=True, text=True, env={**os.environ, "PGCONNECT_TIMEOUT": "10"})
    if done.returncode:
        raise StackError(f"psql: {done.stderr.strip()}")
    return [tuple(None if cell == "\\N" else cell for cell in row) for row in csv.reader(io.StringIO(done.stdout))]


def main():
    parser = argparse.ArgumentParser(prog="python3 -m checker", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("journal")
    parser.add_argument("rules", nargs="*")
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--topic", default="delivery-events")
    parser.add_argument("--deferred", help="default: the topic's name and .deferred")
    parser.add_argument("--dlq", help="default: the topic's name and .dlq")
    parser.add_argument("--group", default="delivery-worker")
    parser.add_argument("--refuse-unknown", action="store_true",
        help="the worker ran with event.unknown_members=refuse")
    parser.add_argument("--unsettled", action="store_true", help="the worker may have left work behind")
    parser.add_argument("--commits-follow", action="store_true", help="Kafka's commits must equal progress")
    options = parser.parse_args()
    rules = Rulebook()
    for path in options.rules:
        with open(path, encoding="utf-8") as file:
            rules.apply(json.load(file))
    # How many of them a worker found at its start nobody knows here; with a single file, that one.
    rules.first_state = min(1, len(options.rules))
    try:
        findings = judge(read_snapshot(Journal.load(options.journal), rules, options.topic,
            options.deferred or f"{options.topic}.deferred", options.dlq or f"{options.topic}.dlq", options.group,
            options.brokers, lambda sql: psql(options.dsn, sql), refuse_unknown=options.refuse_unknown,
            unsettled=options.unsettled, commit_lags=not options.commits_follow))
    except (StackError, OSError) as error:
        print(f"checker: {error}", file=sys.stderr)
        return 2
    print(findings.table())
    return 0 if findings.clean() else 1


sys.exit(main())
