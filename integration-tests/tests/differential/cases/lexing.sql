## comments, quotes and glue
SELECT * FROM customers WHERE id = 1 -- AND false
SELECT * FROM customers WHERE id = 1 --⏎ OR id = 2
SELECT * FROM customers WHERE id = 1 /* OR id = 2 */
SELECT * FROM customers WHERE id = 1 /* /* OR */ id = 2 */
SELECT * FROM customers WHERE id = 1 /* /* OR id = 2 */
SELECT * FROM customers WHERE id = 1 /* ' */ OR id = 2 /* ' */
SELECT * FROM customers WHERE id =/* 2 */1
SELECT * FROM customers WHERE id =-1
SELECT * FROM customers WHERE id =--1⏎2
SELECT * FROM customers WHERE id =- 1
SELECT * FROM customers WHERE id=1OR id=2
SELECT * FROM customers WHERE id=1and true
SELECT * FROM customers WHERE id=1.or id=2
SELECT * FROM customers WHERE id = 1;
SELECT * FROM customers WHERE id = 1 ;
[simple] ;SELECT * FROM customers WHERE id = 1;;
[simple] ;
[simple] ;;
[simple] -- nothing
[simple] /* nothing */
SELECT*FROM customers WHERE id=1
SELECT"id"FROM"customers"WHERE"id"=1
SELECT * FROM customers WHERE id*-1 = 1
SELECT * FROM customers WHERE id = 1 AND name = '--'
SELECT * FROM customers WHERE id = 1 OR name = '-- x' OR id = 2
SELECT * FROM customers WHERE name = 'it''s' AND id = 9
SELECT * FROM customers WHERE name = 'a\b' AND id = 11
SELECT * FROM customers WHERE name = E'a\\b' AND id = 11
SELECT * FROM customers WHERE name = E'\'' OR id = 1 --'
SELECT * FROM customers WHERE name = '\' OR id = 1 --'
SELECT * FROM customers WHERE name = $$ OR id = 1 $$ OR id = 2
SELECT * FROM customers WHERE name = $a$ $b$ ' $a$ OR id = 2
SELECT * FROM customers WHERE name = $a$ $$ $a$ OR id = 2
SELECT id$1 FROM customers WHERE id = 1
SELECT id AS a$b FROM customers WHERE id = 1
SELECT 1$1
SELECT 1 a$$b
SELECT * FROM customers WHERE id = 1 AND name = U&'\0041da'
SELECT * FROM customers WHERE U&"\0069d" = 1
SELECT * FROM U&"cust\006fmers" WHERE id = 1
SELECT * FROM U&"cust!006fmers" UESCAPE '!' WHERE id = 1
SELECT U&"\0069d" FROM customers
SELECT * FROM "cust" "omers"
SELECT * FROM "customers""" WHERE id = 1
SELECT * FROM customers WHERE "i""d" = 1
SELECT * FROM customers WHERE id = 1 AND "name"='Ada'
SELECT * FROM customers WHERE id = 0x1
SELECT * FROM customers WHERE id = 1_0
SELECT * FROM customers WHERE id = 0b1
SELECT * FROM customers WHERE id = 1e
SELECT * FROM customers WHERE id = .1e1
SELECT * FROM customers WHERE id = 1.
SELECT * FROM customers WHERE id = 1..2
SELECT * FROM customers WHERE id = '1'⏎''
SELECT * FROM customers WHERE id = '1' ''
SELECT * FROM customers WHERE id = '1'⏎  '0'
SELECT * FROM customers WHERE id = '1' -- c⏎  '0'
SELECT * FROM customers WHERE id = '1' /* c */ '0'
SELECT * FROM customers WHERE id = '1' /* c */⏎ '0'
SELECT * FROM customers WHERE id = E'\061'
SELECT * FROM customers WHERE id = E'1'⏎'0'
SELECT * FROM customers WHERE id = E'1'⏎'\060'
SELECT * FROM customers WHERE id = '1'⏎E'0'
SELECT * FROM customers WHERE id = $$1$$
SELECT * FROM customers WHERE id = $x$1$x$::bigint
SELECT * FROM customers WHERE id = $$1$$⏎$$0$$
SELECT * FROM customers WHERE id = B'1'
SELECT * FROM customers WHERE id = X'1'
SELECT * FROM customers WHERE id = X'1'::int
SELECT * FROM customers WHERE id = N'1'
SELECT * FROM customers WHERE id = N '1'
SELECT * FROM customers WHERE id = e '1'
SELECT * FROM customers WHERE İd = 1
SELECT * FROM customers WHERE ıd = 1
SELECT name AS Ää FROM customers WHERE id = 1
SELECT name AS "Ää" FROM customers WHERE id = 1
SELECT "Größe" FROM countries WHERE code = 'DE'
SELECT Größe FROM countries WHERE code = 'DE'
SELECT größe FROM countries WHERE code = 'DE'
SELECT * FROM customers WHERE id OPERATOR(pg_catalog.=) 1
SELECT * FROM customers WHERE id OPERATOR(=) 1
SELECT * FROM customers WHERE id OPERATOR(pg_catalog.+) 1 = 2
SELECT * FROM customers WHERE id <@ ARRAY[1]
SELECT * FROM customers WHERE ARRAY[id] <@ ARRAY[1, 2]::bigint[]
SELECT * FROM customers WHERE tags @> '{a}'
SELECT * FROM customers WHERE tags && '{b}'
SELECT * FROM devices WHERE info ? 'a'
SELECT * FROM devices WHERE info ->> 'a' = '1'
SELECT * FROM devices WHERE info #> '{b,c}' = 'null'
SELECT * FROM devices WHERE info @> '{"a": 1}'
SELECT info['a'] FROM devices
SELECT tags[1], tags[1:2] FROM customers
SELECT (tags)[1] FROM customers WHERE id = 1
SELECT id<1,id>1,id<=1,id>=1,id<>1,id!=1 FROM customers
SELECT id=-1 FROM customers
SELECT id!=-1 FROM customers
SELECT id@-1 FROM customers
SELECT id%-2 FROM customers WHERE id <> 0
SELECT id*/**/2 FROM customers WHERE id < 100 AND id > -100
SELECT 1-- x
SELECT 1 <>-- x⏎ 2
SELECT 2 ^ 3 ^ 2, -2 ^ 2, 2 * 3 % 4, NOT true = false, 1 < 2 = true
SELECT * FROM customers WHERE true = (id = 1)
SELECT * FROM customers WHERE true = id = 1
SELECT * FROM customers WHERE id = 1 = true
SELECT * FROM customers WHERE NOT id = 1 = false
SELECT * FROM customers WHERE id = 1 IS NOT NULL
SELECT * FROM customers WHERE id = 1 ISNULL
SELECT * FROM customers WHERE id = 1 NOTNULL
SELECT * FROM customers WHERE id = 1 IS NULL
SELECT * FROM customers WHERE id = 1 IN (true)
SELECT * FROM customers WHERE id = 1 BETWEEN false AND true
SELECT * FROM customers WHERE id = 1 AND id BETWEEN 1 AND 2 OR id = 3
SELECT * FROM customers WHERE id BETWEEN 1 AND 2 AND id = 1
SELECT * FROM customers WHERE id BETWEEN SYMMETRIC 2 AND 1
SELECT * FROM customers WHERE id = 1 LIKE 'x'
SELECT * FROM customers WHERE id = 1::bigint::text::bigint
SELECT * FROM customers WHERE id = 1 ::bigint
SELECT * FROM customers WHERE id = + + 1
SELECT * FROM customers WHERE id = 1 AT TIME ZONE 'UTC'
SELECT * FROM customers WHERE id = ALL (SELECT 1)
SELECT * FROM customers WHERE id IN (SELECT 1)
SELECT * FROM customers WHERE id IN (VALUES (1), (2))
SELECT * FROM customers WHERE id IN ()
SELECT * FROM customers WHERE id = (1, 2)
SELECT * FROM customers WHERE id = ROW(1)
SELECT * FROM customers WHERE (id) = ROW(1)
SELECT * FROM customers WHERE ROW(id) = ROW(1)
SELECT * FROM customers WHERE id = 1 AND
SELECT * FROM customers WHERE
SELECT * FROM
SELECT id FROM customers customers2 WHERE customers.id = 1
SELECT nosuch FROM customers WHERE id = 1
SELECT nosuch FROM customers
SELECT * FROM nosuch
SELECT * FROM nosuch, customers WHERE customers.id = 1
SELECT nosuch(id) FROM customers
SELECT id FROM customers WHERE id = 1 AND nosuch = 2
SELECT 1/0 FROM customers
SELECT 1/id FROM customers
SELECT 1/(id - 1) FROM customers WHERE id = 1
SELECT name::int FROM customers WHERE id = 1
SELEC * FROM customers
SELECT * FROM customers WHRE id = 1
select * from CusToMers where ID in (1,2)
SELECT id FROM customers left WHERE id = 1
SELECT id FROM customers final WHERE id = 1
SELECT id FROM customers sample WHERE id = 1
SELECT id FROM customers semi WHERE id = 1
SELECT id FROM customers qualify WHERE id = 1
SELECT id FROM customers window WHERE id = 1
SELECT id FROM customers limit WHERE id = 1
SELECT id FROM customers array WHERE id = 1
SELECT id FROM customers global JOIN orders ON true WHERE id = 1
SELECT c.id FROM customers c anti JOIN orders o ON true WHERE c.id = 1
SELECT c.id FROM customers AS semi JOIN orders o ON semi.id = o.customer_id WHERE semi.id = 1
SELECT top FROM customers WHERE id = 1
SELECT id top FROM customers WHERE id = 1
SELECT id AS select FROM customers WHERE id = 1
SELECT id value FROM customers WHERE id = 1
SELECT id year FROM customers WHERE id = 1
SELECT current_user FROM customers WHERE id = 1
SELECT "current_user" FROM customers WHERE id = 1
SELECT user = current_user FROM customers
SELECT interval '1' day + born FROM customers WHERE id = 1
SELECT interval '1 year 2 months', interval(0) '1.5 seconds' FROM customers
SELECT EXTRACT(year FROM born), date_part('month', born) FROM customers
SELECT substring(name FROM 1 FOR 2), substring(name from 'A'), position('a' IN name), overlay(name PLACING 'x' FROM 1), trim(BOTH 'A' FROM name), trim(name), trim(LEADING FROM name) FROM customers
SELECT name SIMILAR TO 'A%', name LIKE 'A%' ESCAPE '!', name ILIKE 'a%', name NOT LIKE '%' FROM customers
SELECT CAST(id AS text), id::varchar(2), CAST(balance AS numeric(5,1)) FROM customers
SELECT CASE WHEN id = 1 THEN 'one' WHEN id = 2 THEN 'two' ELSE name END FROM customers
SELECT CASE active WHEN true THEN 1 ELSE 0 END FROM customers
SELECT coalesce(name, note, 'x'), nullif(id, 1), greatest(id, 3), least(id, 3) FROM customers
SELECT name || ' ' || coalesce(country, ''), name || id FROM customers
SELECT ARRAY[id, 2], ARRAY[[1, 2], [3, 4]], array_length(tags, 1) FROM customers
SELECT born + 1, born - born, born + interval '1 day', balance::int % 3 FROM customers
SELECT placed AT TIME ZONE 'Europe/Berlin', date_trunc('month', placed), to_char(placed, 'YYYY-MM') FROM orders
SELECT name IS NULL, name IS NOT NULL, active IS TRUE, active IS NOT UNKNOWN, name IS DISTINCT FROM 'Ada' FROM customers
SELECT name COLLATE "C" < 'B' FROM customers
SELECT note::positive FROM customers WHERE id = 7
SELECT xmlelement(name foo, id) FROM customers
SELECT concat_ws(',', id, name), format('%s-%s', id, name), md5(name), lpad(name, 5) FROM customers
SELECT JSON_OBJECT('a': id) FROM customers
SELECT id FROM customers WHERE (SELECT true)
SELECT DISTINCT ALL id FROM customers
SELECT id, FROM customers
SELECT ;
SELECT
SELECT FROM
SELECT WHERE true
## hints
/* pgherd: shard=s0 */ SELECT 1
/* pgherd: key=1 distribution=customer */ SELECT * FROM customers WHERE id = 1
/* not a hint */ SELECT * FROM customers WHERE id = 1
/*+ IndexScan(customers) */ SELECT * FROM customers WHERE id = 1
SELECT /*+ SeqScan(customers) */ * FROM customers WHERE id = 1
SELECT '/* pgherd: shard=s1 */', id FROM customers WHERE id = 1
## several statements in a string
[simple] SELECT 1; SELECT 2
[simple] SELECT * FROM customers WHERE id = 1; SELECT * FROM customers WHERE id = 2
[simple] SELECT count(*) FROM customers; SELECT count(*) FROM orders;
[simple] SELECT 1; SELECT 1/0; SELECT 2
[simple] INSERT INTO hollow VALUES (1, 1); INSERT INTO hollow VALUES (2, 2)
[simple] INSERT INTO hollow VALUES (3, 3); INSERT INTO hollow VALUES (1, 1); INSERT INTO hollow VALUES (4, 4)
[simple] INSERT INTO hollow VALUES (5, 5); SELECT 1/0
[simple] DELETE FROM hollow; INSERT INTO hollow VALUES (10, 1), (11, 2), (12, 3); SELECT sum(v) FROM hollow
[simple] BEGIN; DELETE FROM hollow; ROLLBACK; SELECT count(*) FROM hollow
[simple] BEGIN; INSERT INTO hollow VALUES (20, 1); COMMIT; SELECT 1/0
[simple] INSERT INTO hollow VALUES (21, 1); COMMIT; SELECT 1/0
[simple] INSERT INTO hollow VALUES (22, 1); ROLLBACK; INSERT INTO hollow VALUES (23, 1)
[simple] INSERT INTO hollow VALUES (24, 1); BEGIN; INSERT INTO hollow VALUES (25, 1); ROLLBACK
[simple] INSERT INTO hollow VALUES (26, 1); BEGIN; SELECT 1/0; COMMIT
[simple] INSERT INTO hollow VALUES (27, 1); SAVEPOINT a; SELECT 1
[simple] BEGIN; SAVEPOINT a; INSERT INTO hollow VALUES (28, 1); ROLLBACK TO a; COMMIT
[simple] SELECT ';'; SELECT $$;$$; SELECT ';' -- ; SELECT 3
[simple] SELECT 1; SELEC 2
[simple] SELEC 1; SELECT 2
[simple] INSERT INTO hollow VALUES (31, 1); COMMIT; SELEC 2
[simple] CREATE TABLE multi (id int); INSERT INTO multi VALUES (1); DROP TABLE multi
[simple] CREATE TABLE multi (id int); DROP TABEL multi
[simple] INSERT INTO hollow VALUES (32, 1); COMMIT; DROP TABLE nosuch
[simple] SET TimeZone = 'Asia/Tokyo'; SHOW TimeZone
[simple] SET LOCAL TimeZone = 'Asia/Tokyo'; SHOW TimeZone
[simple] SELECT * FROM customers ORDER BY id; SELECT 1
[simple] INSERT INTO hollow VALUES (29, 1); SELECT * FROM customers ORDER BY id
[simple] INSERT INTO logs (msg) VALUES ('multi'); INSERT INTO hollow VALUES (30, 1)
[simple] DELETE FROM hollow; SELECT count(*) FROM hollow;
[simple] UPDATE countries SET rank = rank + 1; UPDATE countries SET rank = rank - 1
[simple] SELECT 1; ; SELECT 2
[simple] VALUES (1); TABLE countries
[simple] DELETE FROM logs WHERE msg IN ('multi', 'explained')
