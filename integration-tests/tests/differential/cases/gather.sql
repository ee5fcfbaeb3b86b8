## views
SELECT * FROM active_customers
SELECT * FROM public.active_customers AS a WHERE a.id = 1
SELECT name FROM active_customers WHERE id = $1 <- 5:int8
SELECT name FROM active_customers WHERE id = 1 OR name = 'Ada'
SELECT count(*), max(id) FROM active_customers
SELECT id FROM active_customers ORDER BY id DESC LIMIT 2
SELECT active_customers.name FROM active_customers ORDER BY 1
SELECT a.name, o.number FROM active_customers a JOIN orders o ON o.customer_id = a.id ORDER BY 1, 2
SELECT a.name, o.number FROM active_customers a LEFT JOIN orders o ON o.number = a.id ORDER BY 1, 2
SELECT a.name, w.n FROM active_customers a, words w WHERE w.word = a.name ORDER BY w.n
SELECT w.n FROM words w, active_customers WHERE w.word = active_customers.name
SELECT * FROM order_totals ORDER BY customer_id
SELECT n, total FROM order_totals WHERE customer_id = 1
SELECT sum(total) FROM order_totals
SELECT * FROM rich ORDER BY id
SELECT r.name FROM rich r WHERE r.id IN (SELECT customer_id FROM orders WHERE amount > $1) <- 1:numeric
SELECT * FROM ranked WHERE r <= 3 ORDER BY r
SELECT r FROM ranked WHERE id = 1
SELECT name FROM country_names ORDER BY code
SELECT c.name, k.name FROM country_names c JOIN customers k ON k.country = c.code ORDER BY k.id
SELECT name FROM active_customers UNION SELECT item FROM orders
SELECT * FROM customers WHERE id IN (SELECT id FROM active_customers) ORDER BY id
SELECT id, (SELECT count(*) FROM order_totals t WHERE t.customer_id = a.id) FROM active_customers a ORDER BY id
SELECT * FROM (SELECT * FROM active_customers) s WHERE s.id = 4
WITH x AS (SELECT * FROM active_customers) SELECT count(*) FROM x
WITH active_customers AS (SELECT 1 AS id) SELECT * FROM active_customers
SELECT active_customers FROM active_customers
SELECT row_to_json(a) FROM active_customers a
SELECT a.* FROM active_customers a ORDER BY id
SELECT nosuch FROM active_customers
SELECT id FROM active_customers FOR UPDATE
SELECT id FROM unveiled
SELECT id FROM depot.active_customers
UPDATE active_customers SET name = name
DELETE FROM active_customers WHERE id = 1000000
{ a view in a transaction sees its rows
BEGIN
UPDATE customers SET active = true WHERE id IN (6, 7)
SELECT id FROM active_customers ORDER BY id
SELECT * FROM rich ORDER BY id
ROLLBACK
}
## joins on anything
SELECT c.id, l.what FROM customers c JOIN lines l ON l.number = c.id ORDER BY 1, 2
SELECT c.name, w.word, w.n FROM customers c JOIN words w ON w.word = c.name ORDER BY 1, 2, 3
SELECT c.name, w.word FROM customers c LEFT JOIN words w ON w.lang = c.country ORDER BY c.id, w.word
SELECT c.id, o.number FROM customers c RIGHT JOIN orders o ON o.qty = c.id ORDER BY o.customer_id, o.number, c.id
SELECT c.id, s.k, s.v FROM customers c FULL JOIN small s ON s.w = c.id ORDER BY c.id, s.k, s.v, s.w
SELECT a.id, b.id FROM customers a JOIN customers b ON a.country = b.country AND a.id < b.id ORDER BY 1, 2
SELECT a.id, b.id FROM customers a, customers b WHERE a.balance > b.balance AND a.id IN (1, 2, 3) AND b.id IN (3, 4, 5, 6) ORDER BY 1, 2
SELECT count(*) FROM customers, orders
SELECT count(*) FROM customers CROSS JOIN words
SELECT c.id, o.number FROM customers c JOIN orders o USING (customer_id)
SELECT * FROM orders JOIN lines USING (customer_id, number) ORDER BY customer_id, number, pos
SELECT * FROM orders NATURAL JOIN lines ORDER BY customer_id, number, pos
SELECT o.*, c.name FROM orders o JOIN customers c ON c.id = o.customer_id + 1 ORDER BY o.customer_id, o.number
SELECT c.id, k.name FROM customers c JOIN countries k ON k.code = c.country JOIN words w ON w.lang = k.code ORDER BY 1, 2
SELECT s.key, c.id FROM customers c JOIN settings s ON s.n = c.id ORDER BY 1, 2
SELECT l.msg, c.id FROM customers c LEFT JOIN logs l ON l.level = c.id ORDER BY c.id, l.msg
SELECT s.key, l.msg, c.id FROM customers c, settings s, logs l
SELECT x.a, y.b FROM customers AS x (a, b), orders AS y (a, b) WHERE x.a = y.b ORDER BY 1, 2
SELECT orders.number, customers.name FROM orders, customers WHERE orders.qty = customers.id ORDER BY orders.customer_id, orders.number
SELECT e.payload, c.name FROM depot.events e JOIN customers c ON c.id <> e.customer_id ORDER BY e.customer_id, c.id, e.payload
SELECT "Upper"."select", c."Mixed Case" FROM "Upper" JOIN customers c ON c."Mixed Case" = "Upper".id ORDER BY 1, 2
SELECT u."Id", u."from" FROM "Upper" u, small s WHERE u.id = s.k ORDER BY 1, 2
SELECT d.label, m.note FROM devices d FULL JOIN metrics m ON d.label = m.note ORDER BY d.id, m.tenant, m.day_no
SELECT c.id FROM customers c JOIN orders o ON true WHERE o.amount IS NOT NULL AND c.id = 2 ORDER BY 1
## what is pushed down does not change the answer
SELECT c.id, w.word FROM customers c LEFT JOIN words w ON w.n = c.id WHERE w.word IS NULL ORDER BY 1
SELECT c.id, w.word FROM customers c LEFT JOIN words w ON w.n = c.id AND w.lang = 'de' ORDER BY 1, 2
SELECT c.id, w.word FROM customers c LEFT JOIN words w ON w.n = c.id AND c.id > 3 ORDER BY 1, 2
SELECT c.id, w.word FROM customers c LEFT JOIN words w ON w.n = c.id WHERE w.n = 1 ORDER BY 1, 2
SELECT c.id, w.word FROM customers c FULL JOIN words w ON w.n = c.id WHERE c.id > 2 ORDER BY 1, 2
SELECT c.id, w.word FROM customers c RIGHT JOIN words w ON w.n = c.id AND c.id = 2 ORDER BY 2, 1
SELECT c.id FROM customers c WHERE c.id BETWEEN 2 AND 5 AND NOT EXISTS (SELECT 1 FROM words w WHERE w.n = c.id) ORDER BY 1
SELECT c.id FROM customers c WHERE c.balance >= -3.25 AND c.name <> 'b' AND c.id NOT IN (SELECT n FROM words WHERE n IS NOT NULL) ORDER BY 1
SELECT c.id FROM customers c JOIN words w ON w.n = c.id WHERE c.country = 'DE' OR w.lang = 'x' ORDER BY 1
SELECT c.id FROM customers c JOIN small s ON s.w = c.id WHERE c.active AND c.born > '1980-01-01' ORDER BY 1
SELECT c.id FROM customers c JOIN small s ON s.w = c.id WHERE c.mood = 'ok' OR c.mood > 'sad' ORDER BY 1
SELECT c.id FROM customers c, words w WHERE c.note = 'x  ' AND w.word = 'a' ORDER BY 1
SELECT c.id, w.word FROM customers c, words w WHERE c.id = 2 AND w.word = 'a'
SELECT c.id, d.id FROM customers c, customers d WHERE c.id = 1 AND d.id = 2
SELECT c.id, o.customer_id FROM customers c LEFT JOIN orders o ON c.id = 2 AND o.customer_id = 3 ORDER BY 1, 2
SELECT c.code, s.k FROM codes c, small s WHERE c.code = 'a' AND s.k = 1 ORDER BY 1, 2
SELECT * FROM (SELECT customer_id, sum(qty) AS qty FROM orders GROUP BY customer_id) x WHERE qty > 2 ORDER BY 1
SELECT * FROM (SELECT country, max(balance) AS balance, count(*) AS n FROM customers GROUP BY country) x WHERE balance > 0 AND n > 0 ORDER BY 1
SELECT * FROM (SELECT id, rank() OVER (ORDER BY id) AS r FROM customers) x WHERE id IN (3, 4, 5) ORDER BY 1
SELECT * FROM (SELECT id AS k, -id AS id FROM customers) x JOIN words w ON w.n = k WHERE id < -2 ORDER BY 1, w.word
WITH x AS (SELECT id, count(*) OVER () AS n FROM customers) SELECT * FROM x WHERE id = 2
WITH x AS (SELECT id, name FROM customers) SELECT a.id, b.id FROM x a JOIN x b ON a.name = b.name WHERE a.id = 1 ORDER BY 1, 2
## subqueries
SELECT id FROM customers WHERE id IN (SELECT number FROM orders) ORDER BY 1
SELECT id FROM customers WHERE id NOT IN (SELECT n FROM words WHERE n IS NOT NULL) ORDER BY 1
SELECT id FROM customers WHERE id NOT IN (SELECT n FROM words) ORDER BY 1
SELECT id, (SELECT count(*) FROM orders o WHERE o.amount > c.balance) FROM customers c ORDER BY 1
SELECT id, (SELECT max(o.amount) FROM orders o WHERE o.customer_id = c.id) AS most FROM customers c ORDER BY most DESC NULLS LAST, id
SELECT id FROM customers c WHERE EXISTS (SELECT FROM lines l WHERE l.weight > c.balance) ORDER BY 1
SELECT id FROM customers c WHERE balance > ALL (SELECT amount FROM orders o WHERE o.customer_id <> c.id AND amount IS NOT NULL) ORDER BY 1
SELECT id FROM customers c WHERE balance = ANY (SELECT amount FROM orders) ORDER BY 1
SELECT id FROM customers WHERE balance = (SELECT max(balance) FROM customers) ORDER BY 1
SELECT id FROM customers WHERE balance = (SELECT balance FROM customers)
SELECT c.id, x.number, x.amount FROM customers c, LATERAL (SELECT number, amount FROM orders o WHERE o.customer_id = c.id ORDER BY amount DESC NULLS LAST, number LIMIT 1) x ORDER BY 1
SELECT c.id, x.n FROM customers c LEFT JOIN LATERAL (SELECT count(*) AS n FROM words w WHERE w.n < c.id) x ON true ORDER BY 1
SELECT * FROM (SELECT country, count(*) AS n FROM customers GROUP BY country) x WHERE n > 1 ORDER BY 1
SELECT x.country, sum(o.amount) FROM (SELECT id, country FROM customers WHERE active) x JOIN orders o ON o.customer_id = x.id GROUP BY 1 ORDER BY 1
SELECT ARRAY(SELECT id FROM customers ORDER BY id DESC)
SELECT (SELECT name FROM countries WHERE code = c.country), count(*) FROM customers c GROUP BY 1 ORDER BY 1
SELECT 1 WHERE EXISTS (SELECT 1 FROM customers WHERE id = 1) AND NOT EXISTS (SELECT 1 FROM orders WHERE customer_id = 1000)
SELECT key, (SELECT count(*) FROM customers) FROM settings ORDER BY 1
SELECT msg, (SELECT max(id) FROM customers) FROM logs ORDER BY id
SELECT code, (SELECT count(*) FROM customers c WHERE c.country = k.code) FROM countries k ORDER BY 1
## WITH
WITH o AS (SELECT customer_id, sum(amount) AS s FROM orders GROUP BY 1) SELECT c.id, o.s FROM customers c LEFT JOIN o ON o.customer_id = c.id ORDER BY 1
WITH customers AS (SELECT 1 AS id) SELECT c.id, o.number FROM customers c, orders o WHERE o.qty = c.id ORDER BY 2
WITH o AS MATERIALIZED (SELECT * FROM orders WHERE qty > 1) SELECT count(*), min(number) FROM o
WITH RECURSIVE r(id) AS (SELECT min(id) FROM customers UNION ALL SELECT (SELECT min(c.id) FROM customers c WHERE c.id > r.id) FROM r WHERE r.id IS NOT NULL) SELECT * FROM r ORDER BY 1
WITH RECURSIVE r(n, path) AS (SELECT id, ARRAY[id] FROM customers WHERE id = 1 UNION ALL SELECT o.number, path || o.number::bigint FROM r JOIN orders o ON o.customer_id = r.n WHERE cardinality(path) < 4) SELECT * FROM r ORDER BY path
WITH a AS (SELECT id FROM customers), b AS (SELECT customer_id FROM orders) SELECT * FROM a EXCEPT SELECT * FROM b ORDER BY 1
WITH d AS (DELETE FROM orders WHERE customer_id = 1 RETURNING *) SELECT count(*) FROM d, customers
## set operations
SELECT id FROM customers UNION SELECT customer_id FROM orders ORDER BY 1
SELECT id FROM customers UNION ALL SELECT customer_id FROM orders ORDER BY 1
SELECT id FROM customers INTERSECT SELECT customer_id FROM orders ORDER BY 1
SELECT id FROM customers EXCEPT SELECT customer_id FROM orders ORDER BY 1
SELECT customer_id FROM orders INTERSECT ALL SELECT customer_id FROM lines ORDER BY 1
SELECT customer_id FROM orders EXCEPT ALL SELECT customer_id FROM lines ORDER BY 1
(SELECT name FROM customers ORDER BY id LIMIT 2) UNION ALL (SELECT word FROM words ORDER BY word DESC LIMIT 2) ORDER BY 1
SELECT name, 'c' FROM customers UNION SELECT word, 'w' FROM words ORDER BY 1, 2
SELECT id, NULL FROM customers UNION SELECT 1, 2 ORDER BY 1, 2
SELECT count(*) FROM (SELECT id FROM customers UNION SELECT n FROM words) x
VALUES (1), ((SELECT max(id) FROM customers)) ORDER BY 1
## windows
SELECT id, row_number() OVER (ORDER BY balance DESC NULLS LAST, id) FROM customers ORDER BY id
SELECT customer_id, number, sum(amount) OVER (PARTITION BY qty ORDER BY customer_id, number) FROM orders ORDER BY 1, 2
SELECT id, rank() OVER w, dense_rank() OVER w, percent_rank() OVER w, ntile(3) OVER (ORDER BY id) FROM customers WINDOW w AS (ORDER BY country) ORDER BY id
SELECT id, lag(name) OVER (ORDER BY id), lead(name, 2, 'none') OVER (ORDER BY id), first_value(id) OVER (PARTITION BY active ORDER BY id) FROM customers ORDER BY id
SELECT id, avg(balance) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) FROM customers ORDER BY id
SELECT id, count(*) OVER (), sum(balance) OVER (ORDER BY balance RANGE BETWEEN 5 PRECEDING AND CURRENT ROW) FROM customers ORDER BY id
SELECT country, sum(count(*)) OVER (ORDER BY country NULLS FIRST) FROM customers GROUP BY country ORDER BY 1
## grouping
SELECT country, active, count(*), sum(balance) FROM customers GROUP BY GROUPING SETS ((country), (active), ()) ORDER BY 1, 2, 3
SELECT country, active, count(*), grouping(country, active) FROM customers GROUP BY ROLLUP (country, active) ORDER BY 1, 2, 4
SELECT country, active, count(*) FROM customers GROUP BY CUBE (country, active) ORDER BY 1, 2, 3
SELECT country, count(*) FROM customers GROUP BY country HAVING count(*) > 1 ORDER BY 1
SELECT country, avg(balance), stddev(balance), variance(balance) FROM customers GROUP BY country ORDER BY 1
SELECT id, name, count(*) FROM customers GROUP BY id ORDER BY 1
SELECT c.id, c.name, c.note, count(o.number) FROM customers c LEFT JOIN orders o ON o.customer_id = c.id GROUP BY c.id ORDER BY 1
SELECT o.customer_id, o.number, o.item, o.total, max(l.pos) FROM orders o LEFT JOIN lines l USING (customer_id, number) GROUP BY o.customer_id, o.number ORDER BY 1, 2
SELECT id, name, count(*) FROM customers GROUP BY name
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY balance), percentile_disc(0.25) WITHIN GROUP (ORDER BY balance), mode() WITHIN GROUP (ORDER BY country) FROM customers
SELECT string_agg(name, ',' ORDER BY id), array_agg(id ORDER BY id DESC), json_agg(name ORDER BY id) FROM customers
SELECT count(DISTINCT country), count(DISTINCT (country, active)), sum(DISTINCT balance) FROM customers
SELECT count(*) FILTER (WHERE active), avg(balance) FILTER (WHERE country = 'DE'), sum(balance) / count(*) FROM customers
SELECT sum(amount) + 1, round(avg(amount), 2), max(amount) - min(amount) FROM orders
SELECT avg(v), sum(v), count(v) FROM hollow WHERE id < 0
SELECT country, sum(amount) FROM customers JOIN orders ON number = id GROUP BY country ORDER BY 1
SELECT corr(qty, amount), regr_slope(qty, amount) FROM orders WHERE customer_id < 0
SELECT bool_and(active), bool_or(active), every(active), bit_and(id), bit_or(id) FROM customers
SELECT my_sum(qty) FROM orders
## distinct and order
SELECT DISTINCT ON (country) country, id FROM customers ORDER BY country, id
SELECT DISTINCT ON (country) country, id, name FROM customers ORDER BY country NULLS FIRST, balance DESC NULLS LAST, id
SELECT DISTINCT name FROM customers ORDER BY name
SELECT DISTINCT country, active FROM customers ORDER BY 1, 2
SELECT name FROM customers ORDER BY name COLLATE "C"
SELECT name, id FROM customers ORDER BY name DESC NULLS LAST, id DESC
SELECT word FROM words ORDER BY word
SELECT word FROM words ORDER BY lower(word), word COLLATE "C"
SELECT name FROM customers ORDER BY length(name), name, id LIMIT 3 OFFSET 1
SELECT id, balance FROM customers ORDER BY balance DESC NULLS LAST, id FETCH FIRST 2 ROWS WITH TIES
SELECT id FROM customers ORDER BY (SELECT count(*) FROM orders o WHERE o.customer_id = customers.id) DESC, id
SELECT mood, id FROM customers ORDER BY mood, id
SELECT tags, id FROM customers ORDER BY tags, id
SELECT info FROM devices ORDER BY info, id
SELECT price FROM orders ORDER BY price, customer_id, number
SELECT max(name), min(word) FROM customers, words
SELECT id FROM customers WHERE balance > (SELECT avg(balance) FROM customers) ORDER BY id LIMIT 2
SELECT code FROM codes ORDER BY code, v
SELECT amount FROM amounts ORDER BY amount, v
SELECT at FROM moments ORDER BY at, v
SELECT f, count(*) FROM flags GROUP BY f ORDER BY f
## whole rows and places
[loose] SELECT c FROM customers c, words w
SELECT row_to_json(c) FROM customers c JOIN words w ON w.n = c.id
[loose] SELECT c.ctid FROM customers c, words w
[loose] SELECT c.tableoid FROM customers c, words w
SELECT count(c.*) FROM customers c, words w
SELECT (c).name FROM customers c, words w
SELECT c IS NULL FROM customers c LEFT JOIN words w ON w.n = c.id
SELECT public.customers.id FROM customers, words
SELECT name(c) FROM customers c, words w
SELECT c.id FROM ONLY customers c, words w
## parameters
SELECT c.id, w.word FROM customers c JOIN words w ON w.n = c.id WHERE c.id > $1 AND w.lang = $2 ORDER BY 1, 2 <- 0:int8 | de:text
SELECT c.id, w.word FROM customers c JOIN words w ON w.n < c.id WHERE c.id > $1 AND w.n IN ($2, $3) ORDER BY 1, 2 <- 0 | 1 | 2
SELECT c.id, $1::text FROM customers c JOIN words w ON w.n < c.id WHERE c.balance BETWEEN $2 AND $3 ORDER BY 1 <- x | -100 | 100
SELECT id, balance + $1 FROM customers WHERE balance > (SELECT avg(amount) FROM orders WHERE qty = $2) AND id <> $3 ORDER BY id <- 1.5 | 1 | 3
SELECT id FROM customers WHERE mood = $1 AND id IN (SELECT number FROM orders) ORDER BY id <- ok
SELECT id FROM customers c WHERE born = $1 AND EXISTS (SELECT 1 FROM words WHERE n = c.id) ORDER BY id <- 1990-01-01:date
SELECT row_number() OVER (ORDER BY id), id FROM customers WHERE id = $1 OR id = $2 ORDER BY id <- 1:int8 | 2:int8
SELECT country, count(*) FROM customers WHERE id > $1 GROUP BY country ORDER BY 1 <- \N:int8
SELECT customer_id, sum(amount) FROM orders WHERE price < $1 GROUP BY 1 ORDER BY 1 <- 1e300:float8
SELECT w.word FROM words w, customers c WHERE w.word = $1 AND c.name = $1 <- a
SELECT id FROM customers c WHERE id > $1 AND (SELECT count(*) FROM orders) > $1 ORDER BY id <- 1
## errors are PostgreSQL's
SELECT c.nothing FROM customers c, words w
SELECT c.id FROM customers c JOIN words w ON w.word = c.id
SELECT count(*) FROM customers, words WHERE 1 / (customers.id - customers.id) = 1
SELECT id, name FROM customers GROUP BY country
SELECT c.id FROM customers c, nowhere n
SELECT sum(name) FROM customers
SELECT customers.id FROM customers c, words
## in transactions
{ own rows are seen, and the gather leaves nothing behind
BEGIN
INSERT INTO customers (id, name, country) VALUES (9001, 'mine', 'DE'), (9002, 'mine', 'FR'), (9003, 'mine', NULL)
SELECT a.id, b.id FROM customers a JOIN customers b ON a.name = b.name AND a.id < b.id WHERE a.id > 9000 ORDER BY 1, 2
SELECT country, count(*) FROM customers WHERE id > 9000 GROUP BY country ORDER BY 1
SELECT count(*) FROM pg_class WHERE relname LIKE 'pgherd\_g%'
UPDATE customers SET name = 'yours' WHERE id = 9002
SELECT a.id, b.id FROM customers a JOIN customers b ON a.name = b.name AND a.id < b.id WHERE a.id > 9000 ORDER BY 1, 2
ROLLBACK
SELECT name, count(*) OVER () FROM customers WHERE id > 9000 ORDER BY 1
}
{ a gather, then writes on several shards, are committed together
BEGIN
SELECT id, rank() OVER (ORDER BY country, id) FROM customers ORDER BY id
INSERT INTO hollow (id, v) VALUES (1, 1), (2, 2), (3, 3), (4, 4), (5, 5)
SELECT v, (SELECT max(v) FROM hollow) FROM hollow ORDER BY v
COMMIT
SELECT id, sum(v) OVER (ORDER BY id) FROM hollow ORDER BY id
DELETE FROM hollow
}
{ an error in a gather fails the transaction, and a savepoint takes it back
BEGIN
SAVEPOINT a
SELECT 1 / (count(*) - count(*)) FROM customers, words
SELECT 1
ROLLBACK TO a
SELECT count(*) FROM customers c JOIN words w ON w.n <= c.id
SAVEPOINT b
SELECT c.id, rank() OVER (ORDER BY c.id) FROM customers c ORDER BY 1
ROLLBACK TO b
SELECT c.id, rank() OVER (ORDER BY c.id) FROM customers c ORDER BY 1
COMMIT
}
{ strings of several statements
[simple] SELECT count(*) FROM customers, words; SELECT max(c.id) FROM customers c, words w; SELECT 1
[simple] SELECT count(*) FROM customers, words; SELECT 1/0
[simple] BEGIN; SELECT count(*) FROM customers, words; COMMIT; SELECT count(*) FROM words, orders
}
{ read only
BEGIN READ ONLY
SELECT count(*) FROM customers, words
ROLLBACK
SET default_transaction_read_only = on
SELECT count(*) FROM customers, words
RESET default_transaction_read_only
BEGIN ISOLATION LEVEL REPEATABLE READ
SELECT count(*) FROM customers, words
ROLLBACK
}
{ settings hold there as well
SET TIME ZONE 'Asia/Tokyo'
SET datestyle = 'SQL, DMY'
SELECT o.placed, w.word FROM orders o JOIN words w ON w.n = o.qty ORDER BY o.customer_id, o.number, w.word
SELECT o.placed, c.id FROM orders o, customers c WHERE o.placed > '01/02/2020' AND c.id = 1 ORDER BY o.customer_id, o.number
SET extra_float_digits = 0
SELECT price, rank() OVER (ORDER BY price) FROM orders ORDER BY price, customer_id
RESET ALL
}
