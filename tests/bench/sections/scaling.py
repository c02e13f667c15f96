"""How throughput moves with one thing at a time. Each point is the first seconds of a backlog of W1."""

import dataclasses

from .. import backlog, workload
from ..ground import PARTITIONS, default
from .streams import settings

BATCHES = (1, 10, 100, 500, 1000, 2000, 5000)
LIVE = 100_000
# Of the streams for the table's size: how long they are, and from where on they are measured. By then nearly all orders
# that are live have come, and what is new is a seventh of the events, as in any lifecycle.
WIDE_EVENTS, WIDE_FROM = 2, 0.6


def _point(ground, results, size, section, what, more, options=None, partitions=PARTITIONS):
    topic, total = ground.topic(workload.W1, size.events, partitions)
    runs = [backlog.run(ground, workload.W1, topic, total, options, limit_s=size.point_s, leave=False)
        for _ in range(size.point_runs)]
    results.add(section, what, settings(size, total, redis="on", **more), runs)


def workers(ground, results, size):
    for count in (1, 2, 3, 4, 6, 8) if size.full else (1, 2, 4, 8):
        _point(ground, results, size, "workers", f"{count}", {"connections": count}, {"workers": count})


def batch(ground, results, size):
    for count in BATCHES:
        _point(ground, results, size, "batch", f"{count:,}", {"batch": count}, {"batch.max": count})


def partitions(ground, results, size):
    for count in (1, 2, 6, 16, 64) if size.full else (1, 6, 16, 64):
        _point(ground, results, size, "partitions", f"{count}", {"partitions": count}, partitions=count)
        if count != PARTITIONS:
            ground.forget(workload.W1, size.events, count)


def replicas(ground, results, size):
    """While the group forms the first one works alone: it hears of the others soon, and there is enough for all."""
    topic, total = ground.topic(workload.W1, 2 * size.events)
    for count in (1, 2, 3, 4) if size.full else (1, 2, 4):
        runs = [backlog.run(ground, workload.W1, topic, total, {"kafka.consumer.heartbeat.interval.ms": 300}, count,
            joined=True, limit_s=size.point_s, leave=False) for _ in range(size.point_runs)]
        results.add("replicas", f"{count}", settings(size, total, redis="on", replicas=count,
            connections=default("workers") * count), runs)
    ground.forget(workload.W1, 2 * size.events)


