## extremes of types that only a server compares
SELECT max(name), min(name) FROM customers
SELECT max(note), count(*), min(id) FROM customers WHERE id > 0
SELECT max(word) FROM words WHERE false
SELECT min(id), max(label) FROM devices
SELECT max(tags) FROM customers
SELECT max(mood), min(mood) FROM customers
SELECT max(name) AS most FROM customers WHERE id = 1
SELECT max(lower(name)) FROM customers
## sorted rows of several shards
SELECT id FROM customers ORDER BY id
SELECT id, name FROM customers ORDER BY id DESC
SELECT name FROM customers ORDER BY id
SELECT * FROM customers ORDER BY id LIMIT 3
SELECT * FROM customers ORDER BY 1 LIMIT 3 OFFSET 2
SELECT id AS x, name FROM customers ORDER BY x DESC LIMIT 4
SELECT id + 1 AS id FROM customers ORDER BY id
SELECT name, id FROM customers ORDER BY -id
SELECT name FROM customers ORDER BY abs(id % 5), id
SELECT id, balance FROM customers ORDER BY balance, id
SELECT id, balance FROM customers ORDER BY balance DESC, id
SELECT id, balance FROM customers ORDER BY balance NULLS FIRST, id
SELECT id, balance FROM customers ORDER BY balance DESC NULLS LAST, id
SELECT id, born FROM customers ORDER BY born, id
SELECT id, born FROM customers ORDER BY born DESC NULLS LAST, id DESC
SELECT id, active FROM customers ORDER BY active, id
SELECT id, active FROM customers ORDER BY active DESC, id
SELECT id, "Mixed Case" FROM customers ORDER BY "Mixed Case" DESC, id
SELECT id, born IS NULL FROM customers ORDER BY born IS NULL, id
SELECT customer_id, number, amount FROM orders ORDER BY amount, customer_id, number
SELECT customer_id, number, total FROM orders ORDER BY total DESC, customer_id, number
SELECT customer_id, number, price FROM orders ORDER BY price, customer_id, number
SELECT customer_id, number, -price AS p FROM orders ORDER BY p NULLS FIRST, customer_id, number
SELECT customer_id, number, price::real AS p FROM orders ORDER BY p DESC, customer_id, number
SELECT customer_id, number FROM orders ORDER BY placed, customer_id, number
SELECT customer_id, number, placed FROM orders ORDER BY placed DESC NULLS LAST, customer_id DESC, number
SELECT customer_id, number, qty FROM orders ORDER BY qty, customer_id, number
SELECT customer_id, number FROM orders ORDER BY placed - timestamptz '2000-01-01 00:00:00+00', customer_id, number
SELECT customer_id, number, placed::date FROM orders ORDER BY placed::date, customer_id, number
SELECT customer_id, number FROM orders ORDER BY amount * qty, customer_id, number
SELECT customer_id, number FROM orders ORDER BY coalesce(amount, -1), customer_id, number
SELECT customer_id, number FROM orders ORDER BY extract(day FROM placed), customer_id, number
SELECT id, seen FROM devices ORDER BY seen, id
SELECT id FROM devices ORDER BY id
SELECT id FROM devices ORDER BY id DESC LIMIT 2
SELECT day, v FROM days ORDER BY day DESC
SELECT at, v FROM moments ORDER BY at
SELECT at, v FROM stamps ORDER BY at DESC
SELECT amount, v FROM amounts ORDER BY amount
SELECT f, v FROM public.flags ORDER BY f, v
SELECT k, v, w FROM small ORDER BY k, w, v COLLATE "C"
SELECT k, w FROM small ORDER BY w DESC, k DESC
SELECT word FROM words ORDER BY word COLLATE "C"
SELECT word, n FROM words ORDER BY word COLLATE "C" DESC LIMIT 4 OFFSET 1
SELECT n FROM words ORDER BY word COLLATE "POSIX"
SELECT name COLLATE "C" AS n, id FROM customers ORDER BY n, id
SELECT code FROM codes ORDER BY code COLLATE "C"
SELECT name FROM names ORDER BY name COLLATE "C"
SELECT word FROM words ORDER BY word
SELECT id FROM customers ORDER BY name, id
SELECT id FROM customers ORDER BY lower(name), id
SELECT id, tags FROM customers ORDER BY tags, id
SELECT id FROM customers ORDER BY mood, id
SELECT tenant, day_no FROM metrics ORDER BY day_no, value
SELECT "Id" FROM "Upper" ORDER BY "Id" DESC
SELECT "from" FROM "Upper" ORDER BY "Id"
SELECT id AS "limit", id AS "from" FROM "Upper" u ORDER BY u."Id" LIMIT 2
SELECT id IS DISTINCT FROM 3 AS d, "Id" FROM "Upper" ORDER BY id, "Id"
SELECT c.*, c.id AS again FROM customers c ORDER BY again LIMIT 2
SELECT id FROM customers WHERE id IN (1, 2, 3, 7) ORDER BY id DESC
SELECT id FROM customers WHERE false ORDER BY id
SELECT v FROM hollow ORDER BY id
SELECT id FROM hollow ORDER BY id LIMIT 5
SELECT id FROM customers ORDER BY nothing
SELECT id FROM customers ORDER BY 99
SELECT id AS a, balance AS a FROM customers ORDER BY a
SELECT id FROM customers ORDER BY 'x'
[any error] SELECT id FROM customers ORDER BY 1 / (id - 7)
[simple] SELECT id FROM customers ORDER BY id LIMIT 2; SELECT id FROM customers ORDER BY id DESC LIMIT 2
{ in a transaction
BEGIN
INSERT INTO hollow (id, v) VALUES (901, 3), (902, 1), (903, 2), (904, NULL)
SELECT id, v FROM hollow ORDER BY v, id
SELECT id FROM hollow ORDER BY v DESC LIMIT 2 OFFSET 1
SELECT id FROM hollow ORDER BY id FOR UPDATE
SELECT id / (id - 903) FROM hollow ORDER BY id
ROLLBACK
SELECT id FROM hollow ORDER BY id
}
## LIMIT and OFFSET
SELECT id FROM customers ORDER BY id LIMIT 0
SELECT id FROM customers ORDER BY id LIMIT ALL
SELECT id FROM customers ORDER BY id LIMIT NULL
SELECT id FROM customers ORDER BY id LIMIT ALL OFFSET 3
SELECT id FROM customers ORDER BY id OFFSET 3
SELECT id FROM customers ORDER BY id OFFSET 3 LIMIT 2
SELECT id FROM customers ORDER BY id OFFSET 1 ROW
SELECT id FROM customers ORDER BY id OFFSET 1000
SELECT id FROM customers ORDER BY id FETCH FIRST ROW ONLY
SELECT id FROM customers ORDER BY id FETCH FIRST 3 ROWS ONLY
SELECT id FROM customers ORDER BY id OFFSET 2 ROWS FETCH NEXT 2 ROWS ONLY
SELECT id FROM customers ORDER BY id LIMIT -1
SELECT id FROM customers ORDER BY id LIMIT 9223372036854775807 OFFSET 2
SELECT id FROM customers ORDER BY id OFFSET -1
SELECT id FROM customers ORDER BY id LIMIT 2 OFFSET -1
SELECT id FROM customers ORDER BY id LIMIT '3'
SELECT id FROM customers ORDER BY id LIMIT 1.5
SELECT id FROM customers ORDER BY id LIMIT 1 + 1
SELECT id FROM customers ORDER BY id LIMIT $1 <- 3:int8
SELECT id FROM customers ORDER BY id LIMIT $1 <- 0:int8
SELECT id FROM customers ORDER BY id LIMIT $1 <- \N:int8
SELECT id FROM customers ORDER BY id LIMIT $1 OFFSET $2 <- 3:int8 | 2:int8
SELECT id FROM customers ORDER BY id LIMIT $1 OFFSET $2 <- \N:int8 | 2:int8
SELECT id FROM customers ORDER BY id LIMIT $1 OFFSET $2 <- 3:int8 | \N:int8
SELECT id FROM customers ORDER BY id LIMIT $2 OFFSET $1 <- 3:int8 | 2:int8
SELECT id FROM customers ORDER BY id OFFSET $1 <- 5:int8
SELECT id FROM customers ORDER BY id OFFSET $1 FETCH FIRST $2 ROWS ONLY <- 5:int8 | 2:int8
SELECT id FROM customers ORDER BY id LIMIT 2 OFFSET $1 <- 5:int8
SELECT id FROM customers ORDER BY id LIMIT $1 OFFSET 1 <- 5:int8
SELECT id FROM customers ORDER BY id LIMIT $1 <- -3:int8
SELECT id FROM customers ORDER BY id LIMIT $1 OFFSET $2 <- 9223372036854775807:int8 | 2:int8
SELECT id, id + $1 AS s FROM customers WHERE id > $2 ORDER BY id * $1 DESC LIMIT $3 <- 1:int8 | 0:int8 | 3:int8
[unordered] SELECT customer_id, number FROM orders ORDER BY customer_id FETCH FIRST 1 ROW WITH TIES
SELECT customer_id FROM orders ORDER BY customer_id FETCH FIRST 3 ROWS WITH TIES
SELECT customer_id FROM orders ORDER BY customer_id OFFSET 1 ROWS FETCH FIRST 2 ROWS WITH TIES
SELECT qty FROM orders ORDER BY qty FETCH FIRST 2 ROWS WITH TIES
SELECT qty FROM orders ORDER BY qty NULLS FIRST FETCH FIRST 1 ROWS WITH TIES
[loose] SELECT id FROM customers LIMIT 3
[loose] SELECT id FROM customers OFFSET 2
SELECT id FROM customers LIMIT 0
SELECT id FROM customers LIMIT 1000
SELECT count(*) FROM customers LIMIT 1
SELECT count(*), max(id) FROM customers ORDER BY 1
## what stays on one shard
SELECT customer_id, count(*), sum(amount), avg(amount), min(item), array_agg(number ORDER BY number) FROM orders GROUP BY customer_id ORDER BY customer_id
SELECT customer_id, count(DISTINCT item) FROM orders GROUP BY customer_id HAVING count(*) > 1 ORDER BY 1
SELECT customer_id, count(*) FROM orders GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 3
SELECT customer_id AS c, avg(price) FROM orders GROUP BY c ORDER BY c
SELECT customer_id, item, string_agg(number::text, ',' ORDER BY number) FROM orders GROUP BY customer_id, item ORDER BY customer_id, item COLLATE "C"
SELECT customer_id, number, count(*) FROM orders GROUP BY customer_id, ROLLUP (number) ORDER BY 1, 2
SELECT customer_id, count(*) FROM orders GROUP BY ROLLUP (customer_id)
SELECT item, count(*) FROM orders GROUP BY item
SELECT count(*) FROM orders GROUP BY ()
SELECT country, count(*) FROM customers GROUP BY country HAVING count(*) > 1
SELECT DISTINCT customer_id FROM orders ORDER BY 1
SELECT DISTINCT customer_id, item FROM orders
SELECT DISTINCT item FROM orders
SELECT DISTINCT * FROM orders
SELECT DISTINCT ON (customer_id) customer_id, number FROM orders ORDER BY customer_id, number DESC
SELECT DISTINCT ON (item) item, number FROM orders ORDER BY item, number
SELECT customer_id, number, row_number() OVER (PARTITION BY customer_id ORDER BY number), sum(amount) OVER (PARTITION BY customer_id) FROM orders ORDER BY 1, 2
SELECT customer_id, number, lag(number) OVER w FROM orders WINDOW w AS (PARTITION BY customer_id ORDER BY number) ORDER BY 1, 2
SELECT customer_id, number, rank() OVER (w ORDER BY number) FROM orders WINDOW w AS (PARTITION BY customer_id) ORDER BY 1, 2
SELECT number, count(*) OVER (PARTITION BY item) FROM orders
SELECT number, count(*) OVER () FROM orders
SELECT tenant, day_no, count(*) FROM metrics GROUP BY tenant, day_no ORDER BY day_no, tenant COLLATE "C"
SELECT tenant, count(*) FROM metrics GROUP BY tenant
SELECT c.id, count(o.number) FROM customers c LEFT JOIN orders o ON o.customer_id = c.id GROUP BY c.id ORDER BY c.id
SELECT o.customer_id, count(*) FROM customers c LEFT JOIN orders o ON o.customer_id = c.id GROUP BY o.customer_id
SELECT c.id, o.number FROM customers c JOIN orders o ON o.customer_id = c.id ORDER BY c.id, o.number
SELECT c.id, o.number, l.pos FROM customers c JOIN orders o ON o.customer_id = c.id LEFT JOIN lines l ON l.customer_id = o.customer_id AND l.number = o.number ORDER BY 1, 2, 3
SELECT c.id, o.number FROM customers c LEFT JOIN orders o ON o.customer_id = c.id ORDER BY c.id, o.number LIMIT 5
SELECT c.id, o.number FROM orders o RIGHT JOIN customers c ON o.customer_id = c.id ORDER BY c.id, o.number
SELECT c.id, o.number FROM orders o FULL JOIN customers c ON o.customer_id = c.id ORDER BY c.id, o.number
SELECT c.id, e.payload FROM customers c FULL JOIN depot.events e ON e.customer_id = c.id AND c.active ORDER BY c.id, e.payload COLLATE "C"
SELECT c.id, o.number FROM customers c LEFT JOIN orders o ON o.customer_id = c.id AND c.id > 2 ORDER BY 1, 2
SELECT c.id, o.number FROM customers c LEFT JOIN orders o ON o.number = c.id ORDER BY 1, 2
SELECT c.id, o.number FROM customers c LEFT JOIN orders o ON c.id = c.id ORDER BY 1, 2
SELECT customer_id, o.number, pos FROM orders o JOIN lines l USING (customer_id, number) ORDER BY 1, 2, 3
SELECT count(*) FROM orders a JOIN orders b ON a.customer_id = b.customer_id
SELECT count(*) FROM orders a JOIN orders b ON a.number = b.number
SELECT a.id, b.customer_id, c.payload FROM customers a, orders b, depot.events c WHERE a.id = b.customer_id AND b.customer_id = c.customer_id ORDER BY 1, 2, 3 COLLATE "C"
SELECT c.id, k.name FROM customers c LEFT JOIN countries k ON k.code = c.country ORDER BY c.id
SELECT k.code, c.id FROM countries k LEFT JOIN customers c ON k.code = c.country
SELECT k.code, c.id FROM customers c RIGHT JOIN countries k ON k.code = c.country
SELECT c.id, v.x FROM customers c JOIN (VALUES (1), (2)) AS v(x) ON v.x = c.id ORDER BY 1
SELECT c.id, g FROM customers c, generate_series(1, 2) g WHERE c.id > 8 ORDER BY 1, 2
SELECT k.code, g.n FROM generate_series(1, 2) g(n) LEFT JOIN (SELECT code FROM countries) k ON true ORDER BY 1 COLLATE "C", 2
## queries inside
SELECT c.id FROM customers c WHERE EXISTS (SELECT FROM orders o WHERE o.customer_id = c.id) ORDER BY c.id
SELECT c.id FROM customers c WHERE NOT EXISTS (SELECT FROM orders o WHERE o.customer_id = c.id) ORDER BY c.id
SELECT c.id FROM customers c WHERE c.active OR EXISTS (SELECT FROM orders o WHERE o.customer_id = c.id AND o.qty > 1) ORDER BY c.id
SELECT c.id FROM customers c WHERE c.id IN (SELECT customer_id FROM orders) ORDER BY c.id
SELECT c.id FROM customers c WHERE c.id NOT IN (SELECT customer_id FROM orders) ORDER BY c.id
SELECT c.id FROM customers c WHERE c.id IN (SELECT number FROM orders) ORDER BY c.id
SELECT c.id FROM customers c WHERE c.id IN (SELECT customer_id FROM orders GROUP BY customer_id HAVING count(*) > 1) ORDER BY c.id
SELECT c.id, (SELECT count(*) FROM orders o WHERE o.customer_id = c.id) FROM customers c ORDER BY c.id
SELECT c.id, (SELECT number FROM orders o WHERE o.customer_id = c.id ORDER BY number DESC LIMIT 1) FROM customers c ORDER BY c.id
SELECT c.id, (SELECT count(*) FROM orders) FROM customers c
SELECT c.id, (SELECT max(rank) FROM countries) FROM customers c ORDER BY c.id
SELECT c.id, (SELECT code FROM countries LIMIT 1) FROM customers c
SELECT c.id FROM customers c WHERE c.country = ANY (SELECT code FROM countries WHERE rank > 1) ORDER BY c.id
SELECT c.id, x.number FROM customers c, LATERAL (SELECT * FROM orders o WHERE o.customer_id = c.id ORDER BY number LIMIT 1) x ORDER BY c.id
SELECT c.id, x.n FROM customers c LEFT JOIN LATERAL (SELECT count(*) AS n FROM orders o WHERE o.customer_id = c.id) x ON true ORDER BY c.id
SELECT c.id, x.n FROM customers c, LATERAL (SELECT count(*) AS n FROM orders o WHERE o.number = c.id) x
SELECT s.customer_id, s.n FROM (SELECT customer_id, count(*) AS n FROM orders GROUP BY customer_id) s WHERE s.n > 1 ORDER BY 1
SELECT c.id, s.n FROM customers c JOIN (SELECT customer_id, count(*) AS n FROM orders GROUP BY customer_id) s ON s.customer_id = c.id ORDER BY 1
SELECT s.n, count(*) FROM (SELECT customer_id, count(*) AS n FROM orders GROUP BY customer_id) s GROUP BY s.n
SELECT count(*) FROM (SELECT DISTINCT customer_id FROM orders) s
SELECT count(*) FROM (SELECT DISTINCT item FROM orders) s
SELECT count(*) FROM (SELECT * FROM orders LIMIT 3) s
SELECT a.id FROM customers a, customers b WHERE NOT EXISTS (SELECT FROM orders o WHERE o.customer_id = a.id AND o.customer_id = b.id)
WITH o AS (SELECT * FROM orders) SELECT customer_id, number FROM o ORDER BY 1, 2
WITH o AS (SELECT customer_id, count(*) AS n FROM orders GROUP BY 1) SELECT c.id, o.n FROM customers c LEFT JOIN o ON o.customer_id = c.id ORDER BY 1
WITH o AS (SELECT customer_id, number FROM orders) SELECT a.number, b.number FROM o a JOIN o b ON a.customer_id = b.customer_id ORDER BY 1, 2
WITH o AS (SELECT customer_id, number FROM orders) SELECT count(*) FROM o a JOIN o b ON a.number = b.number
WITH o AS (SELECT * FROM orders) SELECT code FROM countries
WITH o AS (SELECT * FROM orders LIMIT 2) SELECT count(*) FROM o
WITH o (a, b) AS (SELECT customer_id, number FROM orders) SELECT a, b FROM o ORDER BY 1, 2
SELECT id FROM customers UNION ALL SELECT customer_id FROM orders
SELECT id FROM customers UNION SELECT customer_id FROM orders
SELECT id FROM customers EXCEPT SELECT customer_id FROM orders
SELECT id FROM customers INTERSECT SELECT customer_id FROM orders
SELECT id FROM customers EXCEPT SELECT number FROM orders
SELECT name FROM customers UNION SELECT item FROM orders
SELECT name FROM customers UNION ALL SELECT name FROM countries
SELECT count(*) FROM (SELECT id FROM customers UNION SELECT customer_id FROM orders) s
SELECT (SELECT sum(c.id) FROM countries x LIMIT 1) FROM customers c
SELECT count(*) FROM customers c WHERE EXISTS (SELECT FROM orders o WHERE o.customer_id = c.id)
## writes of rows that stay where they are
{ by other tables
BEGIN
UPDATE orders o SET item = c.name FROM customers c WHERE c.id = o.customer_id AND c.active
SELECT customer_id, number, item FROM orders ORDER BY 1, 2
DELETE FROM lines l USING orders o WHERE o.customer_id = l.customer_id AND o.number = l.number AND o.qty > 1
SELECT customer_id, number, pos FROM lines ORDER BY 1, 2, 3
UPDATE customers c SET note = 'has' WHERE EXISTS (SELECT FROM orders o WHERE o.customer_id = c.id)
UPDATE customers c SET balance = (SELECT coalesce(sum(amount), 0) FROM orders o WHERE o.customer_id = c.id)
SELECT id, note, balance FROM customers ORDER BY id
DELETE FROM hollow WHERE id IN (SELECT customer_id FROM orders)
ROLLBACK
}
UPDATE orders o SET item = c.name FROM customers c WHERE c.id = o.number
## plans: see tests/protocol/sharded.rs for those that are not refused
[loose] EXPLAIN (FORMAT JSON) SELECT * FROM orders
[loose] EXPLAIN SELECT count(*) OVER () FROM orders
EXPLAIN SELECT nothing FROM orders
