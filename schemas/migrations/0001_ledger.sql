-- The ledger. Runs inside one transaction, with search_path set to the schema (option pg.schema).
-- Text compares by bytes everywhere (COLLATE "C"). Sums that grow are numeric.

-- One row. What history this database is: `epoch` is drawn anew whenever the database may have lost
-- something that a worker has seen committed; every batch and every progress write checks it.
CREATE TABLE history (
	only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
	epoch uuid NOT NULL DEFAULT gen_random_uuid(),
	system_identifier text NOT NULL,
	timeline text NOT NULL,
	database_oid oid NOT NULL,
	-- Key of the hash behind Redis done marks: environments may share a Redis.
	digest_key bytea NOT NULL CHECK (length(digest_key) = 16),
	-- Grows by one with every change to rules or partner settings; workers reload when it moves.
	rules_revision bigint NOT NULL DEFAULT 0,
	drawn_at timestamptz NOT NULL DEFAULT now(),
	drawn_because text NOT NULL DEFAULT 'schema created'
) WITH (fillfactor = 50);

INSERT INTO history (system_identifier, timeline, database_oid, digest_key)
SELECT (SELECT system_identifier::text FROM pg_control_system()),
       substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8),
       (SELECT oid FROM pg_database WHERE datname = current_database()),
       decode(replace(gen_random_uuid()::text, '-', ''), 'hex');

CREATE TABLE rules (
	rule_id text COLLATE "C" NOT NULL,
	version integer NOT NULL CHECK (version >= 1),
	kind smallint NOT NULL CHECK (kind IN (1, 2)),                 -- 1 per_amount, 2 per_order
	points bigint NOT NULL CHECK (points BETWEEN 0 AND 1000000),
	per_minor bigint NOT NULL CHECK (per_minor BETWEEN 1 AND 1000000000),
	multiplier_bp bigint NOT NULL CHECK (multiplier_bp BETWEEN 0 AND 1000000),
	min_order_minor bigint NOT NULL CHECK (min_order_minor >= 0),
	max_points_per_order bigint CHECK (max_points_per_order >= 0), -- NULL: no maximum
	partner_id text COLLATE "C",                                   -- NULL: any
	currency text COLLATE "C",                                     -- NULL: any
	valid_from timestamptz,                                        -- NULL: always
	valid_to timestamptz,                                          -- exclusive; NULL: for ever
	revision bigint NOT NULL,                                      -- history.rules_revision that brought it
	applied_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (rule_id, version)
);

CREATE TABLE partners (
	partner_id text COLLATE "C" PRIMARY KEY,
	kinds smallint NOT NULL CHECK (kinds BETWEEN 0 AND 3),         -- bit 1 points, bit 2 order_credit
	per_second bigint CHECK (per_second >= 0),                     -- NULL: the option's default
	burst bigint CHECK (burst >= 0),
	revision bigint NOT NULL,
	applied_at timestamptz NOT NULL DEFAULT now()
);

-- The merged facts of each order, the terms it was priced by, and what has been posted for it.
-- No index but the key, and free space, so that updates stay HOT.
CREATE TABLE orders (
	order_id text COLLATE "C" PRIMARY KEY,
	rev integer NOT NULL,                    -- grows by one a write; a write names the one that it read
	progress smallint NOT NULL,              -- rank
	outcome smallint,
	outcome_at timestamptz,
	amount_minor bigint,
	amount_at timestamptz,
	refunded_total_minor bigint NOT NULL,
	customer_id text COLLATE "C",
	partner_id text COLLATE "C",
	currency text COLLATE "C",
	driver_id text COLLATE "C",
	driver_at timestamptz,
	pinned_at timestamptz,                   -- outcome_at of the `delivered` that the pin was made for
	pinned_rule_id text COLLATE "C",
	pinned_rule_version integer,
	pinned_kinds smallint,
	points bigint NOT NULL,                  -- posted
	points_seq integer NOT NULL,             -- postings so far
	order_credit_minor bigint NOT NULL,
	order_credit_seq integer NOT NULL,
	first_topic text COLLATE "C",            -- the record that first named the order
	first_partition integer,
	first_offset bigint,
	updated_at timestamptz NOT NULL
) WITH (fillfactor = 75);

-- One posting is one row with both sides. Points debit the partner and credit the customer; order
-- credits debit clearing and credit what is payable to the partner; a negative amount swaps the sides.
CREATE TABLE posted (
	order_id text COLLATE "C" NOT NULL,
	kind smallint NOT NULL CHECK (kind IN (1, 2)),  -- 1 points, 2 order_credit
	seq integer NOT NULL CHECK (seq >= 1),
	amount bigint NOT NULL CHECK (amount <> 0),
	partner_id text COLLATE "C" NOT NULL,
	customer_id text COLLATE "C",
	currency text COLLATE "C",
	rule_id text COLLATE "C",
	rule_version integer,
	source_topic text COLLATE "C" NOT NULL,
	source_partition integer NOT NULL,
	source_offset bigint NOT NULL,
	posted_at timestamptz NOT NULL,
	PRIMARY KEY (order_id, kind, seq),
	CHECK (CASE kind WHEN 1 THEN customer_id IS NOT NULL AND currency IS NULL
	                 ELSE currency IS NOT NULL AND customer_id IS NULL
	                      AND rule_id IS NULL AND rule_version IS NULL END)
);