def backlog_length(ground, results, size):
    """Memory must not depend on how much waits in the topic."""
    for count in (size.events // 2, size.events, 2 * size.events, *((10_000_000,) if size.full else ())):
        topic, total = ground.topic(workload.W1, count)
        runs = [backlog.run(ground, workload.W1, topic, total, limit_s=size.point_s, leave=False)
            for _ in range(size.point_runs)]
        results.add("backlog", f"{total:,}", settings(size, total, redis="on"), runs)
        if count != size.events:
            ground.forget(workload.W1, count)


ORDERS_OPTIONS = "SELECT array_to_string(reloptions, ', ') FROM pg_class WHERE oid = 'orders'::regclass"

# Orders that are over: delivered, paid in both kinds, as the worker leaves them. Ids are spread as generated ones are.
# 28 of them in a page, as many as the worker puts into one when they are new and smaller: of pages that are loaded up
# to the table's own fill factor many have room for a new order, and PostgreSQL spreads the new ones over all of those.
CLOSED = """
SET synchronous_commit = off;
ALTER TABLE orders SET (fillfactor = 73);
CREATE TEMP TABLE closed AS
SELECT 'o-' || substr(md5(i::text), 1, 16) AS order_id, 'c' || (i * 7919) % 1000000 AS customer_id,
       'p' || 1 + (i * 31) % 700 AS partner_id, 500 + i * 13 % 20000 AS amount
FROM generate_series(1::bigint, {count}) i;
INSERT INTO orders (order_id, rev, progress, outcome, outcome_at, amount_minor, amount_at, refunded_total_minor,
       customer_id, partner_id, currency, driver_id, driver_at, pinned_at, pinned_rule_id, pinned_rule_version,
       pinned_kinds, points, points_seq, order_credit_minor, order_credit_seq, updated_at)
SELECT order_id, 7, 80, 80, t, amount, t, 0, customer_id, partner_id, 'EUR', 'd1', t, t, 'base', 1, 3, amount / 100, 1,
       amount, 1, t
FROM closed, (SELECT timestamptz '2025-12-01' AS t) at;
INSERT INTO posted (order_id, kind, seq, amount, partner_id, customer_id, currency, rule_id, rule_version,
       source_topic, source_partition, source_offset, posted_at)
SELECT order_id, kind, 1, CASE kind WHEN 1 THEN amount / 100 ELSE amount END, partner_id,
       CASE kind WHEN 1 THEN customer_id END, CASE kind WHEN 2 THEN 'EUR' END, CASE kind WHEN 1 THEN 'base' END,
       CASE kind WHEN 1 THEN 1 END, 'earlier', 0, 0, t
FROM closed, generate_series(1, 2) kind, (SELECT timestamptz '2025-12-01' AS t) at;
INSERT INTO balances (account_kind, account_id, unit, slot, debits, credits)
SELECT 1, customer_id, 'PTS', 0, 0, sum(amount / 100) FROM closed GROUP BY customer_id
UNION ALL SELECT 2, partner_id, 'PTS', 0, sum(amount / 100), 0 FROM closed GROUP BY partner_id
UNION ALL SELECT 3, partner_id, 'EUR', 0, 0, sum(amount) FROM closed GROUP BY partner_id
UNION ALL SELECT 4, 'EUR', 'EUR', 0, sum(amount), 0 FROM closed HAVING count(*) > 0;
ALTER TABLE orders SET ({options});
"""


# Of customers who have had nothing yet: with them each ledger has the accounts of all.
ACCOUNTS = """
SET synchronous_commit = off;
INSERT INTO balances (account_kind, account_id, unit, slot, debits, credits)
SELECT 1, 'c' || i, 'PTS', 0, 0, 0 FROM generate_series(0, 1000000) i ON CONFLICT DO NOTHING;
"""


def _prepare(ground, count, dsn):
    if count > LIVE:
        options, = ground.stack.psql(ORDERS_OPTIONS, dsn)[0]
        ground.stack.psql(CLOSED.format(count=count - LIVE, options=options), dsn)
    ground.stack.psql(ACCOUNTS, dsn)
    ground.stack.psql("VACUUM ANALYZE", dsn)
    ground.warm(dsn)


def table_size(ground, results, size):
    """
    100,000 orders live, the rest closed: throughput must not depend on the rest. The live ones come by the stream, so
    it is measured when they are there. Nothing but orders differs: each ledger has the accounts of all customers. The
    sizes take turns, each turn with a stream of its own, in the middle between two checkpoints: none comes from the
    loading on. What the time right behind one costs is looked at once more, at the largest size.
    """
    first, *turns, last = (dataclasses.replace(workload.W1_WIDE, stream=i) for i in range(size.table_runs + 2))
    events = WIDE_EVENTS * size.events
    topics = {stream: ground.topic(stream, events) for stream in (first, *turns, last)}
    small = {stream: ground.new_ledger(stream) for stream in (first, *turns)}
    closed = {count: ground.new_ledger(first) for count in (1_000_000, *((10_000_000,) if size.full else ()))}
    for dsn in small.values():
        _prepare(ground, LIVE, dsn)
    for count, dsn in closed.items():
        _prepare(ground, count, dsn)

    def run(stream, dsn):
        topic, total = topics[stream]
        return backlog.run(ground, stream, topic, total, limit_s=size.table_s, dsn=dsn, leave=False, warm=WIDE_FROM)

    runs = {count: [] for count in (LIVE, *closed)}
    for dsn in (small[first], *closed.values()):  # after minutes of rest
        run(first, dsn)
    for stream in turns:
        runs[LIVE].append(run(stream, small[stream]))
        for count, dsn in closed.items():
            runs[count].append(run(stream, dsn))
    ground.settle()
    behind = run(last, dsn)
    common = settings(size, topics[first][1], redis="on",
        **{name: results.about["postgresql_settings"][name] for name in ("checkpoint_timeout", "max_wal_size")})
    for count, measured in runs.items():
        results.add("table", f"{count:,} orders", common, measured)
    results.add("checkpoint", f"{count:,} orders", common, [behind])
    for dsn in (*small.values(), *closed.values()):
        ground.drop(dsn)
    for stream in topics:
        ground.forget(stream, events)
