## over all shards
SELECT * FROM customers
SELECT id, name, upper(name), balance * 2, coalesce(note, '-'), "Mixed Case" FROM customers
SELECT customers.* FROM customers
SELECT c.*, c.id FROM customers c WHERE active
[loose] SELECT c FROM customers c
[loose] SELECT customers FROM customers
[loose] SELECT c FROM customers c WHERE id = 1
SELECT (c).name FROM customers c
SELECT (c).* FROM customers c
SELECT row_to_json(c) FROM customers c
SELECT to_jsonb(c) FROM customers c WHERE id = 1
SELECT ROW(id, name) FROM customers
SELECT mood FROM customers
SELECT mood FROM customers WHERE mood > 'sad'
SELECT mood, 'ok'::mood FROM customers WHERE id = 1
SELECT id FROM customers WHERE mood = 'ok'
SELECT * FROM hollow
SELECT * FROM hollow WHERE id = 1
SELECT * FROM hollow WHERE v = 1
SELECT * FROM orders WHERE amount > 5
SELECT * FROM orders WHERE price = 'NaN'
SELECT * FROM orders WHERE placed < '2024-01-02'
[loose] SELECT * FROM orders WHERE placed < now()
[loose] SELECT * FROM orders WHERE placed < 'now'
[loose] SELECT * FROM orders WHERE placed < 'now'::text::timestamptz
SELECT * FROM orders WHERE placed < 'today'::date
[loose] SELECT * FROM orders WHERE placed < current_timestamp
[loose] SELECT * FROM orders WHERE placed > localtimestamp
[loose] SELECT * FROM orders WHERE item = 'now'
[loose] SELECT * FROM orders WHERE item = 'now' || ''
SELECT * FROM customers WHERE name = current_user
SELECT * FROM customers WHERE current_database() = 'h4'
[loose] SELECT id, random() < 2 FROM customers
[loose] SELECT id, clock_timestamp() > '2000-01-01' FROM customers
SELECT id, version() = version() FROM customers
SELECT id, pg_backend_pid() > 0 FROM customers
[loose] SELECT pg_typeof(id), id FROM customers
[loose] SELECT pg_typeof(mood), id FROM customers
[loose] SELECT id, 'customers'::regclass FROM customers
[loose] SELECT id, 'customers'::regclass::oid = 'customers'::regclass::oid FROM customers
[loose] SELECT ctid FROM customers
[loose] SELECT tableoid FROM customers
[loose] SELECT tableoid::regclass FROM customers
[loose] SELECT xmin FROM customers
[loose] SELECT c.tableoid FROM customers c
[loose] SELECT tableoid::regclass FROM customers WHERE id = 1
[loose] SELECT id FROM customers WHERE ctid IS NULL
SELECT * FROM customers TABLESAMPLE SYSTEM (100)
SELECT * FROM customers TABLESAMPLE BERNOULLI (100)
SELECT * FROM customers TABLESAMPLE SYSTEM (100) WHERE id = 1
SELECT id, generate_series(1, 2) FROM customers
SELECT id, unnest(tags) FROM customers
SELECT id, regexp_split_to_table(name, 'a') FROM customers
SELECT twice("Mixed Case") FROM customers
SELECT id FROM customers WHERE twice("Mixed Case") = 10
## aggregates
SELECT count(*) FROM customers
SELECT count(*) FROM hollow
SELECT count(*), sum(v), min(v), max(v) FROM hollow
SELECT count(*) AS n, count(name), sum(balance), min(born), max(balance) FROM customers
SELECT COUNT(*) "N", Sum(balance) FROM customers
SELECT count(1) FROM customers
SELECT count(NULL) FROM customers
SELECT sum(1) FROM customers
SELECT sum(1) FROM hollow
SELECT sum(NULL::int) FROM customers
SELECT count(*) FROM customers WHERE id = 1
SELECT count(*) FROM customers WHERE id IN (1, 2)
SELECT count(*) FROM customers WHERE false
SELECT count(*) FROM customers WHERE name = 'Ada'
SELECT sum(amount), sum(qty), sum(number), sum(customer_id) FROM orders WHERE customer_id < 1000
SELECT sum(id) FROM customers
SELECT sum(w) FROM small
SELECT sum(k) FROM small
# float sums depend on the order of the rows
SELECT sum(price) FROM orders WHERE price < 100
SELECT sum(price) FROM orders WHERE price < 100
SELECT sum(weight) FROM lines
SELECT sum(balance) FILTER (WHERE active) FROM customers
SELECT count(*) FILTER (WHERE active), count(*) FILTER (WHERE NOT active) FROM customers
SELECT count(*) FILTER (WHERE id = 1) FROM customers
SELECT min(amount), max(amount) FROM orders
SELECT min(price), max(price) FROM orders
SELECT min(placed), max(placed) FROM orders
SELECT min(item), max(item) FROM orders
SELECT max(name) FROM customers
SELECT min(word), max(word) FROM words
SELECT min(word COLLATE "C") FROM words
SELECT max(word) FROM words WHERE word = 'a'
SELECT min(id), max(id) FROM customers
SELECT min(k), max(k) FROM small
SELECT min(qty), max(qty) FROM orders
SELECT min(born), max(born) FROM customers
SELECT min(seen), max(seen) FROM devices
SELECT max(mood) FROM customers
SELECT max(tags) FROM customers
SELECT max(active::text) FROM customers
SELECT max(weight), min(weight) FROM lines
SELECT max(interval '1 day' * number) FROM orders
SELECT sum(interval '1 day' * number) FROM orders
SELECT sum(amount::money) FROM orders
SELECT max(code) FROM codes
SELECT max(name) FROM names
SELECT sum(amount), min(amount), max(amount) FROM amounts
SELECT max(1) FROM customers
SELECT max('x') FROM customers
SELECT max(NULL) FROM customers
SELECT min(1.0), min(2.00) FROM customers
SELECT sum(balance * 1.000) FROM customers
SELECT sum(amount / 3) FROM orders
SELECT sum('NaN'::numeric) FROM customers
SELECT sum('Infinity'::numeric * sign(id)::numeric) FROM customers WHERE id <> 0
SELECT sum(DISTINCT balance) FROM customers
SELECT count(DISTINCT country) FROM customers
SELECT min(DISTINCT balance) FROM customers
SELECT count(ALL country) FROM customers
SELECT avg(balance) FROM customers
SELECT count(*) + 1 FROM customers
SELECT count(*)::int FROM customers
SELECT (count(*)) FROM customers
SELECT -count(*) FROM customers
SELECT count(*), 1 FROM customers
[loose] SELECT count(*), now() FROM customers
SELECT sum(count(*)) FROM customers
SELECT count(*) FROM customers HAVING count(*) > 3
SELECT count(*) FROM customers HAVING true
SELECT count(*) FROM customers GROUP BY country
SELECT count(*) FROM customers GROUP BY ()
SELECT country FROM customers GROUP BY country
SELECT count(*) FROM customers ORDER BY count(*)
SELECT count(*) FROM customers ORDER BY 1
SELECT count(*) FROM customers LIMIT 0
SELECT count(*) FROM customers LIMIT 1
SELECT count(*) FROM customers OFFSET 1
SELECT count(*) FROM customers FETCH FIRST 1 ROW ONLY
SELECT DISTINCT count(*) FROM customers
SELECT count(*) OVER () FROM customers
SELECT count(*) FROM customers FOR UPDATE
SELECT count(*) FROM customers, countries
SELECT count(*) FROM customers c JOIN countries k ON k.code = c.country
SELECT count(*) FROM customers c LEFT JOIN countries k ON k.code = c.country
SELECT count(*) FROM countries k LEFT JOIN customers c ON k.code = c.country
SELECT count(*) FROM customers c JOIN orders o ON o.customer_id = c.id
SELECT count(*) FROM customers, orders
SELECT count(*) FROM customers, generate_series(1, 2)
SELECT count(*) FROM customers, logs
SELECT count(*), (SELECT 1) FROM customers
SELECT count(*) FROM customers WHERE id IN (SELECT 1)
SELECT count((SELECT 1)) FROM customers
SELECT (SELECT count(*) FROM customers)
SELECT * FROM (SELECT count(*) FROM customers) x
WITH x AS (SELECT count(*) FROM customers) SELECT * FROM x
SELECT count(*) FROM customers UNION ALL SELECT count(*) FROM orders
SELECT EXISTS (SELECT FROM customers)
SELECT EXISTS (SELECT FROM customers WHERE id = 1)
SELECT 1 WHERE EXISTS (SELECT FROM customers WHERE id = 1)
[loose] SELECT array_agg(id) FROM customers
[loose] SELECT string_agg(name, ',') FROM customers
SELECT bool_and(active), bool_or(active), every(active) FROM customers
SELECT bit_and(id), bit_or(id) FROM customers
SELECT stddev(balance) FROM customers
SELECT my_sum("Mixed Case") FROM customers
SELECT my_sum("Mixed Case") FROM customers WHERE id = 1
SELECT public.my_sum("Mixed Case") FROM customers
SELECT pg_catalog.count(*) FROM customers
SELECT "count"(*) FROM customers
SELECT count (*) FROM customers
SELECT count(*) count FROM customers
SELECT count(customers) FROM customers
[loose] SELECT count(c.*) FROM customers c
SELECT count(*) FROM ONLY customers
SELECT count(DISTINCT (country, active)) FROM customers
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY balance) FROM customers
SELECT mode() WITHIN GROUP (ORDER BY country) FROM customers
[loose] SELECT json_agg(id) FROM customers
SELECT grouping(country), count(*) FROM customers GROUP BY country
SELECT country, count(*) FROM customers GROUP BY ROLLUP (country)
SELECT country, count(*) FROM customers GROUP BY GROUPING SETS ((country), ())
SELECT sum(amount ORDER BY number) FROM orders
SELECT count(*) FROM countries
SELECT sum(rank), max(name) FROM countries
SELECT rank, count(*) FROM countries GROUP BY rank ORDER BY rank
SELECT count(*), max(msg) FROM logs
## order, limit, distinct, windows, sets
SELECT id FROM customers ORDER BY id
SELECT id FROM customers ORDER BY 1 DESC
[loose] SELECT id FROM customers LIMIT 3
SELECT id FROM customers LIMIT ALL
SELECT id FROM customers LIMIT NULL
SELECT id FROM customers OFFSET 0
SELECT id FROM customers ORDER BY id LIMIT 1
[loose] SELECT id FROM customers FETCH FIRST 2 ROWS ONLY
[loose] SELECT id FROM customers WHERE id IN (1, 2) LIMIT 1
SELECT id FROM customers WHERE id = 1 LIMIT 1
SELECT id FROM customers WHERE id = 1 ORDER BY id FETCH FIRST 1 ROW WITH TIES
SELECT DISTINCT country FROM customers
SELECT DISTINCT ON (country) country, id FROM customers ORDER BY country, id
SELECT DISTINCT id FROM customers WHERE id = 1
SELECT rank() OVER (ORDER BY id) FROM customers
SELECT id, sum(balance) OVER (PARTITION BY country) FROM customers
SELECT id, sum(balance) OVER (PARTITION BY id) FROM customers
SELECT id, first_value(id) OVER w FROM customers WINDOW w AS (ORDER BY id)
SELECT id FROM customers UNION ALL SELECT customer_id FROM orders
SELECT id FROM customers UNION SELECT id FROM customers
SELECT id FROM customers UNION ALL SELECT 1
SELECT 1 UNION ALL SELECT id FROM customers
SELECT code FROM countries UNION ALL SELECT code FROM countries
SELECT code FROM countries UNION SELECT name FROM customers
SELECT id FROM customers EXCEPT SELECT customer_id FROM orders
SELECT id FROM customers INTERSECT SELECT customer_id FROM orders
SELECT code FROM countries EXCEPT SELECT 'DE' ORDER BY 1
SELECT * FROM countries ORDER BY code LIMIT 2 OFFSET 1
SELECT DISTINCT rank FROM countries ORDER BY 1
SELECT code, row_number() OVER (ORDER BY code) FROM countries ORDER BY 2
WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT * FROM t ORDER BY n
WITH RECURSIVE t AS (SELECT id FROM customers WHERE id = 1 UNION ALL SELECT id + 1 FROM t WHERE id < 3) SELECT * FROM t ORDER BY id
WITH t AS (SELECT 1) SELECT id FROM customers
WITH t AS (SELECT id FROM customers) SELECT 1
WITH t AS (DELETE FROM hollow RETURNING *) SELECT count(*) FROM t
WITH t AS (UPDATE customers SET note = 'w' WHERE id = 1 RETURNING *) SELECT id, note FROM t
WITH t AS (UPDATE customers SET note = 'w' RETURNING *) SELECT id, note FROM t
WITH t AS (INSERT INTO logs (msg) VALUES ('cte') RETURNING msg) SELECT * FROM t
WITH t AS (INSERT INTO hollow VALUES (1, 1) RETURNING id) SELECT * FROM t
WITH t AS (DELETE FROM countries WHERE code = 'XX' RETURNING *) SELECT * FROM t
SELECT * FROM customers c WHERE EXISTS (SELECT FROM orders o WHERE o.customer_id = c.id)
SELECT * FROM customers WHERE country IN (SELECT code FROM countries WHERE rank = 3)
SELECT * FROM customers WHERE id > ALL (SELECT customer_id FROM orders)
SELECT name, (SELECT name FROM countries WHERE code = country) FROM customers
SELECT name, ARRAY(SELECT code FROM countries ORDER BY 1) FROM customers WHERE id = 1
SELECT * FROM customers, LATERAL (SELECT 1) x
SELECT * FROM customers, LATERAL (SELECT count(*) FROM orders o WHERE o.customer_id = customers.id) x
SELECT * FROM countries, LATERAL (SELECT count(*) FROM customers) x
SELECT * FROM customers NATURAL JOIN orders
SELECT * FROM customers CROSS JOIN (SELECT 1) x
SELECT * FROM customers JOIN countries ON true WHERE customers.id = 1 ORDER BY code
SELECT * FROM orders o LEFT JOIN lines l USING (customer_id, number)
SELECT c.name FROM customers c, countries k WHERE c.country = k.code AND k.name = 'Germany'
SELECT c.id FROM customers c WHERE c.country = (SELECT code FROM countries WHERE name = 'France')
SELECT c.id, k.code FROM customers c INNER JOIN countries k ON c.id = 1 AND k.code = 'DE'
SELECT c.id, k.code FROM countries k INNER JOIN customers c ON c.id = 1
## explain
EXPLAIN (COSTS OFF) SELECT * FROM logs WHERE id = 1
EXPLAIN (COSTS OFF) SELECT 1
[simple] EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) INSERT INTO logs (msg) VALUES ('explained')
EXPLAIN (COSTS OFF) SELECT * FROM settings
[loose] EXPLAIN SELECT * FROM customers
[loose] EXPLAIN SELECT count(*) FROM customers
[loose] EXPLAIN ANALYZE DELETE FROM customers
[loose] EXPLAIN (ANALYZE, VERBOSE) UPDATE customers SET name = 'x' WHERE id IN (1, 2)
EXPLAIN nonsense
[loose] EXPLAIN EXPLAIN SELECT 1
