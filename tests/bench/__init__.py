"""
`make bench`: what the worker does on this machine, beside real Kafka, Redis and PostgreSQL.

    ground.py     the servers, filled topics, ledgers to run into, what is written about the machine
    workload.py   W1 to W5, as options of `delivery-worker produce`
    usage.py      CPU and memory of the worker, its threads and the servers, from /proc
    backlog.py    one backlog through one or more workers, measured
    sections/     what is measured, a file each; they add rows to the results
    stages.py     instructions and CPU time by stage, from callgrind and perf
    results.py    rows, medians; goals.py: what is to be reached
    report.py     the table on the terminal, BENCHMARKS.md; plot.py: its SVG

The C programs beside them are what it drives: the ledger write alone, the parts in front of it, the open loop.
"""
