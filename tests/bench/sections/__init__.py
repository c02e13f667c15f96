"""What is measured, a file each: functions that take the ground, the results and the size of things, and add rows."""

from . import scaling, slow_partner, stages, startup, steady, storm, streams

# Name for ONLY=, and what it runs, in the order of the report.
SECTIONS = {
    "W1": streams.lifecycle,
    "W2": streams.delivered,
    "W3": storm.measure,
    "W4": steady.measure,
    "W5": slow_partner.measure,
    "start": startup.measure,
    "profile": stages.measure,
    "workers": scaling.workers,
    "batch": scaling.batch,
    "partitions": scaling.partitions,
    "replicas": scaling.replicas,
    "backlog": scaling.backlog_length,
    "table": scaling.table_size,
}

# Of somebody's own events: what does not depend on how they were made.
OF_FILE = {"file": streams.real, "start": startup.measure, "profile": stages.measure}
