## insert
INSERT INTO hollow VALUES (1, 10, 'a')
INSERT INTO hollow (id, v) VALUES (2, 20)
INSERT INTO hollow (v, id) VALUES (30, 3)
INSERT INTO hollow (id) VALUES (4), (5), (6), (7)
INSERT INTO hollow (id, v, t) VALUES (8, 1, 'x'), (9, 2, NULL), (10, DEFAULT, 'z') RETURNING *
INSERT INTO hollow (id) VALUES (20), (19), (18), (17), (16), (15) RETURNING id
INSERT INTO hollow (id, v) VALUES (21, 1), (22, 2) RETURNING v, id AS key, v + 1, t
INSERT INTO hollow AS h (id, v) VALUES (23, 1), (24, 2) RETURNING h.id
INSERT INTO hollow VALUES (25, 1), (26, 2), (25, 3)
INSERT INTO hollow VALUES (1, 1)
INSERT INTO hollow VALUES (27, 1), (1, 1), (28, 1)
INSERT INTO hollow VALUES (29, 'x'), (30, 1)
INSERT INTO hollow VALUES (31, 1/0), (32, 1)
INSERT INTO hollow VALUES (33), (34, 1)
INSERT INTO hollow VALUES (33, 1), (34)
INSERT INTO hollow VALUES (33), (34), (35, 1), (36)
INSERT INTO hollow (id, v) VALUES (33, 1), (34)
INSERT INTO hollow (id, v) VALUES (33), (34)
INSERT INTO hollow (id, v) VALUES (33, 1, 2)
INSERT INTO hollow (id, v) VALUES (33, 1, 2), (34, 1, 2)
INSERT INTO hollow (id, id) VALUES (33, 34)
INSERT INTO hollow (id, nosuch) VALUES (33, 34)
INSERT INTO hollow VALUES (33, 1, 'a', 5)
INSERT INTO hollow (id) VALUES (NULL)
INSERT INTO hollow (id) VALUES (40), (NULL)
INSERT INTO hollow (v) VALUES (1)
INSERT INTO hollow DEFAULT VALUES
INSERT INTO hollow (id) VALUES (DEFAULT)
INSERT INTO hollow (id) VALUES ('41'), ('42')
INSERT INTO hollow (id) VALUES (43), ('44')
INSERT INTO hollow (id) VALUES (45.0), (46.4), (47.6)
INSERT INTO hollow (id) VALUES (1e2)
INSERT INTO hollow (id) VALUES (50 + 1)
INSERT INTO hollow (id) VALUES (-52), (- 53), (+54), ((55))
INSERT INTO hollow (id) VALUES (56::int), (57::bigint), (CAST(58 AS smallint)), (bigint '59')
INSERT INTO hollow (id) VALUES ('60'::text)
INSERT INTO hollow (id) VALUES (9223372036854775807), (-9223372036854775808)
INSERT INTO hollow (id) VALUES (9223372036854775808)
INSERT INTO hollow (id) VALUES (61), (9223372036854775808)
INSERT INTO hollow (id) VALUES ('x')
INSERT INTO hollow (id) VALUES (62), ('x')
INSERT INTO hollow (id) VALUES (true)
INSERT INTO hollow (id) VALUES ((SELECT 63))
INSERT INTO hollow (id, v) VALUES (64, (SELECT 1))
INSERT INTO hollow (id, v) VALUES (65, (SELECT count(*) FROM customers))
INSERT INTO hollow (id, v) VALUES (66, (SELECT "Mixed Case" FROM customers WHERE id = 66))
INSERT INTO hollow (id, v) VALUES (1000, (SELECT count(*) FROM orders WHERE customer_id = 1000)), (1001, 2)
INSERT INTO hollow (id, t) VALUES (67, (SELECT name FROM countries WHERE code = 'DE'))
INSERT INTO hollow (id, t) VALUES (68, (SELECT name FROM countries WHERE code = 'DE')), (69, 'b'), (70, 'c')
[loose] INSERT INTO hollow (id, v) VALUES (71, floor(random())), (72, floor(random()))
[loose] INSERT INTO hollow (id, t) VALUES (73, now() IS NULL), (74, 'x')
[loose] INSERT INTO hollow (id, t) VALUES (75, (now() IS NULL)::text)
INSERT INTO hollow (id, t) VALUES (76, current_user), (77, current_user)
INSERT INTO hollow (id, v) VALUES (78, nextval('ticket'))
INSERT INTO hollow (id, v) VALUES (79, twice(4)), (80, twice(5))
INSERT INTO hollow (id, v) VALUES (81, order_count(1))
INSERT INTO hollow (id, t) VALUES (82, 5), (83, 5.5), (84, true)
INSERT INTO hollow (id, t) VALUES (85, 'a'), (86, 5)
INSERT INTO hollow (id, v) VALUES (87, '5'), (88, 5.5), (89, NULL)
INSERT INTO hollow (id, v) SELECT 90, 1
INSERT INTO hollow SELECT 91, 1, 'a' FROM customers WHERE id = 91
INSERT INTO hollow SELECT id + 10000 FROM customers
## defaults and moments of several shards
INSERT INTO depot.events (customer_id, payload) VALUES (1, 'a'), (2, 'b'), (3, 'c') RETURNING *
INSERT INTO depot.events (customer_id, payload) VALUES ($1, $2), ($3, $2) RETURNING at <- 1:int8 | p:text | 9:int8
INSERT INTO depot.events VALUES (1, date_trunc('century', now()), 'x'), (2, date_trunc('century', current_timestamp), 'y')
INSERT INTO depot.events VALUES (1, DEFAULT, 'x'), (2, NULL, 'y'), (3, '2024-01-01 00:00+00', 'z')
UPDATE depot.events SET at = date_trunc('century', now()) WHERE payload IS NOT NULL
UPDATE depot.events SET at = date_trunc('century', now()), payload = $1 WHERE at < now() - $2 <- q:text | 1 day:interval
DELETE FROM depot.events WHERE at > now() + interval '100 years'
DELETE FROM depot.events WHERE payload IN ('a', 'b', 'c', 'p', 'x', 'y', 'z') AND at <= CURRENT_DATE
SELECT count(*) FROM orders WHERE placed < now()
SELECT count(*) FROM orders WHERE placed < now() - $1 AND number > $2 <- 1 day:interval | 0:int4
SELECT customer_id, number FROM orders WHERE placed < localtimestamp ORDER BY customer_id, number LIMIT 5
SELECT id, name FROM customers WHERE born < current_date - 365 ORDER BY id
SELECT item, count(*) FILTER (WHERE placed < now()) FROM orders GROUP BY item
SELECT c.name FROM customers c JOIN orders o ON o.number = c.id AND o.placed < now()
SELECT id, now() > '2024-01-01' AS late FROM customers WHERE born < now()
SELECT count(*) FROM orders WHERE placed < current_timestamp(0) - interval '1 day'
SELECT count(*) FROM orders WHERE placed < nosuch AND placed < now()
SELECT count(*) FROM orders WHERE item < now()
UPDATE countries SET rank = rank WHERE now() > '2020-01-01'
{ a moment is the transaction's
BEGIN
UPDATE depot.events SET at = date_trunc('century', now()) WHERE at < now()
SELECT count(*) FROM depot.events WHERE at < now()
SELECT count(*) FROM orders WHERE placed <= now()
ROLLBACK
}
{ moments in another style of dates
SET datestyle = 'German'
SELECT count(*) FROM orders WHERE placed < now()
INSERT INTO tickets (title) VALUES ('styled')
RESET datestyle
}
## rows that are inserted where they are read
INSERT INTO hollow SELECT id, number, item FROM orders WHERE false
INSERT INTO hollow SELECT customer_id + 1000000, number, item FROM orders
INSERT INTO hollow (id, t) SELECT id, name FROM customers
INSERT INTO hollow (t, id) SELECT name, id FROM customers WHERE id IN (1, 2, 3) ON CONFLICT DO NOTHING
INSERT INTO hollow (id, v) SELECT customer_id, count(*) FROM orders GROUP BY customer_id ON CONFLICT (id) DO UPDATE SET v = excluded.v RETURNING id, v
INSERT INTO hollow (id, t) SELECT c.id, k.name FROM customers c JOIN countries k ON k.code = c.country ON CONFLICT (id) DO UPDATE SET t = excluded.t || '!' RETURNING *
INSERT INTO small SELECT * FROM small WHERE k < 5
INSERT INTO small (k, v) SELECT customer_id, item FROM orders WHERE customer_id IN (1, 7) RETURNING *
INSERT INTO small (k, w) SELECT id, id FROM customers
INSERT INTO lines SELECT customer_id, number, 1, item FROM orders WHERE amount > $1 <- 5:numeric
INSERT INTO lines TABLE lines
INSERT INTO lines (customer_id, number, pos) SELECT customer_id, number, -1 FROM orders
INSERT INTO lines SELECT o.customer_id, o.number, 2, c.name FROM orders o JOIN customers c ON c.id = o.customer_id WHERE c.active
INSERT INTO lines SELECT o.customer_id, o.number, 2, c.name FROM orders o JOIN customers c ON c.id = o.number
INSERT INTO hollow (id, t) SELECT id, name FROM customers UNION SELECT customer_id, item FROM orders ON CONFLICT DO NOTHING
INSERT INTO hollow (id, t) SELECT DISTINCT customer_id, 'd' FROM orders WHERE customer_id > 0 ON CONFLICT (id) DO NOTHING
INSERT INTO hollow (id, t) WITH x AS (SELECT id, name FROM customers) SELECT id, name FROM x ON CONFLICT (id) DO NOTHING
INSERT INTO hollow (id, t) SELECT id, name FROM customers ORDER BY id LIMIT 3 ON CONFLICT DO NOTHING
INSERT INTO hollow (v, id) SELECT id, id FROM customers WHERE id < 100 AND id > 0 ON CONFLICT (id) DO UPDATE SET v = excluded.v
INSERT INTO hollow (id, v) SELECT n, 1 FROM words WHERE n IS NOT NULL ON CONFLICT DO NOTHING
INSERT INTO metrics SELECT tenant, day_no, value + 1, 'copied' FROM metrics ON CONFLICT (tenant, day_no) DO UPDATE SET note = excluded.note
INSERT INTO metrics (day_no, tenant) SELECT day_no, tenant FROM metrics WHERE tenant = 'acme' ON CONFLICT DO NOTHING
INSERT INTO metrics (tenant, day_no) SELECT tenant, day_no + 10 FROM metrics
INSERT INTO words (word) SELECT name FROM names
INSERT INTO names SELECT name, v + 1 FROM names
INSERT INTO codes SELECT code, v + 1 FROM codes
INSERT INTO tickets (id, title) SELECT k, v FROM serials ON CONFLICT DO NOTHING
INSERT INTO tickets (title) SELECT v FROM serials
INSERT INTO hollow (id, t) SELECT c.id, (SELECT count(*)::text FROM orders o WHERE o.customer_id = c.id) FROM customers c ON CONFLICT DO NOTHING
INSERT INTO hollow (id, t) SELECT c.id, (SELECT count(*)::text FROM orders) FROM customers c ON CONFLICT DO NOTHING
INSERT INTO hollow (id, t) SELECT o.customer_id, c.name FROM customers c LEFT JOIN orders o ON o.customer_id = c.id
INSERT INTO hollow (id, t) SELECT id, name, 1, 2 FROM customers
DELETE FROM hollow
DELETE FROM small WHERE w IS NOT DISTINCT FROM k
## series
INSERT INTO hollow SELECT g, g * 2, 'r' || g FROM generate_series(200, 220) g
INSERT INTO hollow (v, id) SELECT g, g + 1000 FROM generate_series(200, 205) AS g
INSERT INTO hollow (id) SELECT g FROM generate_series(300, 310, 3) AS t(g) WHERE g % 2 = 0
INSERT INTO hollow (id) SELECT g + 0.4 FROM generate_series(400, 402) g
INSERT INTO hollow (id) SELECT g / 2 FROM generate_series(820, 823, 2) g
INSERT INTO hollow (id) SELECT g FROM generate_series(1, 3) g
INSERT INTO hollow (id, v) SELECT g, 1 / (g - 502) FROM generate_series(500, 505) g
INSERT INTO hollow (id, t) SELECT g, NULL FROM generate_series(510, 512) g
INSERT INTO hollow (id, t) SELECT g, 'x' FROM generate_series(520, 522) g ORDER BY g
INSERT INTO hollow (id, t) SELECT g, 'x' FROM generate_series(520, 522) g LIMIT 2
[loose] INSERT INTO hollow (id, v) SELECT g, random() FROM generate_series(530, 532) g
INSERT INTO hollow (id, v) SELECT g, row_number() OVER () FROM generate_series(530, 532) g
INSERT INTO hollow (id, v) SELECT g, count(*) FROM generate_series(530, 532) g GROUP BY g
INSERT INTO hollow (id, v) SELECT g, '5' FROM generate_series(530, 532) g
[loose] INSERT INTO hollow (id, t) SELECT g, now() FROM generate_series(530, 532) g
INSERT INTO hollow (id, t) SELECT 533, 'a' FROM generate_series(1, 1) g
INSERT INTO hollow (id, t) SELECT DISTINCT g, 'a' FROM generate_series(1, 1) g
INSERT INTO hollow (id) SELECT g FROM generate_series(540, 541) g RETURNING id
INSERT INTO hollow (id) SELECT g FROM generate_series(540.5, 541.5) g
INSERT INTO hollow (id) SELECT g FROM generate_series('542', '543') g
INSERT INTO hollow (id, v, t) SELECT g, 1 FROM generate_series(550, 551) g
INSERT INTO hollow SELECT g FROM generate_series(550, 551) g
INSERT INTO hollow SELECT g, 1, 'a', 4 FROM generate_series(560, 561) g
INSERT INTO hollow SELECT g, mod, g FROM generate_series(560, 561) g, LATERAL (SELECT g % 2 AS mod) x
INSERT INTO words SELECT 'w' || g, g FROM generate_series(1, 5) g
INSERT INTO small SELECT g, 'gen' FROM generate_series(1, 5) g
INSERT INTO small SELECT g * 1000000000, 'gen' FROM generate_series(1, 5) g
INSERT INTO small SELECT g, 'big' FROM generate_series(2147483646, 2147483648) g
INSERT INTO words VALUES ('neu', 1), ('später', 2), ('日', 3)
INSERT INTO words VALUES ('neu', 1) ON CONFLICT DO NOTHING
INSERT INTO words VALUES ('neu', 1), ('neuer', 2) ON CONFLICT DO NOTHING
INSERT INTO words VALUES ('neu', 1), ('neuer', 2) ON CONFLICT (word) DO UPDATE SET n = excluded.n + 1
INSERT INTO words VALUES ('neu', 1), ('neuer', 2) ON CONFLICT (word) DO UPDATE SET n = excluded.n + 1 RETURNING *
INSERT INTO words VALUES ('neu', 1) ON CONFLICT (word) DO UPDATE SET n = words.n + excluded.n RETURNING *
INSERT INTO words VALUES ('neu', 1), ('neu', 2) ON CONFLICT (word) DO UPDATE SET n = excluded.n
INSERT INTO words VALUES ('neu', 1) ON CONFLICT (word) DO UPDATE SET word = 'alt'
INSERT INTO words VALUES ('neu', 1) ON CONFLICT (n) DO NOTHING
INSERT INTO words VALUES ('neu', 1) ON CONFLICT ON CONSTRAINT words_pkey DO NOTHING
INSERT INTO words VALUES ('neu', 1) ON CONFLICT (word) WHERE n > 0 DO NOTHING
INSERT INTO words VALUES ('neu', 1) ON CONFLICT (lower(word)) DO NOTHING
INSERT INTO words VALUES ('neu', 1) ON CONFLICT (word) DO UPDATE SET n = (SELECT count(*) FROM words)
INSERT INTO words VALUES ('neu', 1) ON CONFLICT (word) DO UPDATE SET n = 5 WHERE words.n = 4
INSERT INTO words VALUES (E'e\x63', 1), ($$dollar$$, 2), ('it''s2', 3), (U&'\0061x', 4)
INSERT INTO words VALUES (5, 1)
INSERT INTO words VALUES ('c '::char(4), 1)
INSERT INTO words VALUES ('abc'::varchar(1), 1)
INSERT INTO words VALUES ('' || 'd', 1)
INSERT INTO names VALUES ('abcdefghi', 1)
INSERT INTO names VALUES ('abc         ', 1)
INSERT INTO names VALUES ('abcdefgh    ', 1)
INSERT INTO names VALUES ('abcdefghi'::varchar(8), 1)
INSERT INTO names VALUES ('q', 1), ('w', 2), (7, 3)
INSERT INTO codes VALUES ('q', 1), ('q ', 2), ('w', 3)
INSERT INTO codes VALUES ('abcdef', 1)
INSERT INTO codes VALUES ('abcde   ', 1)
INSERT INTO codes VALUES (7, 1)
INSERT INTO amounts VALUES (1.004, 1)
INSERT INTO amounts VALUES (1.005, 1)
INSERT INTO amounts VALUES ('1.005', 1)
INSERT INTO amounts VALUES (7, 1), (8.5, 2), (-1, 3)
INSERT INTO amounts VALUES (1e3, 1)
INSERT INTO amounts VALUES ('1e3', 1)
INSERT INTO amounts VALUES ('NaN', 1)
INSERT INTO amounts VALUES (999999.99, 1), (1000000, 1)
INSERT INTO amounts VALUES (1.5::float8, 1)
INSERT INTO days VALUES ('2030-01-01', 1), ('2030-01-02', 2)
INSERT INTO days VALUES ('2030-01-01 23:59', 1)
INSERT INTO days VALUES ('01/02/2030', 1)
INSERT INTO days VALUES ('infinity', 1)
INSERT INTO days VALUES ('today', 1)
[loose] INSERT INTO days VALUES (current_date, 1)
INSERT INTO days VALUES ('2030-02-30', 1)
INSERT INTO days VALUES ('2030-01-01'::timestamp, 1)
INSERT INTO moments VALUES ('2030-01-01 00:00:00+00', 1), ('2030-01-01 00:00:00+02', 2)
INSERT INTO moments VALUES ('2030-01-01 00:00:00', 1)
INSERT INTO moments VALUES ('2030-01-01 00:00:00.1234567+00', 1)
[loose] INSERT INTO moments VALUES (now(), 1)
INSERT INTO stamps VALUES ('2030-01-01 00:00:00', 1), ('2030-01-01 00:00:00.0000005', 2)
INSERT INTO stamps VALUES ('2030-01-01 00:00:00+05', 1)
INSERT INTO public.flags VALUES (true, 1), ('f', 2), ('yes', 3)
INSERT INTO public.flags VALUES (1 = 1, 1)
INSERT INTO public.flags VALUES (1, 1)
INSERT INTO devices VALUES ('c0000000-0000-0000-0000-000000000001', 'n', '2024-01-01', '{"x": [1]}'), ('{C0000000-0000-0000-0000-000000000002}', 'm', NULL, NULL)
[loose] INSERT INTO devices VALUES (gen_random_uuid(), 'r')
INSERT INTO metrics VALUES ('new', 1, 1, 'a'), ('new', 2, 2, 'b'), ('other', 1, 3, 'c') RETURNING tenant, day_no
INSERT INTO metrics (day_no, tenant) VALUES (9, 'new'), (10, 'new')
INSERT INTO metrics (tenant) VALUES ('new')
INSERT INTO metrics VALUES ('new', NULL)
INSERT INTO metrics VALUES ('new', 1) ON CONFLICT (tenant, day_no) DO UPDATE SET value = 99
INSERT INTO metrics VALUES ('new', 1) ON CONFLICT (day_no, tenant) DO NOTHING
INSERT INTO metrics VALUES ('new', 1) ON CONFLICT (tenant) DO NOTHING
INSERT INTO "Upper" VALUES (4, 'four', 1, 2), (5, 'five', 3, 4)
INSERT INTO "Upper" ("Id", id) VALUES (6, 60), (7, 70)
INSERT INTO "Upper" (id, "from") VALUES (6, 60)
INSERT INTO "Upper" (Id) VALUES (6)
INSERT INTO depot.events VALUES (1, '2024-01-01', 'x'), (2, '2024-01-02', 'y')
INSERT INTO depot.events (customer_id, payload) VALUES (1, 'defaults')
INSERT INTO depot.events (customer_id, payload) VALUES (1, 'a'), (2, 'b'), (3, 'c')
INSERT INTO events VALUES (1, '2024-01-01', 'x')
INSERT INTO serials VALUES (9, 9, 9, 'v'), (10, 10, 10, 'w')
INSERT INTO serials (k, v) VALUES (9, 'v')
INSERT INTO serials (k, id, v) VALUES (9, 5, 'v')
INSERT INTO serials (k, id, ident, v) VALUES (9, 5, DEFAULT, 'v')
INSERT INTO serials (k, id, ident) OVERRIDING USER VALUE VALUES (9, 5, 7)
## numbers from sequences
INSERT INTO tickets (title) VALUES ('a') RETURNING id
INSERT INTO tickets (title) VALUES ('a'), ('b'), ('c'), ('d') RETURNING *
INSERT INTO tickets (title, total) VALUES ($1, $2) RETURNING id, total <- x:text | 1.50:numeric
INSERT INTO tickets (title) VALUES ($1), ($2), ($1) RETURNING id <- x:text | y:text
INSERT INTO tickets DEFAULT VALUES RETURNING id
INSERT INTO tickets VALUES (DEFAULT, 'a', DEFAULT), (DEFAULT, 'b', 5)
INSERT INTO tickets (id, title) VALUES (DEFAULT, 'a'), (100000, 'b'), (DEFAULT, 'c') ON CONFLICT DO NOTHING
INSERT INTO tickets AS t (title) VALUES ('a') ON CONFLICT (id) DO UPDATE SET title = t.title || excluded.title
INSERT INTO tickets (title) VALUES (repeat('x', 3)), (current_user::text)
INSERT INTO tickets (title) VALUES ((SELECT 'one'))
INSERT INTO tickets (id, title) VALUES (nextval('tickets_id_seq'), 'n'), (nextval('tickets_id_seq'::regclass), 'm') RETURNING id
INSERT INTO tickets (id, title) VALUES (nextval('ticket'), 'n') ON CONFLICT DO NOTHING
INSERT INTO tickets (id, title) VALUES (nextval('no_such_sequence'), 'n')
INSERT INTO tickets (id, title) VALUES (nextval('tickets_id_seq') + 1000, 'n')
INSERT INTO tickets (nosuch) VALUES (1)
SELECT count(*), max(id), min(id) FROM tickets
INSERT INTO parcels (body) VALUES ('a') RETURNING id, number
INSERT INTO parcels (body) VALUES ('a'), ('b') RETURNING id, number
INSERT INTO parcels DEFAULT VALUES RETURNING *
INSERT INTO parcels (id, body) VALUES (DEFAULT, 'a'), (DEFAULT, 'b') RETURNING *
INSERT INTO parcels (id, body) VALUES (500, 'a')
INSERT INTO parcels (id, number, body) VALUES (500, 1, 'a')
INSERT INTO parcels (id, body) OVERRIDING SYSTEM VALUE VALUES (50000, 'a') ON CONFLICT DO NOTHING
INSERT INTO parcels (id, number, body) OVERRIDING SYSTEM VALUE VALUES (50001, 3, 'a') ON CONFLICT DO NOTHING
INSERT INTO parcels (id, body) OVERRIDING USER VALUE VALUES (50002, 'a'), (50003, 'b') RETURNING id, number
INSERT INTO colors (name) VALUES ('red'), ('green') ON CONFLICT DO NOTHING
INSERT INTO colors (name) VALUES ('blue') ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING code, name
INSERT INTO colors VALUES (DEFAULT, 'black') ON CONFLICT DO NOTHING RETURNING code
SELECT * FROM colors
SELECT setval('tickets_id_seq', 5000)
SELECT setval('tickets_id_seq', (SELECT max(id) FROM tickets))
SELECT setval(pg_get_serial_sequence('"tickets"', 'id'), coalesce(max("id"), 1), max("id") IS NOT null) FROM "tickets"
INSERT INTO tickets (title) VALUES ('after') RETURNING id
{ numbers in a transaction
BEGIN
INSERT INTO tickets (title) VALUES ('a') RETURNING id
SELECT currval('tickets_id_seq')
SELECT lastval()
SELECT currval(pg_get_serial_sequence('tickets', 'id')) AS id
INSERT INTO parcels (body) VALUES ('a'), ('b') RETURNING id
SELECT lastval() = currval('parcels_number_seq')
SAVEPOINT s
INSERT INTO tickets (title) VALUES ('taken back') RETURNING id
ROLLBACK TO s
INSERT INTO tickets (title) VALUES ('b'), ('c') RETURNING id
COMMIT
SELECT id, title FROM tickets ORDER BY id DESC LIMIT 3
}
{ a sequence is restarted
ALTER SEQUENCE tickets_id_seq RESTART WITH 90000
INSERT INTO tickets (title) VALUES ('restarted') RETURNING id
TRUNCATE tickets RESTART IDENTITY
INSERT INTO tickets (title) VALUES ('first'), ('second') RETURNING id
ALTER SEQUENCE tickets_id_seq INCREMENT BY 10
INSERT INTO tickets (title) VALUES ('third'), ('fourth') RETURNING id
ALTER SEQUENCE tickets_id_seq INCREMENT BY 1
TRUNCATE parcels RESTART IDENTITY
INSERT INTO parcels (body) VALUES ('first') RETURNING id, number
}
## rows of several shards
INSERT INTO orders (customer_id, number, amount, placed) VALUES (1, 50, 1, '2024-01-01'), (2, 50, 1, '2024-01-01')
INSERT INTO orders (customer_id, number, amount) VALUES (1, 51, 1.999), (2, 51, 1.001) RETURNING customer_id, amount, placed, total, qty
INSERT INTO orders (customer_id, number, total) VALUES (1, 52, 5)
INSERT INTO orders (customer_id, number, total) VALUES (1, 52, DEFAULT), (2, 52, DEFAULT)
INSERT INTO orders (customer_id, number) VALUES (123456, 1)
INSERT INTO orders (customer_id, number) VALUES (1, 60), (123456, 1)
INSERT INTO orders VALUES (1, 61, 1.5, '2024-01-01', 'x', 1), (3, 61, 1.5, '2024-01-01', 'x', 1)
INSERT INTO lines VALUES (1, 1, 5, 'x', 1), (3, 1, 6, 'y', 2)
INSERT INTO lines VALUES (1, 1, 0, 'x', 1)
INSERT INTO lines VALUES (1, 1, 1, 'x', 1), (3, 1, -1, 'y', 1)
INSERT INTO customers (id, name, balance) VALUES (500, 'x', -2000000)
INSERT INTO customers (id, name, country) VALUES (500, 'x', 'ZZ')
INSERT INTO customers (id, name, note) VALUES (500, 'x', 'a note of more than twenty characters')
INSERT INTO customers (id, name, mood) VALUES (500, 'x', 'sad'), (501, 'y', 'ok'), (502, 'z', NULL)
INSERT INTO customers (id, name, mood) VALUES (503, 'x', 'angry')
INSERT INTO customers (id, tags) VALUES (504, '{x,y}'), (505, ARRAY['a', 'b'])
INSERT INTO customers (id, tags[1]) VALUES (506, 'x')
INSERT INTO public.customers (id) VALUES (507)
INSERT INTO depot.customers (id) VALUES (508)
INSERT INTO active_customers (id, name) VALUES (509, 'view')
INSERT INTO nosuch VALUES (1)
INSERT INTO hollow TABLE hollow
INSERT INTO hollow (SELECT 1)
INSERT INTO hollow VALUES (1000) RETURNING count(*)
INSERT INTO hollow VALUES (2000), (2001) RETURNING (SELECT 1)
[loose] INSERT INTO hollow VALUES (2000), (2001) RETURNING hollow
[loose] INSERT INTO hollow VALUES (2002), (2003) RETURNING tableoid
[loose] INSERT INTO hollow VALUES (2004), (2005) RETURNING random() < 2
WITH x AS (SELECT 1) INSERT INTO hollow VALUES (2006, 1)
WITH x AS (SELECT 1 AS a) INSERT INTO hollow SELECT 2007, a FROM x
## update
UPDATE customers SET note = 'u' WHERE id = 1
UPDATE customers SET note = 'u' WHERE id = 1 RETURNING *
UPDATE customers SET note = 'u2' WHERE id IN (1, 2, 3) RETURNING id, note
UPDATE customers SET note = 'all'
UPDATE customers SET note = NULL RETURNING id
UPDATE customers SET "Mixed Case" = "Mixed Case" + 1
UPDATE customers SET "mixed case" = 1
UPDATE customers SET balance = balance * 2 WHERE active
UPDATE customers SET balance = balance - 1000000 WHERE id IN (1, 2)
[any error] UPDATE customers SET balance = 1 / (id - 7)
UPDATE customers SET id = 5 WHERE id = 5
UPDATE customers SET id = id
UPDATE customers SET id = 600 WHERE id = 500
UPDATE customers SET "id" = 600 WHERE id = 500
UPDATE customers SET ID = 600 WHERE id = 500
UPDATE customers SET (name, note) = ('n', 'm') WHERE id = 2
UPDATE customers SET (name, note) = ROW('n', 'm') WHERE id = 2
UPDATE customers SET (id, note) = (2, 'm') WHERE id = 2
UPDATE customers SET (name, note) = (SELECT 'q', 'r') WHERE id = 2
UPDATE customers SET (name, note) = (SELECT 'q', 'r')
UPDATE customers SET name = DEFAULT, active = DEFAULT WHERE id = 501
UPDATE customers SET active = DEFAULT
UPDATE customers SET tags[1] = 'z' WHERE id = 1
UPDATE customers SET tags[1] = 'z'
UPDATE customers c SET note = c.name WHERE c.id = 3
UPDATE customers c SET note = name WHERE customers.id = 3
UPDATE customers AS c SET note = 'x' FROM orders o WHERE o.customer_id = c.id AND c.id = 1
UPDATE customers c SET note = o.item FROM orders o WHERE o.customer_id = c.id AND o.number = 1
UPDATE customers c SET note = k.name FROM countries k WHERE k.code = c.country
UPDATE customers c SET note = k.name FROM countries k WHERE k.code = c.country AND c.id = 1
UPDATE customers c SET note = 'j' FROM customers d WHERE d.id = c.id AND d.id = 2
UPDATE customers SET note = (SELECT name FROM countries WHERE code = country) WHERE id = 1
UPDATE customers SET note = (SELECT name FROM countries WHERE code = country)
UPDATE customers SET note = (SELECT max(item) FROM orders WHERE customer_id = id) WHERE id = 1
[loose] UPDATE customers SET note = now()::date::text WHERE id = 1
[loose] UPDATE customers SET born = now()
UPDATE customers SET born = 'today'
UPDATE customers SET note = 'today' WHERE id IN (1, 2)
UPDATE customers SET born = 'today' WHERE id = 1
[loose] UPDATE customers SET balance = floor(random() * 0)
UPDATE customers SET note = 'only' WHERE name = 'nobody'
[loose] UPDATE customers SET note = 'ctid' WHERE ctid = '(0,1)'
[loose] UPDATE customers SET note = 'x' WHERE CURRENT OF c
UPDATE ONLY customers SET note = 'only' WHERE id = 1
UPDATE customers * SET note = 'star' WHERE id = 1
UPDATE customers SET nosuch = 1
UPDATE customers SET nosuch = 1 WHERE id = 1
UPDATE customers SET country = 'ZZ' WHERE id IN (1, 2)
UPDATE customers SET note = 'a note of more than twenty characters'
[loose] UPDATE customers SET note = 'x' WHERE id = 1 RETURNING ctid IS NULL
[loose] UPDATE customers SET note = 'x' RETURNING customers
UPDATE customers SET note = 'x' WHERE id = 1 RETURNING c.id
UPDATE orders SET amount = amount + 1 WHERE customer_id = 1 RETURNING amount, total
UPDATE orders SET total = 5 WHERE customer_id = 1
UPDATE orders SET number = number + 100
UPDATE orders SET number = number - 100
UPDATE orders SET customer_id = 2 WHERE customer_id = 1
UPDATE words SET n = n + 1 WHERE word IN ('a', 'b')
UPDATE words SET n = coalesce(n, 0) + 1 WHERE lang = 'en' RETURNING word, n
UPDATE "Upper" SET "select" = 'u', id = "Id" WHERE "Id" = 1
UPDATE "Upper" SET id = 5, "from" = 6
UPDATE "Upper" SET "Id" = 5
UPDATE metrics SET value = 0 WHERE tenant = 'acme'
UPDATE metrics SET tenant = 'x'
UPDATE metrics SET day_no = day_no
UPDATE depot.events SET payload = 'u' WHERE customer_id = 1
UPDATE countries SET rank = rank + 1
UPDATE countries SET rank = rank + 1 WHERE code = 'DE' RETURNING *
UPDATE countries SET rank = (SELECT count(*) FROM countries)
UPDATE countries SET rank = (SELECT count(*) FROM customers)
[loose] UPDATE countries SET rank = random() * 100
UPDATE countries SET name = extract(year FROM now())::text
UPDATE countries SET name = current_user
UPDATE countries SET code = 'D2' WHERE code = 'DE'
UPDATE countries c SET rank = d.rank FROM countries d WHERE d.code = c.code
UPDATE countries SET rank = 0 WHERE code IN (SELECT country FROM customers)
UPDATE logs SET level = 5 WHERE id = 1
UPDATE logs SET level = level + 1 RETURNING id, level
UPDATE settings SET value = 'blue' WHERE key = 'color'
UPDATE active_customers SET name = 'x' WHERE id = 1
UPDATE nosuch SET a = 1
## delete
DELETE FROM orders WHERE customer_id = 1 AND number = 50
DELETE FROM orders WHERE customer_id = 2 RETURNING *
DELETE FROM orders WHERE number = 51 RETURNING customer_id
DELETE FROM orders o WHERE o.customer_id = 3 AND o.number = 61
DELETE FROM orders USING customers c WHERE c.id = customer_id AND c.id = 1 AND number = 61
DELETE FROM orders o USING customers c WHERE c.id = o.customer_id AND c.id = 9
DELETE FROM orders o USING customers c WHERE c.id = o.customer_id
DELETE FROM orders USING countries WHERE false
DELETE FROM customers WHERE id = 1
DELETE FROM customers WHERE id = 500
DELETE FROM customers WHERE id IN (501, 502, 1)
DELETE FROM customers WHERE id > 500 AND id < 600
DELETE FROM customers WHERE name = (SELECT 'x')
DELETE FROM customers WHERE id IN (SELECT customer_id FROM orders)
DELETE FROM countries WHERE code = 'DE'
DELETE FROM countries WHERE code = 'ZZ'
DELETE FROM countries
DELETE FROM words WHERE word = 'neu' OR n > 100
DELETE FROM words WHERE word LIKE 'w%' RETURNING word
DELETE FROM hollow
DELETE FROM ONLY hollow WHERE id = 1
DELETE FROM hollow RETURNING *
DELETE FROM metrics WHERE (tenant, day_no) = ('new', 1)
DELETE FROM logs WHERE id > 100
DELETE FROM settings WHERE key = 'none'
DELETE FROM active_customers WHERE id = 500
DELETE hollow WHERE id = 1
TRUNCATE hollow
TRUNCATE TABLE hollow, small
TRUNCATE ONLY hollow
TRUNCATE hollow, logs
TRUNCATE lines, orders CASCADE
TRUNCATE orders
TRUNCATE customers CASCADE
TRUNCATE serials RESTART IDENTITY
TRUNCATE nosuch
MERGE INTO hollow h USING (VALUES (1, 1)) v(id, v) ON h.id = v.id WHEN NOT MATCHED THEN INSERT VALUES (v.id, v.v)
MERGE INTO logs l USING (VALUES (1, 'm')) v(id, msg) ON l.id = v.id WHEN MATCHED THEN UPDATE SET msg = v.msg
INSERT INTO logs (msg) VALUES ('a'), ('b') RETURNING *
INSERT INTO logs (msg) SELECT name FROM countries
INSERT INTO logs (msg) SELECT name FROM customers
INSERT INTO logs (msg) SELECT name FROM customers WHERE id = 1
INSERT INTO settings (key) SELECT code FROM countries
INSERT INTO settings (key) SELECT msg FROM logs
INSERT INTO depot.notes (body) VALUES ('n') RETURNING *
INSERT INTO depot.flags VALUES ('a', 'x')
INSERT INTO log_lines VALUES ('through a view')
INSERT INTO countries VALUES ('IT', 'Italy', 1.5, 9), ('ES', 'Spain', NULL, 8) RETURNING *
INSERT INTO countries (code, name) SELECT 'G' || g, 'gen' FROM generate_series(1, 3) g
INSERT INTO countries (code, name) SELECT msg, 'l' FROM logs
INSERT INTO countries (code, name) SELECT name, 'c' FROM customers
INSERT INTO countries (code, name) VALUES ('IT', 'again')
INSERT INTO countries (code, name) VALUES ('IT', 'again') ON CONFLICT (code) DO UPDATE SET name = excluded.name RETURNING *
INSERT INTO countries (code, name) VALUES ('IT', 'x'), ('PT', 'y') ON CONFLICT DO NOTHING RETURNING code
[loose] INSERT INTO countries (code, name) VALUES ('RN', random()::text)
INSERT INTO countries (code, name) VALUES ('NW', extract(year FROM now())::text)
[loose] INSERT INTO countries (code, name) VALUES ('NW', 'now')
INSERT INTO countries (code, name) VALUES ('NX', (SELECT max(name) FROM countries))
INSERT INTO countries (code, name) VALUES ('NY', (SELECT name FROM customers WHERE id = 1))
DELETE FROM countries WHERE code IN ('IT', 'ES', 'PT', 'NX') OR code LIKE 'G%' RETURNING code
