## unlisted
{ a table of one shard
CREATE TABLE fresh (id serial PRIMARY KEY, v text DEFAULT 'x')
INSERT INTO fresh (v) VALUES ('a'), (DEFAULT) RETURNING *
ALTER TABLE fresh ADD COLUMN w integer DEFAULT 5, ADD CHECK (w > 0)
SELECT * FROM fresh
CREATE INDEX fresh_v ON fresh (v)
ALTER INDEX fresh_v RENAME TO fresh_v2
COMMENT ON TABLE fresh IS 'a comment'
COMMENT ON COLUMN fresh.v IS 'a comment'
ALTER TABLE fresh RENAME TO fresher
ALTER TABLE fresher RENAME COLUMN v TO "V"
SELECT * FROM fresher
DROP INDEX fresh_v2
DROP TABLE fresher
}
{ if not exists
CREATE TABLE IF NOT EXISTS logs (id int)
CREATE TABLE IF NOT EXISTS customers (id int)
CREATE TABLE customers (id int)
CREATE TABLE IF NOT EXISTS countries (code text)
DROP TABLE IF EXISTS nosuch
DROP TABLE nosuch
DROP TABLE IF EXISTS nosuch, nosuch2
DROP TABLE customers, nosuch
DROP VIEW IF EXISTS nosuch
DROP INDEX IF EXISTS nosuch
DROP FUNCTION IF EXISTS nosuch(int)
DROP TYPE IF EXISTS nosuch
DROP SCHEMA IF EXISTS nosuch
ALTER TABLE IF EXISTS nosuch ADD COLUMN a int
}
{ a new table takes the name of a listed one in another schema
CREATE TABLE depot.customers (id bigint, other text)
INSERT INTO depot.customers VALUES (1, 'x')
SELECT * FROM depot.customers
SELECT * FROM customers WHERE id = 1
SET search_path = depot, public
SELECT * FROM customers WHERE id = 1
SELECT * FROM customers WHERE id = 2
SELECT count(*) FROM customers
INSERT INTO customers VALUES (2, 'y')
RESET search_path
DROP TABLE depot.customers
}
{ a rename takes a listed name in another schema
CREATE TABLE depot.plain (id bigint, other text)
ALTER TABLE depot.plain RENAME TO orders
SELECT * FROM depot.orders
SELECT count(*) FROM orders
DROP TABLE depot.orders
}
{ a table moves into a schema
CREATE TABLE words2 (word text)
ALTER TABLE words2 SET SCHEMA depot
SELECT * FROM depot.words2
DROP TABLE depot.words2
}
{ as a query
CREATE TABLE made AS SELECT * FROM logs
SELECT count(*) FROM made
DROP TABLE made
CREATE TABLE made AS SELECT * FROM customers
CREATE TABLE made AS SELECT * FROM customers WHERE id = 1
CREATE TABLE made AS SELECT * FROM countries
DROP TABLE IF EXISTS made
CREATE TABLE made AS TABLE customers
CREATE TABLE made AS VALUES (1, 2)
DROP TABLE IF EXISTS made
CREATE TABLE made AS EXECUTE nosuch
SELECT * INTO made FROM logs
DROP TABLE made
SELECT * INTO made FROM customers
CREATE TABLE made (LIKE customers)
CREATE TABLE made (LIKE logs INCLUDING ALL)
DROP TABLE made
CREATE TABLE made () INHERITS (customers)
CREATE TABLE made (x int) INHERITS (logs)
INSERT INTO made (msg, x) VALUES ('child', 1)
SELECT msg FROM logs WHERE msg = 'child'
DROP TABLE made
CREATE TABLE made PARTITION OF customers FOR VALUES IN (1)
CREATE TABLE made (a customers)
CREATE TABLE made (a mood, b positive)
DROP TABLE made
CREATE TABLE made (id bigint REFERENCES customers)
CREATE TABLE made (code text REFERENCES countries)
INSERT INTO made VALUES ('DE')
DELETE FROM countries WHERE code = 'DE'
DROP TABLE made
}
{ a partitioned table of one shard
CREATE TABLE parts (id int, v text) PARTITION BY RANGE (id)
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10)
CREATE TABLE parts_2 (id int, v text)
ALTER TABLE parts ATTACH PARTITION parts_2 FOR VALUES FROM (10) TO (20)
INSERT INTO parts VALUES (1, 'a'), (11, 'b')
SELECT * FROM parts
SELECT * FROM parts_2
ALTER TABLE parts DETACH PARTITION parts_2
SELECT * FROM parts
DROP TABLE parts, parts_2
}
## sharded
{ columns of a sharded table
ALTER TABLE hollow ADD COLUMN a integer
ALTER TABLE hollow ADD b text DEFAULT 'x' NOT NULL, ADD COLUMN c numeric(5,2) CHECK (c > 0)
INSERT INTO hollow VALUES (1, 1, 't', 1, 'b', 1.5), (2, 2, 't', 2, 'b', 2.5)
INSERT INTO hollow VALUES (3, 1, 't', 1, 'b', -1.5)
ALTER TABLE hollow RENAME COLUMN a TO "A a"
ALTER TABLE hollow RENAME b TO bb
SELECT "A a", bb FROM hollow
INSERT INTO hollow (id, "A a") VALUES (4, 1), (5, 2)
ALTER TABLE hollow ALTER COLUMN bb SET DEFAULT 'y', ALTER c TYPE numeric(7,3), ALTER COLUMN bb DROP NOT NULL
INSERT INTO hollow (id) VALUES (6), (7) RETURNING *
ALTER TABLE hollow ALTER COLUMN "A a" TYPE text USING "A a"::text || 'x'
SELECT * FROM hollow
ALTER TABLE hollow DROP COLUMN "A a", DROP COLUMN IF EXISTS nosuch
ALTER TABLE hollow DROP bb, DROP COLUMN c CASCADE
DELETE FROM hollow
ALTER TABLE hollow DROP COLUMN nosuch
}
{ columns whose values each shard would make
ALTER TABLE hollow ADD COLUMN a serial
[loose] ALTER TABLE hollow ADD COLUMN a timestamptz DEFAULT now()
[loose] ALTER TABLE hollow ADD COLUMN a uuid DEFAULT gen_random_uuid()
ALTER TABLE hollow ADD COLUMN a integer GENERATED ALWAYS AS IDENTITY
ALTER TABLE hollow ADD COLUMN a integer GENERATED ALWAYS AS (v * 2) STORED
ALTER TABLE hollow DROP COLUMN IF EXISTS a
[loose] ALTER TABLE hollow ADD COLUMN a float DEFAULT random()
[loose] ALTER TABLE hollow ADD COLUMN a timestamptz DEFAULT current_timestamp
[loose] ALTER TABLE hollow ADD COLUMN a timestamptz DEFAULT 'now'
ALTER TABLE hollow DROP COLUMN IF EXISTS a
[loose] ALTER TABLE hollow ALTER COLUMN t SET DEFAULT now()::text
ALTER TABLE hollow ALTER COLUMN t DROP DEFAULT
[loose] ALTER TABLE hollow ALTER COLUMN t TYPE timestamptz USING now()
}
{ the key of a sharded table
ALTER TABLE hollow RENAME COLUMN id TO key
ALTER TABLE hollow RENAME id TO key
ALTER TABLE hollow RENAME "id" TO key
ALTER TABLE hollow DROP COLUMN id
ALTER TABLE hollow DROP id
ALTER TABLE hollow DROP IF EXISTS id CASCADE
ALTER TABLE hollow ADD COLUMN a int, DROP COLUMN id
ALTER TABLE hollow ALTER COLUMN id TYPE integer
ALTER TABLE hollow ALTER id SET DATA TYPE text
ALTER TABLE hollow ALTER COLUMN id SET DEFAULT 5
ALTER TABLE hollow ALTER COLUMN id DROP DEFAULT
ALTER TABLE hollow ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY
ALTER TABLE hollow DROP COLUMN IF EXISTS a
ALTER TABLE hollow RENAME TO hollow2
ALTER TABLE public.hollow RENAME TO hollow2
ALTER TABLE IF EXISTS ONLY hollow RENAME TO hollow2
ALTER TABLE hollow SET SCHEMA depot
ALTER TABLE "Upper" RENAME "Id" TO id2
ALTER TABLE "Upper" RENAME "ID" TO id2
ALTER TABLE upper RENAME "Id" TO id2
ALTER TABLE depot.events RENAME COLUMN customer_id TO c
ALTER TABLE metrics DROP COLUMN day_no
ALTER TABLE countries RENAME TO lands
SELECT count(*) FROM hollow
}
{ constraints of a sharded table
ALTER TABLE hollow ADD CONSTRAINT v_small CHECK (v < 100)
INSERT INTO hollow VALUES (1, 100), (2, 5)
ALTER TABLE hollow RENAME CONSTRAINT v_small TO v_smaller
ALTER TABLE hollow DROP CONSTRAINT v_smaller
ALTER TABLE hollow ADD CONSTRAINT hollow_customer FOREIGN KEY (id) REFERENCES customers (id)
INSERT INTO hollow VALUES (1, 1), (2, 2)
INSERT INTO hollow VALUES (1111, 1)
ALTER TABLE hollow DROP CONSTRAINT hollow_customer
ALTER TABLE hollow ADD FOREIGN KEY (v) REFERENCES customers (id)
ALTER TABLE hollow ADD FOREIGN KEY (v) REFERENCES logs (id)
ALTER TABLE hollow ADD FOREIGN KEY (t) REFERENCES countries
ALTER TABLE hollow DROP CONSTRAINT hollow_t_fkey
ALTER TABLE hollow DROP CONSTRAINT hollow_pkey
ALTER TABLE hollow ADD PRIMARY KEY (id)
ALTER TABLE hollow ADD CONSTRAINT v_id UNIQUE (id, v)
ALTER TABLE hollow DROP CONSTRAINT v_id
ALTER TABLE hollow ALTER COLUMN v SET NOT NULL
ALTER TABLE hollow ALTER COLUMN v DROP NOT NULL
DELETE FROM hollow
}
{ a check that old rows break on one shard only
INSERT INTO hollow VALUES (1, 1), (2, 2), (3, 300), (4, 4)
ALTER TABLE hollow ADD CONSTRAINT v_small CHECK (v < 100)
ALTER TABLE hollow ALTER COLUMN t SET NOT NULL
DELETE FROM hollow
}
{ indexes of a sharded table
CREATE INDEX ON hollow (v)
CREATE INDEX CONCURRENTLY hollow_t ON hollow (t)
CREATE INDEX IF NOT EXISTS hollow_t ON hollow (t)
CREATE UNIQUE INDEX hollow_u ON hollow (id, v)
ALTER INDEX hollow_t RENAME TO hollow_tt
REINDEX INDEX hollow_tt
REINDEX TABLE hollow
COMMENT ON INDEX hollow_tt IS 'x'
DROP INDEX hollow_tt
DROP INDEX CONCURRENTLY hollow_u
DROP INDEX public.hollow_v_idx
DROP INDEX IF EXISTS hollow_tt
DROP INDEX hollow_tt
CREATE INDEX ON hollow (nosuch)
CREATE INDEX hollow_e ON hollow (lower(t)) WHERE v > 0
DROP INDEX hollow_e, hollow_e
DROP INDEX IF EXISTS hollow_e
}
{ other commands on a sharded table
COMMENT ON TABLE hollow IS 'hollow'
COMMENT ON COLUMN hollow.v IS 'v'
COMMENT ON COLUMN public.hollow.v IS NULL
COMMENT ON TABLE hollow IS NULL
ANALYZE hollow
ANALYZE
VACUUM hollow
VACUUM (FULL) hollow
ANALYZE hollow (v), logs
CLUSTER hollow USING hollow_pkey
ALTER TABLE hollow SET (fillfactor = 50)
ALTER TABLE hollow RESET (fillfactor)
ALTER TABLE hollow ALTER COLUMN t SET STORAGE EXTERNAL
ALTER TABLE hollow ALTER COLUMN t SET STORAGE EXTENDED
ALTER TABLE hollow ALTER COLUMN v SET STATISTICS 50
ALTER TABLE hollow ALTER COLUMN v SET STATISTICS -1
ALTER TABLE hollow CLUSTER ON hollow_pkey
ALTER TABLE hollow SET WITHOUT CLUSTER
ALTER TABLE hollow ENABLE ROW LEVEL SECURITY
ALTER TABLE hollow DISABLE ROW LEVEL SECURITY
ALTER TABLE hollow REPLICA IDENTITY FULL
ALTER TABLE hollow REPLICA IDENTITY DEFAULT
ALTER TABLE hollow INHERIT logs
ALTER TABLE hollow OF mood
ALTER TABLE hollow DISABLE TRIGGER ALL
ALTER TABLE hollow SET UNLOGGED
ALTER TABLE hollow SET LOGGED
ALTER TABLE hollow OWNER TO app
GRANT SELECT ON hollow TO PUBLIC
REVOKE SELECT ON hollow FROM PUBLIC
GRANT SELECT ON hollow, logs TO PUBLIC
GRANT SELECT ON ALL TABLES IN SCHEMA public TO PUBLIC
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC
CREATE STATISTICS hollow_s ON v, t FROM hollow
DROP STATISTICS hollow_s
}
{ a sharded table is made again
DROP TABLE hollow
SELECT * FROM hollow
SELECT * FROM hollow WHERE id = 1
INSERT INTO hollow VALUES (1)
CREATE TABLE hollow (v integer, id bigint PRIMARY KEY, t text)
INSERT INTO hollow VALUES (10, 1), (20, 2), (30, 3), (40, 4)
SELECT * FROM hollow
SELECT * FROM hollow WHERE id = 2
DROP TABLE hollow
CREATE TABLE hollow (id bigint PRIMARY KEY, v integer, t text)
}
{ a sharded table made without its key
DROP TABLE hollow
CREATE TABLE hollow (v integer, t text)
INSERT INTO hollow VALUES (1, 'x')
SELECT * FROM hollow
DROP TABLE IF EXISTS hollow
CREATE TABLE hollow (id text PRIMARY KEY, v integer, t text)
INSERT INTO hollow VALUES ('1', 1), ('01', 1)
SELECT * FROM hollow WHERE id = '1'
DROP TABLE IF EXISTS hollow
CREATE TABLE hollow (id bigint PRIMARY KEY, v integer, t text)
}
{ a sharded table made with unusual options
DROP TABLE hollow
CREATE UNLOGGED TABLE "hollow" ("id" bigint, v integer, t text, PRIMARY KEY (id)) WITH (fillfactor = 70)
INSERT INTO hollow VALUES (1, 1), (2, 2), (3, 3)
SELECT * FROM hollow
DROP TABLE hollow
CREATE TABLE public.hollow (id bigint GENERATED ALWAYS AS IDENTITY, v integer)
INSERT INTO hollow (v) VALUES (1)
INSERT INTO hollow (id, v) VALUES (1, 1), (2, 2)
INSERT INTO hollow (id, v) OVERRIDING SYSTEM VALUE VALUES (1, 1), (2, 2)
SELECT * FROM hollow
DROP TABLE hollow
CREATE TABLE hollow (id bigserial PRIMARY KEY, v integer)
INSERT INTO hollow (v) VALUES (1)
INSERT INTO hollow (id, v) VALUES (1, 1), (2, 2)
DROP TABLE hollow
[loose] CREATE TABLE hollow (id bigint PRIMARY KEY, made timestamptz DEFAULT now(), u uuid DEFAULT gen_random_uuid())
INSERT INTO hollow (id, made, u) VALUES (1, NULL, NULL), (2, NULL, NULL)
INSERT INTO hollow (id) VALUES (3), (4)
DROP TABLE hollow
CREATE TABLE hollow AS SELECT 1::bigint AS id
CREATE TABLE hollow AS SELECT id FROM customers
SELECT 1::bigint AS id INTO hollow
CREATE TABLE hollow (LIKE customers)
CREATE TABLE hollow (id bigint) PARTITION BY HASH (id)
DROP TABLE IF EXISTS hollow
CREATE TABLE hollow (id bigint PRIMARY KEY, v integer UNIQUE, t text)
DROP TABLE hollow
CREATE TABLE hollow (id bigint PRIMARY KEY, v integer, t text)
}
{ a view takes the name of a sharded table
DROP TABLE hollow
CREATE VIEW hollow AS SELECT 1::bigint AS id
CREATE MATERIALIZED VIEW hollow AS SELECT 1::bigint AS id
CREATE SEQUENCE hollow
DROP SEQUENCE IF EXISTS hollow
CREATE TABLE logs2 (id int)
ALTER TABLE logs2 RENAME TO hollow
SELECT * FROM hollow
DROP TABLE IF EXISTS hollow, logs2
DROP TABLE IF EXISTS logs2
DROP TABLE IF EXISTS hollow
CREATE TABLE depot.hollow (id bigint)
ALTER TABLE depot.hollow SET SCHEMA public
DROP TABLE IF EXISTS depot.hollow
DROP TABLE IF EXISTS hollow
CREATE VIEW log_view AS SELECT * FROM logs
ALTER VIEW log_view RENAME TO hollow
SELECT * FROM hollow
DROP VIEW IF EXISTS log_view
DROP VIEW IF EXISTS hollow
CREATE TABLE hollow (id bigint PRIMARY KEY, v integer, t text)
SELECT * FROM hollow
}
## views
{ views of one shard
CREATE VIEW seen AS SELECT * FROM logs
SELECT count(*) FROM seen
CREATE OR REPLACE VIEW seen AS SELECT * FROM logs WHERE id = 1
SELECT * FROM seen
DROP VIEW seen
CREATE MATERIALIZED VIEW mat AS SELECT * FROM logs
REFRESH MATERIALIZED VIEW mat
SELECT count(*) FROM mat
DROP MATERIALIZED VIEW mat
}
{ views over shards
CREATE VIEW seen AS SELECT * FROM customers
SELECT * FROM seen
CREATE VIEW seen AS SELECT * FROM countries
SELECT * FROM seen
CREATE VIEW seen AS SELECT * FROM active_customers
CREATE MATERIALIZED VIEW seen AS SELECT * FROM customers
CREATE OR REPLACE VIEW log_lines AS SELECT name AS msg FROM customers
DROP VIEW IF EXISTS seen
DROP VIEW active_customers
CREATE VIEW active_customers AS SELECT id, name FROM customers WHERE active
ALTER VIEW active_customers RENAME TO lively
ALTER VIEW IF EXISTS lively RENAME TO active_customers
REFRESH MATERIALIZED VIEW active_customers
}
{ views over functions
CREATE VIEW counted AS SELECT all_orders() AS n
SELECT * FROM counted
DROP VIEW IF EXISTS counted
CREATE VIEW counted AS SELECT order_count(id) AS n FROM logs
SELECT * FROM counted
DROP VIEW IF EXISTS counted
ALTER TABLE logs ADD COLUMN orders bigint DEFAULT all_orders()
INSERT INTO logs (msg) VALUES ('default')
SELECT msg FROM logs WHERE msg = 'default'
ALTER TABLE logs DROP COLUMN IF EXISTS orders
ALTER TABLE logs ADD CHECK (all_orders() > 5)
INSERT INTO logs (msg) VALUES ('checked')
ALTER TABLE logs DROP CONSTRAINT IF EXISTS logs_check
CREATE INDEX logs_f ON logs (twice(level))
DROP INDEX logs_f
DELETE FROM logs WHERE msg IN ('default', 'checked')
}
## types, schemas, sequences
{ types
CREATE TYPE fruit AS ENUM ('apple', 'pear')
ALTER TYPE fruit ADD VALUE 'fig'
CREATE TYPE pair AS (a int, b text)
CREATE DOMAIN short AS varchar(3)
ALTER TABLE hollow ADD COLUMN f fruit, ADD COLUMN p pair, ADD COLUMN s short
INSERT INTO hollow VALUES (1, 1, 'x', 'fig', ROW(1, 'a'), 'abc'), (2, 2, 'y', 'apple', '(2,b)', NULL)
SELECT f, (p).a, s FROM hollow
SELECT f, p FROM hollow
ALTER TABLE hollow DROP COLUMN f, DROP COLUMN p, DROP COLUMN s
DELETE FROM hollow
DROP TYPE fruit, pair
DROP DOMAIN short
}
{ schemas
CREATE SCHEMA extra
CREATE TABLE extra.things (id int)
INSERT INTO extra.things VALUES (1)
SELECT * FROM extra.things
DROP SCHEMA extra
DROP SCHEMA extra CASCADE
CREATE SCHEMA extra CREATE TABLE t (id int)
DROP SCHEMA IF EXISTS extra CASCADE
ALTER SCHEMA depot RENAME TO depot2
SELECT * FROM depot.events WHERE customer_id = 1
ALTER SCHEMA depot2 RENAME TO depot
}
{ sequences
CREATE SEQUENCE s1
SELECT nextval('s1')
CREATE TABLE uses (id int DEFAULT nextval('s1'), v text)
INSERT INTO uses (v) VALUES ('a') RETURNING id
DROP SEQUENCE s1
DROP SEQUENCE s1 CASCADE
INSERT INTO uses (v) VALUES ('b') RETURNING id
DROP TABLE uses
ALTER SEQUENCE ticket RESTART WITH 100
}
{ sequences of sharded tables
ALTER TABLE serials ALTER COLUMN id DROP DEFAULT
ALTER TABLE serials ALTER COLUMN id SET DEFAULT nextval('serials_id_seq')
ALTER SEQUENCE serials_id_seq RESTART WITH 50
DROP SEQUENCE serials_id_seq
DROP SEQUENCE serials_id_seq CASCADE
INSERT INTO serials (k, ident, v) VALUES (1, 1, 'x')
ALTER SEQUENCE serials_id_seq RENAME TO other_seq
ALTER SEQUENCE IF EXISTS other_seq RENAME TO serials_id_seq
ALTER SEQUENCE serials_id_seq OWNED BY NONE
ALTER SEQUENCE serials_id_seq OWNED BY serials.id
}
{ serial columns as pg_dump writes them
ALTER TABLE hollow ADD COLUMN num integer
CREATE SEQUENCE public.hollow_num_seq AS integer START WITH 1 INCREMENT BY 1 NO MINVALUE NO MAXVALUE CACHE 1
ALTER SEQUENCE public.hollow_num_seq OWNED BY public.hollow.num
ALTER TABLE ONLY public.hollow ALTER COLUMN num SET DEFAULT nextval('public.hollow_num_seq'::regclass)
SELECT pg_catalog.setval('public.hollow_num_seq', 17, true)
INSERT INTO hollow (id) VALUES (1), (2), (3) RETURNING id, num
DELETE FROM hollow
ALTER TABLE hollow DROP COLUMN num
CREATE SEQUENCE again
DROP SEQUENCE again
CREATE SEQUENCE again
CREATE SEQUENCE IF NOT EXISTS again
DROP SEQUENCE again
CREATE TABLE settings2 (n int DEFAULT nextval('ticket'))
DROP TABLE settings2
ALTER TABLE settings ADD COLUMN x int DEFAULT nextval('ticket')
}
{ a sharded table that draws from a sequence of its own
CREATE SEQUENCE s2
ALTER TABLE hollow ALTER COLUMN v SET DEFAULT nextval('s2')
INSERT INTO hollow (id) VALUES (1), (2)
INSERT INTO hollow (id, v) VALUES (1, 1), (2, 2)
DELETE FROM hollow
ALTER TABLE hollow ALTER COLUMN v DROP DEFAULT
DROP SEQUENCE s2
}
{ several tables
CREATE TABLE t1 (id int)
CREATE TABLE t2 (id int)
DROP TABLE t1, t2
CREATE TABLE t1 (id int)
DROP TABLE t1, hollow
DROP TABLE hollow, small
DROP TABLE IF EXISTS t1, nosuch CASCADE
CREATE TABLE IF NOT EXISTS hollow (id bigint PRIMARY KEY, v integer, t text)
CREATE TABLE IF NOT EXISTS small (k integer, v text, w bigint)
}
{ a column may be called as a sharded table
CREATE TEMP TABLE zt (customers int, orders text)
INSERT INTO zt VALUES (1, 'a')
SELECT customers FROM zt
DROP TABLE zt
}
