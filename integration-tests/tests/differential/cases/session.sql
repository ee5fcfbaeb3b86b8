## transactions
{ a write over shards is committed as a whole
BEGIN
INSERT INTO hollow VALUES (1, 1), (2, 2), (3, 3), (4, 4)
UPDATE hollow SET v = v + 1
SELECT sum(v) FROM hollow
COMMIT
SELECT * FROM hollow
DELETE FROM hollow
}
{ or taken back
BEGIN
INSERT INTO hollow VALUES (1, 1), (2, 2), (3, 3), (4, 4)
INSERT INTO logs (msg) VALUES ('gone')
UPDATE countries SET rank = 99
ROLLBACK
SELECT * FROM hollow
}
{ an error fails the transaction on all shards
BEGIN
INSERT INTO hollow VALUES (1, 1), (2, 2)
INSERT INTO hollow VALUES (1, 1)
SELECT 1
INSERT INTO hollow VALUES (9, 1)
COMMIT
SELECT * FROM hollow
}
{ savepoints over shards
BEGIN
INSERT INTO hollow VALUES (1, 1)
SAVEPOINT a
INSERT INTO hollow VALUES (2, 2), (3, 3), (4, 4), (5, 5)
SAVEPOINT b
UPDATE hollow SET v = 0
ROLLBACK TO b
SELECT sum(v) FROM hollow
RELEASE a
ROLLBACK TO a
SELECT 1
ROLLBACK
}
{ an error, then back to a savepoint
BEGIN
INSERT INTO hollow VALUES (1, 1), (2, 2), (3, 3)
SAVEPOINT "A b"
INSERT INTO hollow VALUES (4, 4), (1, 1)
SELECT count(*) FROM hollow
ROLLBACK TO SAVEPOINT "A b"
INSERT INTO hollow VALUES (5, 5), (6, 6)
SELECT count(*) FROM hollow
RELEASE SAVEPOINT "A b"
COMMIT
SELECT * FROM hollow
DELETE FROM hollow
}
{ a savepoint of the same name hides the older
BEGIN
SAVEPOINT s
INSERT INTO hollow VALUES (1, 1), (2, 2)
SAVEPOINT s
INSERT INTO hollow VALUES (3, 3), (4, 4)
ROLLBACK TO s
RELEASE s
SELECT count(*) FROM hollow
ROLLBACK TO s
SELECT count(*) FROM hollow
COMMIT
}
{ a shard that joins after a savepoint
BEGIN
INSERT INTO hollow VALUES (1, 1)
SAVEPOINT s
INSERT INTO hollow VALUES (2, 2)
INSERT INTO hollow VALUES (3, 3)
INSERT INTO hollow VALUES (5, 5)
ROLLBACK TO s
INSERT INTO hollow VALUES (7, 7)
RELEASE s
COMMIT
SELECT * FROM hollow
DELETE FROM hollow
}
{ commands out of place
COMMIT
ROLLBACK
SAVEPOINT s
ROLLBACK TO s
RELEASE s
BEGIN
BEGIN
COMMIT
ABORT
END
}
{ a failed transaction takes nothing
BEGIN
SELECT 1/0
BEGIN
SET TimeZone = 'UTC'
SHOW TimeZone
SELECT * FROM customers
SAVEPOINT s
ROLLBACK TO nosuch
END
SELECT 1
}
{ chains
BEGIN ISOLATION LEVEL REPEATABLE READ
INSERT INTO hollow VALUES (1, 1)
COMMIT AND CHAIN
SHOW transaction_isolation
INSERT INTO hollow VALUES (4, 3)
ROLLBACK AND CHAIN
SHOW transaction_isolation
COMMIT
SELECT * FROM hollow
DELETE FROM hollow
}
{ read only
BEGIN READ ONLY
SELECT count(*) FROM customers
INSERT INTO hollow VALUES (1, 1)
ROLLBACK
START TRANSACTION READ ONLY
UPDATE customers SET note = 'ro'
COMMIT
SET default_transaction_read_only = on
INSERT INTO hollow VALUES (1, 1), (2, 2)
SELECT count(*) FROM hollow
SET default_transaction_read_only = off
}
{ set transaction
BEGIN
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ
SHOW transaction_isolation
SELECT count(*) FROM customers
SET TRANSACTION ISOLATION LEVEL READ COMMITTED
ROLLBACK
BEGIN
SELECT count(*) FROM customers
SET TRANSACTION READ ONLY
UPDATE customers SET note = 'x'
ROLLBACK
BEGIN
SET TRANSACTION READ ONLY
UPDATE customers SET note = 'x' WHERE id = 1
ROLLBACK
}
{ serializable
BEGIN ISOLATION LEVEL SERIALIZABLE
SELECT count(*) FROM customers WHERE id = 1
COMMIT
}
{ deferred constraints
BEGIN
SET CONSTRAINTS ALL DEFERRED
INSERT INTO lines VALUES (1, 999, 1, 'later', 1)
INSERT INTO lines VALUES (3, 999, 1, 'later', 1)
INSERT INTO orders (customer_id, number) VALUES (1, 999), (3, 999)
COMMIT
DELETE FROM orders WHERE number = 999
}
{ a deferred constraint that fails at the end
BEGIN
SET CONSTRAINTS lines_customer_id_number_fkey DEFERRED
INSERT INTO lines VALUES (1, 998, 1, 'later', 1)
INSERT INTO hollow VALUES (1, 1), (2, 2), (3, 3)
COMMIT
SELECT * FROM hollow
}
{ ddl in a transaction
BEGIN
ALTER TABLE hollow ADD COLUMN extra integer DEFAULT 5
INSERT INTO hollow (id, extra) VALUES (1, 1), (2, 2)
SELECT * FROM hollow
ROLLBACK
SELECT * FROM hollow
}
{ ddl that stays, used in the same transaction
BEGIN
ALTER TABLE hollow ADD COLUMN extra integer DEFAULT 5
INSERT INTO hollow (id, extra) VALUES (1, 1), (2, 2)
COMMIT
INSERT INTO hollow VALUES (3, 3, 'x', 4)
SELECT * FROM hollow
DELETE FROM hollow
ALTER TABLE hollow DROP COLUMN extra
}
{ a write seen by the same transaction through a reference table
BEGIN
UPDATE countries SET rank = 77 WHERE code = 'DE'
SELECT rank FROM countries WHERE code = 'DE'
SELECT c.id, k.rank FROM customers c JOIN countries k ON k.code = c.country
ROLLBACK
SELECT rank FROM countries WHERE code = 'DE'
}
## settings
{ set, show, reset
SET TimeZone = 'Asia/Tokyo'
SHOW TimeZone
SELECT current_setting('TimeZone')
RESET TimeZone
SHOW TimeZone
SET TIME ZONE 'Europe/Berlin'
SHOW timezone
SET TIME ZONE LOCAL
SET TIME ZONE -3
SHOW timezone
RESET ALL
SHOW timezone
}
{ set that fails
SET nosuch = 1
SET TimeZone = 'Nowhere'
SHOW TimeZone
SET work_mem = 'x'
SHOW nosuch
}
{ set local
BEGIN
SET LOCAL TimeZone = 'Asia/Tokyo'
SELECT placed FROM orders WHERE customer_id = 1
SELECT placed FROM orders WHERE customer_id = 3
SELECT placed FROM orders
COMMIT
SHOW TimeZone
SET LOCAL TimeZone = 'Asia/Tokyo'
SHOW TimeZone
}
{ set in a transaction that is rolled back
BEGIN
SET TimeZone = 'Asia/Tokyo'
ROLLBACK
SHOW TimeZone
SELECT placed FROM orders
}
{ set after a savepoint
BEGIN
SET TimeZone = 'Asia/Tokyo'
SAVEPOINT s
SET TimeZone = 'Europe/Berlin'
ROLLBACK TO s
SHOW TimeZone
SELECT placed FROM orders
COMMIT
SHOW TimeZone
}
{ set_config is a SET
SELECT set_config('TimeZone', 'Asia/Tokyo', false)
SELECT placed FROM orders WHERE customer_id = 1
SELECT placed FROM orders WHERE customer_id = 3
SELECT placed FROM orders WHERE customer_id = 9
SELECT placed FROM orders
}
{ set_config for a transaction
BEGIN
SELECT set_config('TimeZone', 'Asia/Tokyo', true)
SELECT placed FROM orders WHERE customer_id = 1
SELECT placed FROM orders WHERE customer_id = 3
SELECT placed FROM orders WHERE customer_id = 9
SELECT placed FROM orders
COMMIT
}
{ set_config among others
SELECT id, set_config('TimeZone', 'Asia/Tokyo', false) FROM customers WHERE id = 1
SELECT placed FROM orders
}
{ set_config in a query over shards
SELECT id, set_config('TimeZone', 'Asia/Tokyo', false) FROM customers
SELECT placed FROM orders
}
{ set_config through a table
UPDATE pg_settings SET setting = 'Asia/Tokyo' WHERE name = 'TimeZone'
SELECT placed FROM orders
}
{ the search path hides a table
SET search_path = depot, public
SELECT * FROM flags
SELECT * FROM flags WHERE word = 'a'
SELECT * FROM flags WHERE word = 'zzz'
SELECT * FROM flags WHERE word = 'b'
SELECT count(*) FROM flags
UPDATE flags SET extra = 'e' WHERE word = 'a'
INSERT INTO flags VALUES ('b', 'x')
DELETE FROM flags WHERE word = 'b'
SELECT * FROM events WHERE customer_id = 1
SELECT * FROM notes
}
{ the search path has no public
SET search_path = depot
SELECT * FROM customers
SELECT * FROM customers WHERE id = 1
SELECT * FROM flags WHERE word = 'a'
SELECT * FROM flags WHERE word = 'b'
SELECT * FROM events
SELECT * FROM countries
}
{ an empty search path
SET search_path = ''
SELECT * FROM customers WHERE id = 1
SELECT * FROM public.customers WHERE id = 1
SELECT * FROM public.customers c JOIN public.orders o ON o.customer_id = c.id WHERE c.id = 1
SELECT count(*) FROM public.customers
}
{ set schema
SET SCHEMA 'depot'
SELECT * FROM flags WHERE word = 'a'
SELECT * FROM flags WHERE word = 'zzz'
}
{ a search path for a transaction
BEGIN
SET LOCAL search_path = depot, public
SELECT * FROM flags WHERE word = 'a'
SELECT * FROM flags
COMMIT
SELECT * FROM flags WHERE word = 'a'
}
{ a quoted search path
SET search_path TO "depot", "$user", public
SELECT * FROM flags WHERE word = 'a'
}
{ the search path through set_config
SELECT set_config('search_path', 'depot, public', false)
SELECT * FROM flags WHERE word = 'a'
SELECT * FROM flags WHERE word = 'b'
}
{ settings that change how text is read
SET standard_conforming_strings = off
SELECT * FROM words WHERE word = 'back\\slash'
SET backslash_quote = on
SELECT * FROM words WHERE word = 'it\'s'
SET standard_conforming_strings = on
SET client_encoding = 'LATIN1'
SELECT * FROM words
RESET client_encoding
SET quote_all_identifiers = on
SET transform_null_equals = on
SELECT * FROM customers WHERE name = NULL
SELECT * FROM customers WHERE id = NULL
SELECT * FROM metrics WHERE tenant = NULL AND day_no = NULL
SET array_nulls = off
SELECT '{NULL}'::text[]
SET lock_timeout = '1s'
SET statement_timeout = '10s'
SELECT * FROM customers
}
{ roles
SET ROLE app
SELECT current_user
RESET ROLE
SET ROLE nosuch
SET SESSION AUTHORIZATION app
RESET SESSION AUTHORIZATION
SELECT current_user, session_user
}
{ a custom setting
SET my.key = 'v'
SHOW my.key
SELECT current_setting('my.key')
SELECT id FROM customers WHERE current_setting('my.key') = 'v' AND id = 1
SELECT id FROM customers WHERE current_setting('my.key') = 'v'
}
## prepared statements in SQL
{ prepare and execute
PREPARE a AS SELECT * FROM logs WHERE id = $1
EXECUTE a(1)
EXECUTE a(2)
DEALLOCATE a
EXECUTE a(1)
PREPARE b AS SELECT 1
PREPARE b AS SELECT 2
DEALLOCATE ALL
EXECUTE b
}
{ prepare over shards
PREPARE a AS SELECT * FROM customers WHERE id = $1
EXECUTE a(1)
PREPARE b(bigint) AS INSERT INTO hollow VALUES ($1)
EXECUTE b(1)
PREPARE c AS SELECT * FROM countries WHERE code = $1
EXECUTE c('DE')
}
{ prepare and another schema
PREPARE a AS SELECT * FROM flags
SET search_path = depot
PREPARE b AS SELECT * FROM flags
EXECUTE b
}
## cursors
{ a cursor on one shard
BEGIN
DECLARE c CURSOR FOR SELECT number FROM orders WHERE customer_id = 3 ORDER BY number
FETCH c
FETCH NEXT FROM c
FETCH 2 FROM c
FETCH ALL IN c
MOVE BACKWARD ALL IN c
CLOSE c
FETCH c
ROLLBACK
}
{ cursors on several shards
BEGIN
DECLARE c1 CURSOR FOR SELECT number FROM orders WHERE customer_id = 3 ORDER BY number
DECLARE c2 SCROLL CURSOR FOR SELECT number FROM orders WHERE customer_id = 1 ORDER BY number
DECLARE c3 CURSOR FOR SELECT * FROM logs ORDER BY id
FETCH 1 FROM c1
FETCH LAST FROM c2
FETCH 1 FROM c3
FETCH PRIOR FROM c2
CLOSE ALL
FETCH c1
COMMIT
}
{ a cursor over shards
BEGIN
DECLARE c CURSOR FOR SELECT * FROM customers
FETCH ALL FROM c
COMMIT
}
{ a cursor over shards, in order, forth and back
BEGIN
DECLARE c SCROLL CURSOR FOR SELECT id, name, note, mood FROM customers ORDER BY name NULLS FIRST, id
FETCH 3 FROM c
FETCH BACKWARD 2 FROM c
FETCH LAST FROM c
FETCH ABSOLUTE 4 FROM c
FETCH RELATIVE -1 FROM c
MOVE FORWARD 2 IN c
FETCH NEXT FROM c
FETCH FORWARD ALL FROM c
FETCH FIRST FROM c
CLOSE c
DECLARE c NO SCROLL CURSOR FOR SELECT c.name, count(*) FROM customers c JOIN orders o ON o.number = c.id GROUP BY c.name ORDER BY 1
FETCH 2 FROM c
FETCH ALL FROM c
COMMIT
FETCH c
}
{ several cursors over shards, and gathers beside them
BEGIN
DECLARE a CURSOR FOR SELECT id FROM customers ORDER BY id
DECLARE b CURSOR FOR SELECT word FROM words ORDER BY n NULLS LAST
SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY id) FROM customers
FETCH 2 FROM a
FETCH 3 FROM b
UPDATE customers SET note = 'cursor' WHERE id IN (1, 2, 3)
FETCH 2 FROM a
DECLARE a CURSOR FOR SELECT id FROM customers ORDER BY id
ROLLBACK
}
{ what a cursor sees is of the moment when it was declared
BEGIN
DECLARE c CURSOR FOR SELECT id, note FROM customers WHERE id < 5 ORDER BY id
UPDATE customers SET note = 'later' WHERE id < 5
FETCH ALL FROM c
ROLLBACK
}
{ a cursor over shards that is held
BEGIN
DECLARE h CURSOR WITH HOLD FOR SELECT id FROM customers ORDER BY id
UPDATE customers SET note = note
COMMIT
FETCH 2 FROM h
FETCH ALL FROM h
CLOSE h
DECLARE h CURSOR WITH HOLD FOR SELECT max(name COLLATE "C"), count(*) FROM customers
FETCH ALL FROM h
CLOSE h
}
{ a cursor over shards of a rolled back savepoint
BEGIN
SAVEPOINT s
DECLARE c CURSOR FOR SELECT id FROM customers ORDER BY id
ROLLBACK TO s
FETCH c
ROLLBACK
BEGIN
SAVEPOINT s
DECLARE c CURSOR FOR SELECT id FROM customers ORDER BY id
ROLLBACK TO s
DECLARE c CURSOR FOR SELECT id FROM orders o JOIN customers c ON c.id = o.number ORDER BY id, amount
FETCH 1 FROM c
ROLLBACK
}
DECLARE c CURSOR FOR SELECT id FROM customers ORDER BY id
{ a cursor over shards that cannot be
BEGIN
DECLARE c CURSOR FOR SELECT nosuch FROM customers
ROLLBACK
BEGIN
DECLARE c CURSOR FOR SELECT * FROM customers FOR UPDATE
ROLLBACK
BEGIN
DECLARE c CURSOR FOR SELECT id, 1 / (id - 1) FROM customers WHERE id > 0 AND id < 1000 ORDER BY id
FETCH ALL FROM c
ROLLBACK
}
{ a cursor that is held
BEGIN
DECLARE h CURSOR WITH HOLD FOR SELECT number FROM orders WHERE customer_id = 3 ORDER BY number
COMMIT
FETCH 1 FROM h
FETCH ALL FROM h
CLOSE h
}
{ a cursor of a rolled back savepoint
BEGIN
SAVEPOINT s
DECLARE c CURSOR FOR SELECT number FROM orders WHERE customer_id = 3 ORDER BY number
ROLLBACK TO s
FETCH c
ROLLBACK
}
{ a cursor opened twice
BEGIN
DECLARE c CURSOR FOR SELECT number FROM orders WHERE customer_id = 3 ORDER BY number
DECLARE c CURSOR FOR SELECT number FROM orders WHERE customer_id = 1 ORDER BY number
ROLLBACK
BEGIN
DECLARE c CURSOR FOR SELECT number FROM orders WHERE customer_id = 3 ORDER BY number
SAVEPOINT s
DECLARE c CURSOR FOR SELECT id FROM logs
ROLLBACK TO s
FETCH c
ROLLBACK
}
{ a cursor outside a transaction
DECLARE c CURSOR FOR SELECT 1
FETCH c
CLOSE c
}
{ update at a cursor
BEGIN
DECLARE c CURSOR FOR SELECT * FROM orders WHERE customer_id = 1 FOR UPDATE
FETCH c
[loose] UPDATE orders SET item = 'cur' WHERE CURRENT OF c
[loose] DELETE FROM orders WHERE CURRENT OF c
ROLLBACK
}
## temporary tables
{ a temporary table
CREATE TEMP TABLE mine (id bigint, v int)
INSERT INTO mine VALUES (1, 1), (2, 2)
SELECT * FROM mine
SELECT m.v, k.code FROM mine m, countries k ORDER BY 1, 2
SELECT m.v, c.name FROM mine m JOIN customers c ON c.id = m.id WHERE c.id = 1
SELECT m.v, c.name FROM mine m JOIN customers c ON c.id = m.id
INSERT INTO hollow SELECT * FROM mine
DROP TABLE mine
}
{ a temporary table hides another
CREATE TEMP TABLE customers (id bigint, v int)
SELECT count(*) FROM customers
DROP TABLE IF EXISTS pg_temp.customers
}
{ a temporary table in its own schema
CREATE TABLE pg_temp.customers (id bigint, v int)
SELECT count(*) FROM customers
DROP TABLE IF EXISTS pg_temp.customers
}
{ a temporary table that takes the name of another
CREATE TEMP TABLE mine (id bigint, v int)
ALTER TABLE mine RENAME TO customers
SELECT count(*) FROM customers
SELECT * FROM customers WHERE id = 1
}
{ a temporary view
CREATE TEMP VIEW mine AS SELECT * FROM logs
SELECT * FROM mine
CREATE TEMP VIEW customers AS SELECT 1 AS id
SELECT * FROM customers WHERE id = 1
}
{ into
SELECT id, name INTO TEMP mine FROM customers WHERE id = 1
SELECT * FROM mine
SELECT id INTO TEMP customers FROM logs
SELECT count(*) FROM customers
}
{ as
CREATE TEMP TABLE mine AS SELECT * FROM logs
SELECT count(*) FROM mine
CREATE TEMP TABLE mine2 AS SELECT * FROM customers
CREATE TEMP TABLE mine3 AS SELECT * FROM countries
SELECT count(*) FROM mine3
}
{ a temporary table over names of others
CREATE TEMP TABLE settings (a int)
SELECT * FROM settings
}
{ a temporary table hides an unlisted one
CREATE TEMP TABLE logs (a int)
SELECT * FROM logs
INSERT INTO logs VALUES (1)
DROP TABLE logs
SELECT count(*) FROM logs
}
## sequences and functions of the session
{ sequences
SELECT nextval('ticket')
SELECT currval('ticket')
SELECT lastval()
SELECT setval('ticket', 500)
SELECT nextval('ticket')
INSERT INTO logs (msg) VALUES ('seq') RETURNING id
SELECT currval('logs_id_seq')
SELECT lastval()
SELECT setval('ticket', 100, false)
DELETE FROM logs WHERE msg = 'seq'
}
{ what the session drew last, in one transaction and over two
BEGIN
SELECT nextval('ticket')
SELECT currval('ticket')
INSERT INTO logs (msg) VALUES ('seq') RETURNING id
SELECT lastval() = currval('logs_id_seq')
COMMIT
SELECT currval('ticket')
DELETE FROM logs WHERE msg = 'seq'
SELECT setval('ticket', 100, false)
}
{ sequences among rows
SELECT nextval('ticket'), id FROM customers WHERE id = 1
SELECT nextval('ticket'), id FROM customers
SELECT nextval('ticket'), code FROM countries ORDER BY code
SELECT nextval('serials_id_seq')
SELECT setval('ticket', 100, false)
}
{ locks
SELECT pg_advisory_lock(1)
SELECT pg_advisory_unlock(1)
SELECT pg_advisory_unlock(1)
BEGIN
SELECT pg_advisory_xact_lock(1)
LOCK TABLE customers
LOCK TABLE logs IN SHARE MODE
LOCK customers, logs
COMMIT
LOCK TABLE customers
}
{ notify
LISTEN ch
NOTIFY nobody, 'x'
UNLISTEN *
}
{ discard
DISCARD PLANS
DISCARD TEMP
DISCARD SEQUENCES
DISCARD ALL
BEGIN
DISCARD ALL
ROLLBACK
}
{ two phase commit by the client
DELETE FROM hollow
BEGIN
INSERT INTO hollow VALUES (1, 1)
[loose] PREPARE TRANSACTION 'x'
ROLLBACK PREPARED 'x'
COMMIT PREPARED 'x'
}
{ random with a seed
BEGIN
SELECT setseed(0.5)
[loose] SELECT random()
COMMIT
}
{ transaction numbers
BEGIN
SELECT txid_current() = txid_current()
[loose] SELECT pg_current_xact_id() IS NOT NULL
[loose] SELECT now() = now()
[loose] SELECT now() = (SELECT now())
COMMIT
}
{ now is one moment in a transaction
BEGIN
[loose] INSERT INTO hollow (id, t) VALUES (1, now()::text)
[loose] INSERT INTO hollow (id, t) VALUES (2, now()::text)
[loose] INSERT INTO hollow (id, t) VALUES (3, now()::text)
[loose] INSERT INTO hollow (id, t) VALUES (5, now()::text)
SELECT min(t COLLATE "C") = max(t COLLATE "C") FROM hollow WHERE id IN (1)
ROLLBACK
}
## custom settings
{ once it was there, a setting stays, on every server
SET my.x TO 'one'
SELECT id, current_setting('my.x', true) FROM customers WHERE id = 1
RESET my.x
SELECT id, current_setting('my.x', true) FROM customers WHERE id = 1
SELECT id, current_setting('my.x', true) FROM customers WHERE id = 2
SELECT id, current_setting('my.x', true) FROM customers WHERE id = 3
SET my.y TO 'two'
SET my.y TO DEFAULT
SELECT id, current_setting('my.y') FROM customers WHERE id = 4
SET my.z TO 'three'
RESET ALL
SELECT id, current_setting('my.z') FROM customers WHERE id = 2
}
