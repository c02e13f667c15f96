-- What a reader is shown of a code that these functions do not know: not NULL, which says that nothing is known, and
-- not another code's name.
CREATE OR REPLACE FUNCTION status_name(rank smallint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE rank
		WHEN 0 THEN 'created' WHEN 10 THEN 'confirmed' WHEN 20 THEN 'assigned'
		WHEN 30 THEN 'at_pickup' WHEN 40 THEN 'picked_up' WHEN 50 THEN 'in_transit'
		WHEN 60 THEN 'at_dropoff' WHEN 70 THEN 'attempted' WHEN 80 THEN 'delivered'
		WHEN 85 THEN 'failed' WHEN 90 THEN 'cancelled' WHEN 100 THEN 'returned'
		ELSE 'unknown:' || rank END COLLATE "C"
$$;

CREATE OR REPLACE FUNCTION account_name(kind smallint, id text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT (CASE kind WHEN 1 THEN 'customer_points:' WHEN 2 THEN 'partner_points:'
	                  WHEN 3 THEN 'partner_payable:' WHEN 4 THEN 'clearing:'
	                  ELSE 'unknown:' || kind || ':' END || id) COLLATE "C"
$$;

-- An order's revision and the numbers of its postings ended at 2^31, which an order that is written a thousand times a
-- second reaches in 25 days; then its records were refused. Both tables and their keys are written anew:
-- 15 s for a million orders with two million postings on two shared cores, and as much room on the disk as they have
-- now. Meanwhile all batches wait (and are tried again behind pg.statement_timeout_ms), nothing is lost. Workers of the
-- version before go on behind it: their statements are prepared again, what they write is cast, and they read wide
-- numbers. Of an order beyond 2^31 they write nothing, since they find no row of the revision that they read.
-- A view of somebody else's that reads view postings is to be dropped before, and made again.
ALTER TABLE orders
	ALTER COLUMN rev TYPE bigint,
	ALTER COLUMN points_seq TYPE bigint,
	ALTER COLUMN order_credit_seq TYPE bigint;

DO $migration$
DECLARE
	-- Of the view and its columns: a new view has none.
	grants text[] := (
		SELECT array_agg(format('GRANT %s%s ON postings TO %s%s', privilege_type, ' (' || quote_ident(attname) || ')',
			CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END,
			CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END))
		FROM (SELECT NULL::name AS attname, relacl AS acl FROM pg_class WHERE oid = 'postings'::regclass
		      UNION ALL SELECT attname, attacl FROM pg_attribute WHERE attrelid = 'postings'::regclass) v,
		     aclexplode(v.acl));
	statement text;
BEGIN
	DROP VIEW postings;
	ALTER TABLE posted ALTER COLUMN seq TYPE bigint;

	CREATE VIEW postings AS
		SELECT p.order_id,
		       (CASE p.kind WHEN 1 THEN 'points' WHEN 2 THEN 'order_credit'
		                    ELSE 'unknown:' || p.kind END) COLLATE "C" AS kind,
		       p.seq,
		       (CASE p.kind WHEN 1 THEN 'PTS' WHEN 2 THEN p.currency END) COLLATE "C" AS unit,
		       abs(p.amount) AS amount,
		       CASE WHEN p.amount > 0 THEN side.debit ELSE side.credit END AS debit_account,
		       CASE WHEN p.amount > 0 THEN side.credit ELSE side.debit END AS credit_account,
		       p.rule_id, p.rule_version, p.source_topic, p.source_partition, p.source_offset, p.posted_at
		FROM posted p,
		     LATERAL (SELECT CASE p.kind WHEN 1 THEN account_name(2::smallint, p.partner_id)
		                                 WHEN 2 THEN account_name(4::smallint, p.currency) END AS debit,
		                     CASE p.kind WHEN 1 THEN account_name(1::smallint, p.customer_id)
		                                 WHEN 2 THEN account_name(3::smallint, p.partner_id) END AS credit) side;
	FOREACH statement IN ARRAY coalesce(grants, '{}') LOOP
		EXECUTE statement;
	END LOOP;
END $migration$;

-- The columns' statistics went with their types. An empty table is better off without any: it will not stay empty, and
-- plans are kept.
DO $$
BEGIN
	IF EXISTS (SELECT FROM orders) THEN
		ANALYZE orders, posted;
	END IF;
END $$;

-- Drawing an epoch waits for progress writes under way, and they for it: worker/ledger/store_progress.c. Whoever updates
-- the epoch takes the lock by this, too: workers of the version before, which go by the row, and operators.
CREATE FUNCTION lock_epoch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_advisory_xact_lock(25719, TG_RELID::int4);
	RETURN NULL;
END $$;
CREATE TRIGGER lock_epoch BEFORE UPDATE OF epoch ON history FOR EACH STATEMENT EXECUTE FUNCTION lock_epoch();

-- Progress belongs to a log, not to a name: beside next_offset stand the id of the cluster and a fingerprint of the last
-- record that was settled. A worker of the version before moves next_offset alone; the record that the fingerprint names
-- is still the log's, so it keeps its meaning. No row is rewritten.
ALTER TABLE progress
	ADD COLUMN cluster_id text COLLATE "C",       -- NULL: the cluster has none, or none was known
	ADD COLUMN print_offset bigint,               -- NULL: no record was settled here yet
	ADD COLUMN print_hash bigint,                 -- of its key and value
	ADD COLUMN print_time_ms bigint,              -- the producer's; NULL where the broker sets record times
	ADD CONSTRAINT progress_print CHECK ((print_offset IS NULL) = (print_hash IS NULL));

-- What was found lost, of which log and why. A row stays until it is accepted, whatever restarts and however the log
-- grows; accepted and applied ones tell who comes later what was given up.
CREATE TABLE lost_offsets (
	consumer_group text COLLATE "C" NOT NULL,
	topic text COLLATE "C" NOT NULL,
	partition integer NOT NULL,
	from_offset bigint NOT NULL,
	to_offset bigint NOT NULL CHECK (to_offset > from_offset),
	reason text NOT NULL,
	found_at timestamptz NOT NULL DEFAULT now(),
	accepted_at timestamptz,                      -- by `run --accept-loss`; NULL: the partition is not consumed
	applied_at timestamptz                        -- by the assignment that began to read again
);
-- One that is not done with at a time.
CREATE UNIQUE INDEX lost_offsets_open ON lost_offsets (consumer_group, topic, partition) WHERE applied_at IS NULL;

-- The workers of this ledger that are members of a group, by their own word and renewed by it. `group_since`: since when
-- the group has had such members without a pause, so that no operator's reset was possible.
CREATE TABLE members (
	consumer_group text COLLATE "C" NOT NULL,
	member bigint NOT NULL,
	group_since timestamptz NOT NULL,
	expires_at timestamptz NOT NULL,
	PRIMARY KEY (consumer_group, member)
) WITH (fillfactor = 50);
