"""Reads a Snapshot from the servers: PostgreSQL through the views that are public, Kafka through the tests' tools."""

import time

from stack import records

from .judge import OrderRow, Posting, Snapshot

# One transaction, so one state; the first column says which view a row is of. Text that events may fill with anything
# goes as hex digits.
LEDGER = """
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT 'order', order_id, partner_id, customer_id, encode(convert_to(driver_id, 'UTF8'), 'hex'), progress, outcome,
       trunc(extract(epoch FROM outcome_at) * 1000000), amount_minor, currency, refunded_total_minor, points,
       order_credit_minor FROM delivery.order_state;
SELECT 'posting', order_id, kind, seq, unit, amount, debit_account, credit_account, rule_id, rule_version, source_topic,
       source_partition, source_offset FROM delivery.postings;
SELECT 'customer', customer_id, points FROM delivery.customer_points;
SELECT 'partner', partner_id, currency, credit_minor FROM delivery.partner_credit;
SELECT 'balance', account, unit, debits, credits FROM delivery.account_balances;
SELECT 'progress', topic, partition, next_offset, consumer_group FROM delivery.partition_progress;
COMMIT;
"""


def _integer(text):
    return None if text is None else int(text)


def _order(row):
    driver = None if row[3] is None else bytes.fromhex(row[3]).decode()
    return OrderRow(row[0], row[1], row[2], driver, row[4], row[5], _integer(row[6]), _integer(row[7]), row[8],
        int(row[9]), int(row[10]), int(row[11]))


def _posting(row):
    return Posting(row[0], row[1], int(row[2]), row[3], int(row[4]), row[5], row[6], row[7], _integer(row[8]), row[9],
        int(row[10]), int(row[11]))


def read_ledger(snapshot, group, psql):
    """`psql`: takes SQL, returns rows of text with None for NULL."""
    for view, *row in psql(LEDGER):
        if view == "order":
            snapshot.orders.append(_order(row))
        elif view == "posting":
            snapshot.postings.append(_posting(row))
        elif view == "customer":
            snapshot.customer_points[row[0]] = int(row[1])
        elif view == "partner":
            snapshot.partner_credit[row[0], row[1]] = int(row[2])
        elif view == "balance":
            snapshot.balances[row[0], row[1]] = int(row[2]), int(row[3])
        elif row[3] == group:
            snapshot.progress[row[0], int(row[1])] = int(row[2])


def read_kafka(snapshot, brokers, group, dlq):
    """The main topic's records only where the journal does not tell all that may be there."""
    for topic in (snapshot.topic, snapshot.deferred):
        # Commits before ends: a commit never is beyond an end that is read after it.
        for partition, (offset, _) in records.committed(brokers, group, topic).items():
            snapshot.committed[topic, partition] = offset
    snapshot.log = records.ranges(brokers, snapshot.topic, snapshot.deferred)
    journaled = {}
    for entry in snapshot.journal.acknowledged:
        where = entry.topic, entry.partition
        journaled[where] = journaled.get(where, 0) + 1
    main = {where: end - start for where, (start, end) in snapshot.log.items() if where[0] == snapshot.topic}
    if snapshot.journal.unknown or any(count != journaled.get(where, 0) for where, count in main.items()):
        snapshot.main = records.read(brokers, snapshot.topic)
    if any(end > start for where, (start, end) in snapshot.log.items() if where[0] == snapshot.deferred):
        snapshot.deferrals = records.read(brokers, snapshot.deferred)
    snapshot.letters = records.read(brokers, dlq)


def read_snapshot(journal, rules, topic, deferred, dlq, group, brokers, psql, **more):
    """`more`: the rest of Snapshot's members."""
    snapshot = Snapshot(journal, rules, topic, deferred, now_ms=int(time.time() * 1000), **more)
    # Kafka first: a worker that runs moves progress before the commit, and settles a record after its copy is there.
    read_kafka(snapshot, brokers, group, dlq)
    read_ledger(snapshot, group, psql)
    return snapshot
