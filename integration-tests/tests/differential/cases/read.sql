## by key
SELECT * FROM orders WHERE customer_id = 1
SELECT * FROM orders WHERE 1 = customer_id
SELECT * FROM orders WHERE customer_id = -1
SELECT * FROM orders WHERE customer_id = - 1
SELECT * FROM orders WHERE customer_id = -(1)
SELECT * FROM orders WHERE customer_id = (1)
SELECT * FROM orders WHERE (customer_id) = +1
SELECT * FROM orders WHERE (customer_id = 1)
SELECT * FROM orders WHERE ((customer_id = ((1))))
SELECT * FROM orders WHERE customer_id = '1'
SELECT * FROM orders WHERE customer_id = ' 1 '
SELECT * FROM orders WHERE customer_id = '+1'
SELECT * FROM orders WHERE customer_id = '-1'
SELECT * FROM orders WHERE customer_id = '1.0'
SELECT * FROM orders WHERE customer_id = 1.0
SELECT * FROM orders WHERE customer_id = 1.5
SELECT * FROM orders WHERE customer_id = 1e0
SELECT * FROM orders WHERE customer_id = '1e0'
SELECT * FROM orders WHERE customer_id = ''
SELECT * FROM orders WHERE customer_id = 'x'
SELECT * FROM orders WHERE customer_id = NULL
SELECT * FROM orders WHERE customer_id IS NULL
SELECT * FROM orders WHERE customer_id IS NOT DISTINCT FROM 1
SELECT * FROM orders WHERE customer_id IS DISTINCT FROM 1
SELECT * FROM orders WHERE customer_id = 1::int
SELECT * FROM orders WHERE customer_id = 1::smallint
SELECT * FROM orders WHERE customer_id = 1::bigint
SELECT * FROM orders WHERE customer_id = 1::int8
SELECT * FROM orders WHERE customer_id = 1::numeric
SELECT * FROM orders WHERE customer_id = 1.4::int
SELECT * FROM orders WHERE customer_id = 1.6::int
SELECT * FROM orders WHERE customer_id = '1'::text
SELECT * FROM orders WHERE customer_id = '1'::bigint
SELECT * FROM orders WHERE customer_id = CAST('1' AS bigint)
SELECT * FROM orders WHERE customer_id = bigint '1'
SELECT * FROM orders WHERE customer_id = int8 '1'
SELECT * FROM orders WHERE customer_id = int '1'
SELECT * FROM orders WHERE customer_id = bigint('1')
SELECT * FROM orders WHERE customer_id = int8(1.4)
SELECT * FROM orders WHERE customer_id = true::int
SELECT * FROM orders WHERE customer_id = '1'::oid
SELECT * FROM orders WHERE customer_id = 1::real
SELECT * FROM orders WHERE customer_id::int = 1
SELECT * FROM orders WHERE customer_id::text = '1'
SELECT * FROM orders WHERE customer_id + 0 = 1
SELECT * FROM orders WHERE abs(customer_id) = 1
SELECT * FROM orders WHERE customer_id = abs(-1)
SELECT * FROM orders WHERE customer_id = 1 + 0
SELECT * FROM orders WHERE customer_id = 3 - 2
SELECT * FROM orders WHERE customer_id = 1 | 2
SELECT * FROM orders WHERE customer_id = 7 & 3
SELECT * FROM orders WHERE customer_id = 7 # 4
SELECT * FROM orders WHERE customer_id = 1 << 1
SELECT * FROM orders WHERE customer_id = 21 / 3
SELECT * FROM orders WHERE customer_id = 10 % 7
SELECT * FROM orders WHERE customer_id = 1 ^ 1
SELECT * FROM orders WHERE customer_id = ~ 0
SELECT * FROM orders WHERE customer_id = @ -1
SELECT * FROM orders WHERE customer_id = - - 1
SELECT * FROM orders WHERE customer_id = -1::bigint
SELECT * FROM orders WHERE customer_id = (-1)::bigint
SELECT * FROM customers WHERE id = 9223372036854775807
SELECT * FROM customers WHERE id = -9223372036854775808
SELECT * FROM customers WHERE id = '-9223372036854775808'
SELECT * FROM customers WHERE id = 9223372036854775808
SELECT * FROM customers WHERE id = 99999999999999999999999
SELECT * FROM customers WHERE id = '99999999999999999999999'
SELECT * FROM customers WHERE id = 0
SELECT * FROM customers WHERE id = -0
SELECT * FROM customers WHERE id = 00
SELECT * FROM customers WHERE id = 007
SELECT * FROM customers WHERE id = 4294967296
SELECT * FROM customers WHERE id = 4294967296::int
SELECT * FROM customers WHERE id = 1 AND true
SELECT * FROM customers WHERE id = 1 AND NULL
SELECT * FROM customers WHERE id = 1 AND id = 2
SELECT * FROM customers WHERE id = 1 AND id = 1
SELECT * FROM customers WHERE id = 1 AND name = 'Ada' AND country = 'DE'
SELECT * FROM customers WHERE name = 'Ada' AND (country = 'DE' AND id = 1)
SELECT * FROM customers WHERE id BETWEEN 1 AND 1
SELECT * FROM customers WHERE id BETWEEN 1 AND 3
SELECT * FROM customers WHERE id >= 1 AND id <= 1
SELECT * FROM customers WHERE id < 0
SELECT * FROM customers WHERE id IN (1)
SELECT * FROM customers WHERE id IN (1, 2)
SELECT * FROM customers WHERE id IN (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, NULL)
SELECT * FROM customers WHERE id IN (1, NULL)
SELECT * FROM customers WHERE id IN (NULL)
SELECT * FROM customers WHERE id IN ('1', 2)
SELECT * FROM customers WHERE id IN (1, 2.0)
SELECT * FROM customers WHERE id IN (1, 2.5)
SELECT * FROM customers WHERE id IN (1, 1, 1)
SELECT * FROM customers WHERE id IN (1, -1, +2, (3))
SELECT * FROM customers WHERE id IN (1, name::int)
SELECT * FROM customers WHERE id IN (1, 9223372036854775808)
SELECT * FROM customers WHERE id NOT IN (1, 2)
SELECT * FROM customers WHERE NOT id IN (1, 2)
SELECT * FROM customers WHERE NOT (id = 1)
SELECT * FROM customers WHERE NOT id = 1
SELECT * FROM customers WHERE NOT NOT id = 1
SELECT * FROM customers WHERE NOT id <> 1
SELECT * FROM customers WHERE id <> 1
SELECT * FROM customers WHERE id != 1
SELECT * FROM customers WHERE id = ANY (ARRAY[1, 2])
SELECT * FROM customers WHERE id = ANY ('{1,2}')
SELECT * FROM customers WHERE id = ANY ('{1,2}'::bigint[])
SELECT * FROM customers WHERE id = SOME (ARRAY[1, 2])
SELECT * FROM customers WHERE id = ALL (ARRAY[1])
SELECT * FROM customers WHERE id = ALL ('{}'::bigint[])
SELECT * FROM customers WHERE id <> ALL (ARRAY[1, 2])
SELECT * FROM customers WHERE id = 1 OR id = 2
SELECT * FROM customers WHERE id = 1 OR name = 'Gil'
SELECT * FROM customers WHERE id = 1 OR true
SELECT * FROM customers WHERE id = 1 OR NULL
SELECT * FROM customers WHERE (id = 1 OR name = 'Gil') AND active
SELECT * FROM customers WHERE id = 1 AND active OR name = 'Gil'
SELECT * FROM customers WHERE id = 1 AND (active OR name = 'Gil')
SELECT * FROM customers WHERE name = 'Gil' OR id = 1 AND active
SELECT * FROM customers WHERE (id = 1) IS TRUE
SELECT * FROM customers WHERE id = 1 IS TRUE
SELECT * FROM customers WHERE (id = 1) IS NOT TRUE
SELECT * FROM customers WHERE (id = 1) IS FALSE
SELECT * FROM customers WHERE (id = 1) = true
SELECT * FROM customers WHERE (id = 1) = false
SELECT * FROM customers WHERE (id = 1) <> true
SELECT * FROM customers WHERE (id = 1)::int = 0
SELECT * FROM customers WHERE CASE WHEN id = 1 THEN false ELSE true END
SELECT * FROM customers WHERE CASE id WHEN 1 THEN true ELSE false END
SELECT * FROM customers WHERE coalesce(id = 1, true)
SELECT * FROM customers WHERE nullif(id, 1) IS NULL
SELECT * FROM customers WHERE (id, name) = (1, 'Ada')
SELECT * FROM customers WHERE ROW(id, name) = ROW(1, 'Ada')
SELECT * FROM customers WHERE (id, name) IN ((1, 'Ada'), (7, 'Gil'))
SELECT * FROM customers WHERE (id) IN ((1), (7))
SELECT * FROM customers WHERE (id, name) <> (1, 'Ada')
SELECT * FROM customers WHERE (id, name) < (2, 'Z')
SELECT * FROM customers WHERE NOT (id, name) = (1, 'Ada')
SELECT * FROM customers WHERE (id, 1) = (1, 1)
SELECT * FROM customers WHERE (id, 1) = (1, 2)
SELECT * FROM customers WHERE (1, id) = (id, 7)
SELECT * FROM customers WHERE id = "Mixed Case"
SELECT * FROM customers WHERE "id" = 1
SELECT * FROM customers WHERE ID = 1
SELECT * FROM customers WHERE "ID" = 1
SELECT * FROM customers WHERE customers.id = 1
SELECT * FROM customers WHERE public.customers.id = 1
SELECT * FROM public.customers WHERE customers.id = 1
SELECT * FROM public.customers WHERE public.customers.id = 1
SELECT * FROM public.customers c WHERE public.customers.id = 1
SELECT * FROM customers c WHERE c.id = 1
SELECT * FROM customers AS c WHERE c.id = 1
SELECT * FROM customers c WHERE customers.id = 1
SELECT * FROM customers AS "C" WHERE "C".id = 1
SELECT * FROM customers AS "C" WHERE c.id = 1
SELECT * FROM "customers" WHERE id = 1
SELECT * FROM "Customers" WHERE id = 1
SELECT * FROM CUSTOMERS WHERE ID = 1
SELECT * FROM ONLY customers WHERE id = 1
SELECT * FROM ONLY (customers) WHERE id = 1
SELECT * FROM customers * WHERE id = 1
TABLE customers
TABLE countries
TABLE logs
SELECT FROM customers WHERE id = 1
SELECT FROM customers
SELECT ALL id FROM customers
SELECT id FROM customers WHERE id = 1 FOR UPDATE
SELECT id FROM customers FOR SHARE
SELECT id FROM customers FOR NO KEY UPDATE SKIP LOCKED
SELECT id FROM customers FOR KEY SHARE NOWAIT
SELECT c.id FROM customers c FOR UPDATE OF c
SELECT c.id FROM customers c, countries k WHERE k.code = c.country FOR UPDATE
SELECT c.id FROM customers c, countries k WHERE k.code = c.country FOR UPDATE OF c
SELECT * FROM countries FOR UPDATE
SELECT * FROM countries WHERE code = 'DE' FOR SHARE
## other kinds of keys
SELECT * FROM words WHERE word = 'a'
SELECT * FROM words WHERE word = 'A'
SELECT * FROM words WHERE word = 'a '
SELECT * FROM words WHERE word = ' '
SELECT * FROM words WHERE word = ''
SELECT * FROM words WHERE word = 'ä'
SELECT * FROM words WHERE word = 'ä'
SELECT * FROM words WHERE word = '日本'
SELECT * FROM words WHERE word = 'it''s'
SELECT * FROM words WHERE word = E'it\'s'
SELECT * FROM words WHERE word = $$it's$$
SELECT * FROM words WHERE word = $x$it's$x$
SELECT * FROM words WHERE word = 'back\slash'
SELECT * FROM words WHERE word = E'back\\slash'
SELECT * FROM words WHERE word = E'\x61'
SELECT * FROM words WHERE word = E'\141'
SELECT * FROM words WHERE word = E'\u0061'
SELECT * FROM words WHERE word = U&'\0061'
SELECT * FROM words WHERE word = U&'!0061' UESCAPE '!'
SELECT * FROM words WHERE word = N'a'
SELECT * FROM words WHERE word = 'NULL'
SELECT * FROM words WHERE word = 7
SELECT * FROM words WHERE word = '7'
SELECT * FROM words WHERE word = 7::text
SELECT * FROM words WHERE word = 'a'::text
SELECT * FROM words WHERE word = 'a'::varchar
SELECT * FROM words WHERE word = 'ab'::varchar(1)
SELECT * FROM words WHERE word = 'a '::varchar
SELECT * FROM words WHERE word = 'a '::char(2)
SELECT * FROM words WHERE word = 'a '::bpchar
SELECT * FROM words WHERE word = 'a'::"char"
SELECT * FROM words WHERE word = 'ab'::"char"
SELECT * FROM words WHERE word = 'a'::name
SELECT * FROM words WHERE word = 'trailing  '::char(12)
SELECT * FROM words WHERE word = char 'ab'
SELECT * FROM words WHERE word = text 'a'
SELECT * FROM words WHERE word = varchar 'a'
SELECT * FROM words WHERE word = lower('A')
SELECT * FROM words WHERE lower(word) = 'a'
SELECT * FROM words WHERE word LIKE 'a'
SELECT * FROM words WHERE word ~ '^a$'
SELECT * FROM words WHERE word = 'a' COLLATE "C"
SELECT * FROM words WHERE word COLLATE "C" = 'a'
SELECT * FROM words WHERE word = 'a' || ''
SELECT * FROM words WHERE word = '' || 'a'
SELECT * FROM words WHERE word IN ('a', 'b', 'ä')
SELECT * FROM words WHERE word IN ('a', NULL)
SELECT * FROM words WHERE word = ANY ('{a,b}')
SELECT * FROM words WHERE (word, n) = ('a', 1)
SELECT * FROM words WHERE word = B'1'
SELECT * FROM words WHERE word = current_user
SELECT * FROM words WHERE word = current_setting('x.y', true)
SELECT * FROM words WHERE word::varchar = 'a'
SELECT * FROM words WHERE word = 'b'⏎'a'
SELECT * FROM words WHERE word = ''⏎'a'
SELECT * FROM words WHERE word = 'a' -- 'b'
SELECT * FROM words WHERE word = /* 'b' */ 'a'
SELECT * FROM devices WHERE id = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'
SELECT * FROM devices WHERE id = 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'
SELECT * FROM devices WHERE id = '{a0eebc999c0b4ef8bb6d6bb9bd380a11}'
SELECT * FROM devices WHERE id = 'a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11'
SELECT * FROM devices WHERE id = uuid 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'
SELECT * FROM devices WHERE id = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid
SELECT * FROM devices WHERE id = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::text
SELECT * FROM devices WHERE id = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1'
SELECT * FROM devices WHERE id = ' a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'
SELECT * FROM devices WHERE id::text = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'
SELECT * FROM devices WHERE id IN ('00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff')
SELECT * FROM small WHERE k = 7
SELECT * FROM small WHERE k = 7::bigint
SELECT * FROM small WHERE k = 2147483647
SELECT * FROM small WHERE k = 2147483648
SELECT * FROM small WHERE k = '2147483648'
SELECT * FROM small WHERE k = -2147483648
SELECT * FROM small WHERE k = 4294967303
SELECT * FROM small WHERE k = 7.0
SELECT * FROM small WHERE k = '7'
SELECT * FROM small WHERE k IN (7, 1)
SELECT * FROM small WHERE k IN (7, 2147483648)
SELECT * FROM small WHERE k IN ('7', '2147483648')
SELECT * FROM metrics WHERE tenant = 'acme' AND day_no = 1
SELECT * FROM metrics WHERE (tenant, day_no) = ('acme', 1)
SELECT * FROM metrics WHERE (day_no, tenant) = (1, 'acme')
SELECT * FROM metrics WHERE tenant = 'acme'
SELECT * FROM metrics WHERE day_no = 1
SELECT * FROM metrics WHERE tenant = 'acme' AND day_no IN (1, 2)
SELECT * FROM metrics WHERE tenant IN ('acme', 'beta') AND day_no IN (1, 2, -1)
SELECT * FROM metrics WHERE tenant = 'acme' OR day_no = 1
SELECT * FROM metrics WHERE tenant = 'acme' AND (day_no = 1 OR day_no = 2)
SELECT * FROM metrics WHERE (tenant, day_no) IN (('acme', 1), ('beta', 1))
SELECT * FROM metrics WHERE tenant = 'ünï' AND day_no = 9223372036854775807
SELECT * FROM metrics WHERE tenant = '' AND day_no = 0
SELECT * FROM metrics WHERE tenant = NULL AND day_no = 1
SELECT * FROM metrics WHERE tenant = 'acme' AND day_no = NULL
SELECT * FROM metrics WHERE tenant = 'acme' AND day_no = 1 AND day_no = 2
SELECT * FROM "Upper" WHERE "Id" = 1
SELECT * FROM "Upper" WHERE id = 1
SELECT * FROM "Upper" WHERE Id = 1
SELECT * FROM "Upper" WHERE "ID" = 1
SELECT * FROM upper WHERE "Id" = 1
SELECT * FROM "Upper" u WHERE u."Id" = 1 AND u.id = 10
SELECT "select", "from" FROM "Upper" WHERE "Id" IN (1, 2)
SELECT * FROM "Upper" WHERE "Id" = id
SELECT * FROM depot.events WHERE customer_id = 1
SELECT * FROM events WHERE customer_id = 1
SELECT e.* FROM depot.events e WHERE e.customer_id = 1
SELECT depot.events.payload FROM depot.events WHERE depot.events.customer_id = 1
SELECT * FROM depot.flags
SELECT * FROM depot.flags WHERE word = 'a'
SELECT * FROM depot.flags WHERE word = 'zzz'
SELECT * FROM depot.customers
SELECT * FROM public.words WHERE word = 'a'
SELECT * FROM pg_catalog.words
SELECT * FROM h4.public.words WHERE word = 'a'
SELECT * FROM codes WHERE code = 'a'
SELECT * FROM codes WHERE code = 'a    '
SELECT * FROM codes WHERE code = 'a         '
SELECT * FROM codes WHERE code = 'a'::text
SELECT * FROM codes WHERE code = 'a    '::text
SELECT * FROM codes WHERE code = 'a '::varchar
SELECT * FROM codes WHERE code = 'a '::char(2)
SELECT * FROM codes WHERE code = ''
SELECT * FROM codes WHERE code IN ('a', 'ab   ')
SELECT * FROM codes WHERE code = 'abcdef'
SELECT * FROM names WHERE name = 'a'
SELECT * FROM names WHERE name = 'a '
SELECT * FROM names WHERE name = 'a '::char(2)
SELECT * FROM names WHERE name = 'abcdefghi'
SELECT * FROM names WHERE name = 'ab'::text
SELECT * FROM amounts WHERE amount = 1
SELECT * FROM amounts WHERE amount = 1.0
SELECT * FROM amounts WHERE amount = 1.00000
SELECT * FROM amounts WHERE amount = '1.50'
SELECT * FROM amounts WHERE amount = 1.5
SELECT * FROM amounts WHERE amount = 1.501
SELECT * FROM amounts WHERE amount = 15e-1
SELECT * FROM amounts WHERE amount = -1.25
SELECT * FROM amounts WHERE amount = 1e2
SELECT * FROM amounts WHERE amount = 1::bigint
SELECT * FROM amounts WHERE amount = 1.5::float8
SELECT * FROM amounts WHERE amount = 1.5::int
SELECT * FROM amounts WHERE amount = 1.504::numeric(8,2)
SELECT * FROM amounts WHERE amount IN (1, 1.5, 0.0)
SELECT * FROM amounts WHERE amount = 'NaN'
SELECT * FROM amounts WHERE amount = -0
SELECT * FROM amounts WHERE amount = .5
SELECT * FROM days WHERE day = '2024-01-01'
SELECT * FROM days WHERE day = '20240101'
SELECT * FROM days WHERE day = 'Jan 1 2024'
SELECT * FROM days WHERE day = '01/01/2024'
SELECT * FROM days WHERE day = date '2024-01-01'
SELECT * FROM days WHERE day = '2024-01-01'::timestamp
SELECT * FROM days WHERE day = '2024-01-01 10:00'
SELECT * FROM days WHERE day = '2024-01-01 10:00'::timestamp
SELECT * FROM days WHERE day = '2024-01-01 23:00'::timestamptz
SELECT * FROM days WHERE day = '2024-02-30'
SELECT * FROM days WHERE day = 'today'
[loose] SELECT * FROM days WHERE day = current_date
SELECT * FROM days WHERE day IN ('2024-01-01', '2024-02-29')
SELECT * FROM moments WHERE at = '2024-01-01 00:00:00+00'
SELECT * FROM moments WHERE at = '2024-01-01 00:00:00'
SELECT * FROM moments WHERE at = '2024-01-01'
SELECT * FROM moments WHERE at = '2024-01-01T00:00:00Z'
SELECT * FROM moments WHERE at = '2024-01-01 01:00:00+01'
SELECT * FROM moments WHERE at = '2024-01-01'::date
SELECT * FROM moments WHERE at = '2024-01-01'::timestamp
SELECT * FROM moments WHERE at = timestamptz '2024-06-01 10:00:00 UTC'
SELECT * FROM moments WHERE at = timestamp with time zone '2024-06-01 10:00:00+00'
SELECT * FROM moments WHERE at = timestamp '2024-06-01 10:00:00+00'
SELECT * FROM stamps WHERE at = '2024-01-01 00:00:00'
SELECT * FROM stamps WHERE at = '2024-01-01'
SELECT * FROM stamps WHERE at = '2024-01-01 00:00:00+05'
SELECT * FROM stamps WHERE at = '2024-01-01 00:00:00+05'::timestamptz
SELECT * FROM stamps WHERE at = '2024-01-01'::date
SELECT * FROM stamps WHERE at = timestamp(0) '2024-01-01 00:00:00.4'
SELECT * FROM public.flags WHERE f = true
SELECT * FROM public.flags WHERE f
SELECT * FROM public.flags WHERE NOT f
SELECT * FROM public.flags WHERE f IS TRUE
SELECT * FROM public.flags WHERE f = 't'
SELECT * FROM public.flags WHERE f = 'yes'
SELECT * FROM public.flags WHERE f = 'on'
SELECT * FROM public.flags WHERE f = '1'
SELECT * FROM public.flags WHERE f = 1
SELECT * FROM public.flags WHERE f = 'maybe'
SELECT * FROM public.flags WHERE f = (1 = 1)
SELECT * FROM public.flags WHERE f IN (true, false)
## where the text of a session's settings matters
{ a time zone changes what a string means
SET TimeZone = 'Asia/Tokyo'
SELECT * FROM moments WHERE at = '2024-01-01 00:00:00'
SELECT * FROM moments WHERE at = '2024-01-01 09:00:00'
SELECT * FROM moments
SELECT * FROM orders WHERE customer_id = 1
SELECT * FROM orders WHERE customer_id = 3
SELECT * FROM orders
}
{ a date style changes what a string means
SET DateStyle = 'SQL, DMY'
SELECT * FROM days WHERE day = '01/02/2024'
SELECT * FROM days WHERE day = '29/02/2024'
SELECT * FROM days WHERE day = '2024-02-29'
SELECT * FROM days
SELECT * FROM orders WHERE customer_id = 7
SET DateStyle = 'German'
SELECT * FROM days WHERE day = '29.02.2024'
}
{ settings of output
SET extra_float_digits = 0
SELECT price FROM orders
SET bytea_output = escape
SELECT 'ab'::bytea, id FROM customers
SET IntervalStyle = 'iso_8601'
SELECT id, interval '1 day' FROM customers
}
## one shard's whole language
SELECT count(*), sum(amount), avg(amount), array_agg(item ORDER BY number) FROM orders WHERE customer_id = 1
SELECT item, count(*) FROM orders WHERE customer_id = 42 GROUP BY item HAVING count(*) > 0 ORDER BY item DESC LIMIT 5 OFFSET 0
SELECT DISTINCT item FROM orders WHERE customer_id = 42
SELECT DISTINCT ON (item) item, number FROM orders WHERE customer_id = 42 ORDER BY item, number
SELECT number, row_number() OVER (ORDER BY number), lag(item) OVER w FROM orders WHERE customer_id = 1 WINDOW w AS (ORDER BY number) ORDER BY number
SELECT c.name, o.number FROM customers c JOIN orders o ON o.customer_id = c.id WHERE c.id = 1 ORDER BY 2
SELECT c.name, o.number FROM customers c, orders o WHERE o.customer_id = c.id AND o.customer_id = 3 ORDER BY 2
SELECT c.name, o.number, l.what FROM customers c JOIN orders o ON c.id = o.customer_id LEFT JOIN lines l ON l.customer_id = o.customer_id AND l.number = o.number WHERE c.id = 1 ORDER BY 2, 3
SELECT c.name, o.number FROM customers c LEFT JOIN orders o ON o.customer_id = c.id WHERE c.id = 5
SELECT c.name, o.number FROM customers c LEFT JOIN orders o ON o.customer_id = c.id AND o.customer_id = 1 WHERE c.id = 5
SELECT c.name, o.number FROM customers c LEFT JOIN orders o ON o.customer_id = c.id AND c.id = 1
SELECT c.name, o.number FROM customers c LEFT JOIN orders o ON o.customer_id = 1 WHERE c.id = 1 ORDER BY 2
SELECT c.name, o.number FROM customers c LEFT JOIN orders o ON o.customer_id = 1 WHERE c.id = 2 ORDER BY 2
SELECT c.name, o.number FROM orders o RIGHT JOIN customers c ON o.customer_id = c.id WHERE c.id = 5
SELECT c.name, o.number FROM orders o RIGHT JOIN customers c ON o.customer_id = c.id AND o.customer_id = 1 AND c.id = 1
SELECT c.name, o.number FROM orders o FULL JOIN customers c ON o.customer_id = c.id WHERE c.id = 1 ORDER BY 2
SELECT c.name, o.number FROM orders o FULL JOIN customers c ON o.customer_id = 1 AND c.id = 1
SELECT c.name, (SELECT count(*) FROM orders o WHERE o.customer_id = c.id) FROM customers c WHERE c.id = 1
SELECT c.name, (SELECT count(*) FROM orders o WHERE o.customer_id = 1) FROM customers c WHERE c.id = 1
SELECT c.name, (SELECT count(*) FROM orders o) FROM customers c WHERE c.id = 1
SELECT name FROM customers c WHERE id = 1 AND EXISTS (SELECT FROM orders o WHERE o.customer_id = c.id)
SELECT name FROM customers c WHERE id = 1 AND EXISTS (SELECT FROM orders WHERE customer_id = id)
SELECT name FROM customers c WHERE id = 1 AND NOT EXISTS (SELECT FROM orders o WHERE o.customer_id = 2)
SELECT name FROM customers WHERE id = 1 AND id IN (SELECT customer_id FROM orders)
SELECT name FROM customers WHERE id IN (SELECT customer_id FROM orders WHERE customer_id = 1)
SELECT name FROM customers WHERE id = (SELECT 1)
SELECT name FROM customers WHERE id = (SELECT max(customer_id) FROM orders)
SELECT * FROM (SELECT * FROM orders WHERE customer_id = 1) o ORDER BY number
SELECT * FROM (SELECT * FROM orders) o WHERE customer_id = 1
SELECT * FROM (SELECT customer_id + 1 AS customer_id, item FROM orders) orders WHERE customer_id = 2
WITH o AS (SELECT * FROM orders WHERE customer_id = 1) SELECT * FROM o ORDER BY number
WITH o AS (SELECT * FROM orders) SELECT * FROM o WHERE customer_id = 1
WITH o AS MATERIALIZED (SELECT * FROM orders WHERE customer_id = 1) SELECT count(*) FROM o
WITH orders AS (SELECT 1 AS customer_id, 'fake' AS item) SELECT * FROM orders WHERE customer_id = 1
WITH orders AS (SELECT 1 AS customer_id, 'fake' AS item) SELECT * FROM orders WHERE customer_id = 2
WITH orders AS (SELECT 7 AS customer_id) SELECT * FROM public.orders WHERE customer_id = 1 ORDER BY number
WITH orders AS (SELECT * FROM orders WHERE customer_id = 1) SELECT * FROM orders ORDER BY number
WITH RECURSIVE orders AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM orders WHERE n < 3) SELECT * FROM orders ORDER BY n
WITH c AS (SELECT 1 AS id), orders AS (SELECT * FROM c) SELECT * FROM orders
WITH a AS (SELECT * FROM orders WHERE customer_id = 1), orders AS (SELECT 1 AS x) SELECT count(*) FROM a
WITH orders AS (SELECT 1 AS x), a AS (SELECT * FROM orders) SELECT * FROM a
SELECT * FROM (WITH orders AS (SELECT 1 AS customer_id) SELECT * FROM orders) x, orders WHERE orders.customer_id = 1 ORDER BY number
SELECT (WITH customers AS (SELECT 5 AS id) SELECT id FROM customers), name FROM customers WHERE id = 1
SELECT * FROM customers WHERE id = 1 UNION ALL SELECT * FROM customers WHERE id = 1
SELECT id FROM customers WHERE id = 1 UNION SELECT customer_id FROM orders WHERE customer_id = 1
SELECT id FROM customers WHERE id = 1 UNION ALL SELECT customer_id FROM orders WHERE customer_id = 2
SELECT id FROM customers WHERE id = 1 INTERSECT SELECT customer_id FROM orders
SELECT id FROM customers WHERE id = 1 EXCEPT SELECT customer_id FROM orders WHERE customer_id = 1
(SELECT id FROM customers WHERE id = 1)
(SELECT id FROM customers WHERE id = 1) ORDER BY 1 LIMIT 1
((SELECT id FROM customers))
(SELECT id FROM customers WHERE id = 1) UNION ALL (SELECT id FROM customers WHERE id = 1 LIMIT 1)
SELECT * FROM orders o, LATERAL (SELECT * FROM lines l WHERE l.customer_id = o.customer_id AND l.number = o.number) x WHERE o.customer_id = 1 ORDER BY x.pos
SELECT * FROM orders o CROSS JOIN LATERAL generate_series(1, o.number) g WHERE o.customer_id = 1 ORDER BY o.number, g
SELECT * FROM orders o JOIN lines l USING (customer_id, number) WHERE o.customer_id = 1 ORDER BY pos
SELECT * FROM orders o JOIN lines l USING (customer_id, number) WHERE customer_id = 1 ORDER BY pos
SELECT * FROM orders NATURAL JOIN lines WHERE orders.customer_id = 1 AND lines.customer_id = 1 ORDER BY pos
SELECT * FROM orders NATURAL JOIN lines
SELECT a.name, b.name FROM customers a, customers b WHERE a.id = 1 AND b.id = 1
SELECT a.name, b.name FROM customers a, customers b WHERE a.id = 1 AND b.id = 2
SELECT a.name, b.name FROM customers a, customers b WHERE a.id = b.id AND b.id = 3
SELECT a.name, b.name FROM customers a JOIN customers b ON a.id = b.id + 1 WHERE a.id = 3
SELECT c.name, k.name FROM customers c JOIN countries k ON k.code = c.country WHERE c.id = 1
SELECT c.name, k.name FROM customers c JOIN countries k ON k.code = c.country
SELECT c.name, k.name FROM customers c LEFT JOIN countries k ON k.code = c.country
SELECT c.name, k.name FROM customers c RIGHT JOIN countries k ON k.code = c.country
SELECT c.name, k.name FROM countries k LEFT JOIN customers c ON k.code = c.country
SELECT c.name, k.name FROM countries k LEFT JOIN customers c ON k.code = c.country AND c.id = 1
SELECT c.name, k.name FROM countries k LEFT JOIN customers c ON c.id = 1
SELECT c.name, k.name FROM customers c FULL JOIN countries k ON k.code = c.country
SELECT c.name, k.name FROM customers c CROSS JOIN countries k
SELECT c.name FROM customers c, countries k, countries j WHERE k.code = c.country AND j.code = k.code
SELECT c.name, o.number FROM (customers c JOIN orders o ON o.customer_id = c.id) WHERE c.id = 1 ORDER BY 2
SELECT o.item, e.payload FROM orders o JOIN depot.events e ON e.customer_id = o.customer_id WHERE o.customer_id = 1 ORDER BY 1, 2
SELECT o.item, s.v FROM orders o JOIN serials s ON s.k = o.customer_id WHERE o.customer_id = 1
SELECT o.item, s.v FROM orders o JOIN small s ON s.k = o.customer_id WHERE o.customer_id = 1 ORDER BY 1, 2
SELECT o.item, s.v FROM orders o JOIN small s ON s.k = o.customer_id WHERE s.k = 7
SELECT o.item, w.n FROM orders o JOIN words w ON w.word = o.item WHERE o.customer_id = 1
SELECT l.msg, c.name FROM logs l JOIN customers c ON c.id = l.level WHERE c.id = 1
SELECT l.msg, c.name FROM logs l JOIN customers c ON c.id = l.level
SELECT l.msg, k.name FROM logs l, countries k ORDER BY 1, 2
SELECT s.value, k.name FROM settings s, countries k ORDER BY 1, 2
SELECT s.value, l.msg FROM settings s, logs l ORDER BY 1, 2
SELECT s.value, c.name FROM settings s, customers c WHERE c.id = 1
SELECT * FROM settings
SELECT * FROM settings WHERE key = 'color' FOR UPDATE
SELECT * FROM logs WHERE id = 2
SELECT *, msg || '!' FROM log_lines
SELECT l.id, n.body FROM logs l, depot.notes n ORDER BY 1, 2
SELECT * FROM active_customers
SELECT * FROM active_customers WHERE id = 1
SELECT * FROM country_names
SELECT * FROM public.active_customers
SELECT relname FROM pg_class WHERE relname = 'customers'
SELECT count(*) FROM pg_catalog.pg_type WHERE typname = 'mood'
SELECT table_name FROM information_schema.tables WHERE table_name = 'customers'
SELECT 1
[loose] SELECT 1 AS one, 'x' AS "Two", NULL, 1.50, now() = now()
SELECT generate_series(1, 3)
SELECT * FROM generate_series(1, 3) customers
SELECT * FROM generate_series(1, 3) AS orders(customer_id) WHERE customer_id = 2
SELECT * FROM unnest(ARRAY[1, 2]) WITH ORDINALITY
VALUES (1, 'a'), (2, 'b')
SELECT * FROM (VALUES (1, 'a'), (2, 'b')) v(id, name) WHERE id = 1
SELECT c.name, v.x FROM customers c JOIN (VALUES (1, 'a'), (7, 'b')) v(id, x) ON v.id = c.id
SELECT c.name, v.x FROM customers c, (VALUES (1, 'a'), (7, 'b')) v(id, x) WHERE v.id = c.id AND c.id = 1
SELECT * FROM customers AS c(a, b) WHERE a = 1
SELECT * FROM customers AS c(name, id) WHERE id = 'Ada'
SELECT * FROM customers AS c(x, id) WHERE c.id = 'Ada'
SELECT * FROM customers AS c(id) WHERE id = 1
SELECT * FROM customers c JOIN orders AS o(id, number) ON o.id = c.id WHERE o.id = 1 ORDER BY 12
SELECT * FROM orders AS customers WHERE customers.customer_id = 1 ORDER BY number
SELECT name AS id FROM customers WHERE id = 1
SELECT id AS customer_id, name AS id FROM customers WHERE id = 7
SELECT id FROM (SELECT 1 AS id) customers
