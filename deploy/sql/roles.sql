-- Roles of delivery-worker, each with just what it needs. As superuser, or as who owns the database and may create
-- roles, in that database; before the first `delivery-worker migrate`, and after each one that brings a new version:
--
--     psql -v ON_ERROR_STOP=1 -d DATABASE -f deploy/sql/roles.sql
--     psql ... -v schema=delivery -v migrator=delivery_migrator -v worker=delivery_worker    (the defaults)
--
-- A second run changes nothing. Roles get no password here: ALTER ROLE ... PASSWORD, or how else your server tells who
-- somebody is.
--
-- migrator  owns the schema: `migrate`, `rules apply`. Runs seldom, by hand or before an upgrade.
-- worker    `run`. `delivery-worker check` as this role names what it lacks; worker/ledger/privileges.c has what for.

\if :{?schema} \else \set schema delivery
\endif
\if :{?migrator} \else \set migrator delivery_migrator
\endif
\if :{?worker} \else \set worker delivery_worker
\endif

SELECT format('CREATE ROLE %I LOGIN', role)
FROM unnest(ARRAY[:'migrator', :'worker']) AS role
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) \gexec

SELECT format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), role)
FROM unnest(ARRAY[:'migrator', :'worker']) AS role \gexec

SELECT format('CREATE SCHEMA %I AUTHORIZATION %I', :'schema', :'migrator')
WHERE NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = :'schema') \gexec

-- What is there by now; the rest at the next run.
GRANT USAGE ON SCHEMA :"schema" TO :"worker";

SELECT format('GRANT %s ON TABLE %I.%I TO %I', privileges, :'schema', name, :'worker')
FROM (VALUES
	('schema_version', 'SELECT'),
	('history', 'SELECT, UPDATE'),
	('rules', 'SELECT'),
	('partners', 'SELECT'),
	('orders', 'SELECT, INSERT, UPDATE'),
	('posted', 'INSERT'),
	('balances', 'SELECT, INSERT, UPDATE'),
	('progress', 'SELECT, INSERT, UPDATE'),
	('lost_offsets', 'SELECT, INSERT, UPDATE'),
	('members', 'SELECT, INSERT, UPDATE, DELETE'),
	('witnesses', 'SELECT, INSERT, UPDATE, DELETE')
) AS needed (name, privileges)
JOIN pg_class c ON c.relname = name AND c.relnamespace = to_regnamespace(quote_ident(:'schema')) \gexec

SELECT format('GRANT EXECUTE ON FUNCTION %s TO %I', p.oid::regprocedure, :'worker')
FROM pg_proc p
WHERE p.proname = 'expect_rows' AND p.pronamespace = to_regnamespace(quote_ident(:'schema')) \gexec

-- PUBLIC has these unless somebody has taken them away.
GRANT SELECT ON pg_catalog.pg_database TO :"worker";
GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system(), pg_catalog.pg_walfile_name(pg_lsn),
	pg_catalog.pg_current_wal_insert_lsn(), pg_catalog.pg_current_wal_flush_lsn() TO :"worker";
