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