-- Sums of the postings by account and unit. Accounts of a side that every batch touches (partners,
-- clearing) are spread over slots, one a connection, so that batches do not queue on a row.
CREATE TABLE balances (
	account_kind smallint NOT NULL CHECK (account_kind BETWEEN 1 AND 4),
	account_id text COLLATE "C" NOT NULL,
	unit text COLLATE "C" NOT NULL,
	slot smallint NOT NULL,
	debits numeric NOT NULL,
	credits numeric NOT NULL,
	PRIMARY KEY (account_kind, account_id, unit, slot)
) WITH (fillfactor = 75);

CREATE TABLE progress (
	consumer_group text COLLATE "C" NOT NULL,
	topic text COLLATE "C" NOT NULL,
	partition integer NOT NULL,
	next_offset bigint NOT NULL CHECK (next_offset >= 0),
	-- The assignment that owns the row: a later one takes it over, and a late write of the earlier
	-- one then changes nothing.
	claim bigint NOT NULL,
	updated_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (consumer_group, topic, partition)
) WITH (fillfactor = 50);

-- One row a worker connection, counted up by each of its batches in the batch's own transaction. A worker
-- that finds fewer than it has seen committed knows that the database has lost something, also where
-- system identifier, timeline and WAL position look right.
CREATE TABLE witnesses (
	id bigint PRIMARY KEY,
	batches bigint NOT NULL,
	written_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- Raised inside a batch's transaction when it wrote fewer orders than it meant to: another
-- transaction has changed one since it was read. The batch is read and decided anew.
CREATE FUNCTION expect_rows(got bigint, wanted bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF got <> wanted THEN
		RAISE EXCEPTION 'wrote % of % orders', got, wanted USING ERRCODE = 'DW001';
	END IF;
END $$;

CREATE FUNCTION status_name(rank smallint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE rank
		WHEN 0 THEN 'created' WHEN 10 THEN 'confirmed' WHEN 20 THEN 'assigned'
		WHEN 30 THEN 'at_pickup' WHEN 40 THEN 'picked_up' WHEN 50 THEN 'in_transit'
		WHEN 60 THEN 'at_dropoff' WHEN 70 THEN 'attempted' WHEN 80 THEN 'delivered'
		WHEN 85 THEN 'failed' WHEN 90 THEN 'cancelled' WHEN 100 THEN 'returned' END COLLATE "C"
$$;

CREATE FUNCTION account_name(kind smallint, id text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT (CASE kind WHEN 1 THEN 'customer_points:' WHEN 2 THEN 'partner_points:'
	                  WHEN 3 THEN 'partner_payable:' WHEN 4 THEN 'clearing:' END || id) COLLATE "C"
$$;

-- The views that users read; stable whatever the tables are.

CREATE VIEW customer_points AS
	SELECT account_id AS customer_id, sum(credits - debits) AS points
	FROM balances WHERE account_kind = 1 GROUP BY account_id;

CREATE VIEW partner_credit AS
	SELECT account_id AS partner_id, unit AS currency, sum(credits - debits) AS credit_minor
	FROM balances WHERE account_kind = 3 GROUP BY account_id, unit;

CREATE VIEW order_state AS
	SELECT order_id, partner_id, customer_id, driver_id, status_name(progress) AS progress,
	       status_name(outcome) AS outcome, outcome_at, amount_minor, currency, refunded_total_minor,
	       points, order_credit_minor, updated_at
	FROM orders;

CREATE VIEW postings AS
	SELECT p.order_id,
	       (CASE p.kind WHEN 1 THEN 'points' ELSE 'order_credit' END) COLLATE "C" AS kind,
	       p.seq,
	       (CASE p.kind WHEN 1 THEN 'PTS' ELSE p.currency END) COLLATE "C" AS unit,
	       abs(p.amount) AS amount,
	       CASE WHEN p.amount > 0 THEN side.debit ELSE side.credit END AS debit_account,
	       CASE WHEN p.amount > 0 THEN side.credit ELSE side.debit END AS credit_account,
	       p.rule_id, p.rule_version, p.source_topic, p.source_partition, p.source_offset, p.posted_at
	FROM posted p,
	     LATERAL (SELECT CASE p.kind WHEN 1 THEN account_name(2::smallint, p.partner_id)
	                                 ELSE account_name(4::smallint, p.currency) END AS debit,
	                     CASE p.kind WHEN 1 THEN account_name(1::smallint, p.customer_id)
	                                 ELSE account_name(3::smallint, p.partner_id) END AS credit) side;

CREATE VIEW account_balances AS
	SELECT account_name(account_kind, account_id) AS account, unit,
	       sum(debits) AS debits, sum(credits) AS credits
	FROM balances GROUP BY account_kind, account_id, unit;

CREATE VIEW partition_progress AS
	SELECT consumer_group, topic, partition, next_offset, updated_at FROM progress;
