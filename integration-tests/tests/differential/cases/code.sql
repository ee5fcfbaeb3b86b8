## functions that look at sharded tables
SELECT order_count(1)
SELECT order_count(id) FROM customers WHERE id = 1
SELECT order_count(id) FROM customers
SELECT all_orders()
SELECT public.all_orders()
SELECT "all_orders"()
SELECT * FROM all_orders()
SELECT * FROM all_orders() AS x
SELECT * FROM ROWS FROM (all_orders())
SELECT * FROM logs, LATERAL all_orders() x ORDER BY id
SELECT id FROM logs WHERE all_orders() > 0
SELECT id FROM logs ORDER BY all_orders(), id
SELECT id FROM logs LIMIT all_orders()
SELECT CASE WHEN true THEN all_orders() END
SELECT ARRAY[all_orders()]
SELECT count(*) FILTER (WHERE all_orders() > 0) FROM logs
SELECT (customers).total_of FROM customers
SELECT customers.total_of FROM customers
SELECT c.total_of FROM customers c WHERE c.id = 1
SELECT c.customers_named FROM customers c WHERE c.id = 1
SELECT total_of(c) FROM customers c
SELECT c.name(c) FROM customers c
INSERT INTO logs (level) VALUES (all_orders())
INSERT INTO logs (level) SELECT all_orders()
UPDATE logs SET level = all_orders() WHERE id = 1
UPDATE logs SET level = 1 WHERE all_orders() = 1
DELETE FROM logs WHERE all_orders() = 0
DELETE FROM logs WHERE id > 100 RETURNING all_orders()
SELECT add_customer(900, 'by function')
VALUES (all_orders())
CALL wipe()
DO $$ BEGIN DELETE FROM orders; END $$
DO $$ BEGIN PERFORM 1; END $$
COPY (SELECT all_orders()) TO STDOUT
[loose] EXPLAIN SELECT all_orders()
CREATE TABLE made AS SELECT all_orders()
CREATE INDEX bad ON logs ((all_orders()))
PREPARE x AS SELECT all_orders()
SELECT query_to_xml('SELECT count(*) FROM customers', true, false, '')
SELECT table_to_xml('customers', true, false, '')
SELECT pg_catalog.query_to_xml('SELECT count(*) FROM customers', true, false, '')
SELECT database_to_xml(true, false, '') IS NULL
SELECT ts_stat('SELECT to_tsvector(name) FROM customers')
SELECT * FROM ts_stat('SELECT to_tsvector(name) FROM customers')
SELECT has_table_privilege('customers', 'SELECT')
SELECT pg_get_serial_sequence('logs', 'id')
[loose] SELECT 'customers'::regclass
[loose] SELECT to_regclass('customers')::text
[loose] SELECT to_regclass('customers') IS NULL
[loose] SELECT obj_description('customers'::regclass)
SELECT twice(21)
SELECT twice(level) FROM logs ORDER BY id
## making code
{ a function that says nothing about tables
CREATE FUNCTION plus(integer, integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1 + $2'
SELECT plus(1, 2)
SELECT id, plus("Mixed Case", 1) FROM customers
CREATE OR REPLACE FUNCTION plus(integer, integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1 - $2'
SELECT id, plus("Mixed Case", 1) FROM customers
SELECT plus(1, 2)
DROP FUNCTION plus(integer, integer)
SELECT plus(1, 2)
}
{ a function over an unlisted table
CREATE FUNCTION log_count() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM logs'
SELECT log_count()
DROP FUNCTION log_count()
CREATE FUNCTION log_count() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) FROM logs); END'
SELECT log_count()
DROP FUNCTION IF EXISTS log_count()
CREATE FUNCTION of_log(logs) RETURNS text LANGUAGE sql AS 'SELECT $1.msg'
DROP FUNCTION IF EXISTS of_log(logs)
CREATE FUNCTION all_logs() RETURNS SETOF logs LANGUAGE sql AS 'SELECT * FROM logs'
SELECT * FROM all_logs()
DROP FUNCTION IF EXISTS all_logs()
}
{ a function that lies
CREATE FUNCTION lies() RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT count(*) FROM public.orders'
SELECT lies()
SELECT id, lies() FROM customers
SELECT id, lies() FROM customers WHERE id = 1
DROP FUNCTION lies()
CREATE FUNCTION lies() RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN (SELECT count(*) FROM public.orders); END'
SELECT lies()
SELECT id, lies() FROM customers
DROP FUNCTION lies()
}
{ an operator with a function behind it
CREATE FUNCTION has_orders(bigint, text) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM public.orders WHERE item = $2)'
CREATE OPERATOR @@@ (LEFTARG = bigint, RIGHTARG = text, FUNCTION = has_orders)
SELECT 1::bigint @@@ 'seven'
SELECT id FROM customers WHERE id @@@ 'seven'
SELECT id FROM customers WHERE id = 1 AND id @@@ 'seven'
SELECT id FROM logs WHERE id::bigint @@@ 'seven'
DROP OPERATOR @@@ (bigint, text)
CREATE OPERATOR = (LEFTARG = bigint, RIGHTARG = text, FUNCTION = has_orders)
SELECT 1::bigint = 'seven'::text
SELECT id FROM logs WHERE id::bigint = 'seven'::text
DROP OPERATOR = (bigint, text)
DROP FUNCTION has_orders(bigint, text)
}
{ a trigger on an unlisted table that writes to a sharded one
CREATE TRIGGER t AFTER INSERT ON logs FOR EACH ROW EXECUTE FUNCTION log_to_customers()
INSERT INTO logs (msg, level) VALUES ('by trigger', 901)
INSERT INTO logs (msg, level) VALUES ('by trigger', 902)
INSERT INTO logs (msg, level) VALUES ('by trigger', 903)
DROP TRIGGER t ON logs
DELETE FROM logs WHERE msg = 'by trigger'
DELETE FROM customers WHERE name = 'by trigger'
}
{ a harmless trigger
CREATE TRIGGER t BEFORE INSERT ON logs FOR EACH ROW EXECUTE FUNCTION stamp_name()
INSERT INTO logs (msg, level) VALUES ('quiet', 1) RETURNING msg
DROP TRIGGER t ON logs
DELETE FROM logs WHERE msg IN ('quiet', 'QUIET')
CREATE TRIGGER t BEFORE INSERT ON customers FOR EACH ROW EXECUTE FUNCTION stamp_name()
DROP TRIGGER IF EXISTS t ON customers
CREATE TRIGGER t BEFORE INSERT ON countries FOR EACH ROW EXECUTE FUNCTION stamp_name()
DROP TRIGGER IF EXISTS t ON countries
}
{ rules
CREATE RULE r AS ON INSERT TO logs DO ALSO INSERT INTO hollow VALUES (1)
INSERT INTO logs (msg) VALUES ('rule')
CREATE RULE r2 AS ON INSERT TO customers DO INSTEAD NOTHING
CREATE RULE r3 AS ON UPDATE TO logs DO INSTEAD NOTHING
UPDATE logs SET msg = 'x' WHERE id = 1
DROP RULE IF EXISTS r3 ON logs
DROP RULE IF EXISTS r ON logs
DELETE FROM logs WHERE msg = 'rule'
}
{ a policy
CREATE POLICY p ON customers USING (id > 0)
CREATE POLICY p ON hollow USING (v IN (SELECT level FROM logs))
DROP POLICY IF EXISTS p ON customers
DROP POLICY IF EXISTS p ON hollow
}
{ a default with a function behind it
ALTER TABLE logs ALTER COLUMN level SET DEFAULT all_orders()
INSERT INTO logs (msg) VALUES ('default')
SELECT level FROM logs WHERE msg = 'default'
ALTER TABLE logs ALTER COLUMN level DROP DEFAULT
DELETE FROM logs WHERE msg = 'default'
CREATE TABLE made (id int DEFAULT all_orders())
INSERT INTO made DEFAULT VALUES
SELECT * FROM made
DROP TABLE IF EXISTS made
CREATE TABLE made (id int, n bigint GENERATED ALWAYS AS (twice(id)) STORED)
DROP TABLE made
CREATE DOMAIN checked AS integer CHECK (all_orders() > VALUE)
SELECT 5::checked
SELECT 1000::checked
DROP DOMAIN IF EXISTS checked
}
{ casts
CREATE FUNCTION to_mood(integer) RETURNS mood LANGUAGE sql STABLE AS 'SELECT CASE WHEN (SELECT count(*) FROM public.orders) > $1 THEN ''ok''::mood ELSE ''sad''::mood END'
CREATE CAST (integer AS mood) WITH FUNCTION to_mood(integer)
SELECT 5::mood
SELECT id, number::mood FROM orders
DROP CAST (integer AS mood)
DROP FUNCTION to_mood(integer)
}
{ an aggregate with a function behind it
CREATE FUNCTION acc(bigint, integer) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT $1 + (SELECT count(*) FROM public.orders)'
CREATE AGGREGATE agg(integer) (SFUNC = acc, STYPE = bigint, INITCOND = '0')
SELECT agg(level) FROM logs
DROP AGGREGATE agg(integer)
DROP FUNCTION acc(bigint, integer)
}
{ extensions
CREATE EXTENSION IF NOT EXISTS plpgsql
COMMENT ON FUNCTION twice(integer) IS 'x'
COMMENT ON FUNCTION twice(integer) IS NULL
ALTER FUNCTION twice(integer) VOLATILE
SELECT id, twice("Mixed Case") FROM customers WHERE id = 1
SELECT id, twice("Mixed Case") FROM customers
ALTER FUNCTION twice(integer) IMMUTABLE
SELECT id, twice("Mixed Case") FROM customers
}
## code that tables brought along
INSERT INTO fired VALUES (1, 1, 'a'), (2, 2, 'b'), (3, 3, 'c'), (4, NULL, NULL)
COPY fired FROM STDIN <<< 5\t5\te\n6\t6\tf\n7\t7\tg\n
UPDATE fired SET t = 'other'
UPDATE fired SET v = 10 WHERE id = 2
SELECT * FROM fired
DELETE FROM fired WHERE v < 4
INSERT INTO counted VALUES (1, 1)
INSERT INTO counted VALUES (1, 1), (2, 2), (3, 3)
COPY counted FROM STDIN <<< 1\t1\n2\t2\n
UPDATE counted SET v = 1 WHERE id = 1
DELETE FROM counted WHERE id = 1
DELETE FROM counted
SELECT * FROM counted
INSERT INTO veiled VALUES (1, 1, 'a')
SELECT * FROM veiled
SELECT count(*) FROM veiled
SELECT * FROM veiled WHERE id = 1
UPDATE veiled SET t = 'x' WHERE id = 1
COPY veiled TO STDOUT
