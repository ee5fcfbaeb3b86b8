## parameters
SELECT * FROM orders WHERE customer_id = $1 <- 1:int8
SELECT * FROM orders WHERE customer_id = $1 <- 1:int4
SELECT * FROM orders WHERE customer_id = $1 <- 1:int2
SELECT * FROM orders WHERE customer_id = $1 <- 1:numeric
SELECT * FROM orders WHERE customer_id = $1 <- 1:text
SELECT * FROM orders WHERE customer_id = $1 <- 1:float8
SELECT * FROM orders WHERE customer_id = $1 <- 1:oid
SELECT * FROM orders WHERE customer_id = $1 <- 1:unknown
SELECT * FROM orders WHERE customer_id = $1 <- \N:int8
SELECT * FROM orders WHERE customer_id = $1 <- \N
SELECT * FROM orders WHERE customer_id = $1 <- -1
SELECT * FROM orders WHERE customer_id = $1 <-  1 
SELECT * FROM orders WHERE customer_id = $1 <- +1
SELECT * FROM orders WHERE customer_id = $1 <- x
SELECT * FROM orders WHERE customer_id = $1 <- 99999999999999999999
SELECT * FROM orders WHERE $1 = customer_id <- 1:int8
SELECT * FROM orders WHERE customer_id = $1::bigint <- 1:int8
SELECT * FROM orders WHERE customer_id = $1::int <- 1:int4
SELECT * FROM orders WHERE customer_id = $1::int <- 1:int8
SELECT * FROM orders WHERE customer_id = $1::int <- 4294967297
SELECT * FROM orders WHERE customer_id = $1::smallint <- 1:int2
SELECT * FROM orders WHERE customer_id = $1::text::bigint <- 1:text
SELECT * FROM orders WHERE customer_id = $1::numeric <- 1:numeric
SELECT * FROM orders WHERE customer_id = CAST($1 AS bigint) <- 1:int8
SELECT * FROM orders WHERE customer_id = CAST($1 AS text) <- 1:text
SELECT * FROM orders WHERE customer_id = $1 + 0 <- 1:int8
SELECT * FROM orders WHERE customer_id = -$1 <- -1:int8
SELECT * FROM orders WHERE customer_id = ($1) <- 1:int8
SELECT * FROM orders WHERE customer_id = $2 AND number = $1 <- 1:int4 | 1:int8
SELECT * FROM orders WHERE customer_id = $1 AND number = $1 <- 1:int4
SELECT * FROM orders WHERE number = $1 AND customer_id = $1 <- 1:int4
SELECT * FROM orders WHERE number = $1 AND customer_id = $1 <- 1:int8
SELECT * FROM orders WHERE number = $1 AND customer_id = $1 <- 1
SELECT * FROM orders WHERE item = $1 AND customer_id = $1 <- 1
SELECT $1::text, o.* FROM orders o WHERE customer_id = $1::bigint <- 1
SELECT $1, o.* FROM orders o WHERE customer_id = $1 <- 1
SELECT * FROM orders WHERE customer_id = $1 OR customer_id = $2 <- 1:int8 | 2:int8
SELECT * FROM orders WHERE customer_id IN ($1, $2) <- 1:int8 | 3:int8
SELECT * FROM orders WHERE customer_id IN ($1, $2) <- 1:int8 | \N:int8
SELECT * FROM orders WHERE customer_id IN ($1, 3) <- 1:int8
SELECT * FROM orders WHERE customer_id = ANY ($1) <- {1,3}:_int8
SELECT * FROM orders WHERE customer_id = ANY ($1::bigint[]) <- {1,3}:_int8
SELECT * FROM orders WHERE customer_id = ANY ($1::int[]) <- {1,3}:_int4
SELECT * FROM orders WHERE customer_id <> ALL ($1) <- {1,3}:_int8
SELECT * FROM orders WHERE customer_id BETWEEN $1 AND $2 <- 1:int8 | 1:int8
SELECT * FROM orders WHERE customer_id = $1 LIMIT $2 <- 1:int8 | 1:int8
SELECT * FROM orders LIMIT $1 <- 0:int8
SELECT * FROM words WHERE word = $1 <- a:text
SELECT * FROM words WHERE word = $1 <- a:varchar
SELECT * FROM words WHERE word = $1 <- a :bpchar
SELECT * FROM words WHERE word = $1 <- a:name
SELECT * FROM words WHERE word = $1 <- a:unknown
SELECT * FROM words WHERE word = $1 <- ä:text
SELECT * FROM words WHERE word = $1 <- NULL:text
SELECT * FROM words WHERE word = $1 <- 7:int4
SELECT * FROM words WHERE word = $1 <- :text
SELECT * FROM words WHERE word = $1::text <- a:text
SELECT * FROM words WHERE word = $1::varchar <- a:text
SELECT * FROM words WHERE word = $1::varchar(1) <- abc:text
SELECT * FROM words WHERE word = $1::char(1) <- abc:text
SELECT * FROM words WHERE word = $1::name <- a:name
SELECT * FROM words WHERE word = upper($1) <- a:text
SELECT * FROM words WHERE word IN ($1, $2) <- a:text | b:text
SELECT * FROM words WHERE word = $1 OR $1 IS NULL <- \N:text
SELECT * FROM words WHERE word = $1 AND n = $2 <- a:text | 1:int4
SELECT * FROM devices WHERE id = $1 <- a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11:uuid
SELECT * FROM devices WHERE id = $1 <- A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11:text
SELECT * FROM devices WHERE id = $1::uuid <- a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11:text
SELECT * FROM devices WHERE id::text = $1 <- a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11:text
SELECT * FROM small WHERE k = $1 <- 7:int4
SELECT * FROM small WHERE k = $1 <- 7:int8
SELECT * FROM small WHERE k = $1 <- 2147483648:int8
SELECT * FROM small WHERE k = $1 <- 2147483648
SELECT * FROM small WHERE k = $1::bigint <- 2147483648:int8
SELECT * FROM metrics WHERE tenant = $1 AND day_no = $2 <- acme:text | 1:int8
SELECT * FROM metrics WHERE (tenant, day_no) = ($1, $2) <- acme:text | 1:int8
SELECT * FROM metrics WHERE tenant = $1 AND day_no = $2 <- acme:text | 1:int4
SELECT * FROM metrics WHERE tenant = $1 AND day_no = $2 <- \N:text | 1:int4
SELECT * FROM codes WHERE code = $1 <- a:bpchar
SELECT * FROM codes WHERE code = $1 <- a  :bpchar
SELECT * FROM codes WHERE code = $1 <- a:text
SELECT * FROM codes WHERE code = $1 <- a    :text
SELECT * FROM codes WHERE code = $1 <- a:varchar
SELECT * FROM codes WHERE code = $1::text <- a:text
SELECT * FROM names WHERE name = $1 <- a:varchar
SELECT * FROM names WHERE name = $1 <- a :bpchar
SELECT * FROM names WHERE name = $1 <- a:text
SELECT * FROM amounts WHERE amount = $1 <- 1.5:numeric
SELECT * FROM amounts WHERE amount = $1 <- 1.50:numeric
SELECT * FROM amounts WHERE amount = $1 <- 1:int4
SELECT * FROM amounts WHERE amount = $1 <- 1.5:float8
SELECT * FROM amounts WHERE amount = $1 <- 1e2
SELECT * FROM days WHERE day = $1 <- 2024-01-01:date
SELECT * FROM days WHERE day = $1 <- 2024-01-01:timestamp
SELECT * FROM days WHERE day = $1 <- Jan 1 2024
SELECT * FROM days WHERE day = $1 <- now
SELECT * FROM moments WHERE at = $1 <- 2024-01-01 00:00:00+00:timestamptz
SELECT * FROM moments WHERE at = $1 <- 2024-01-01 00:00:00:timestamp
SELECT * FROM moments WHERE at = $1 <- 2024-01-01:date
SELECT * FROM stamps WHERE at = $1 <- 2024-01-01 00:00:00:timestamp
SELECT * FROM stamps WHERE at = $1 <- 2024-01-01 00:00:00+00:timestamptz
SELECT * FROM public.flags WHERE f = $1 <- true:bool
SELECT * FROM public.flags WHERE f = $1 <- yes
SELECT * FROM public.flags WHERE f = $1 <- 1:int4
SELECT count(*), sum(amount), max(placed), min(item) FROM orders WHERE amount > $1 <- 1:numeric
SELECT count(*), sum(number), min(price) FROM orders WHERE amount > $1 <- 1:numeric
SELECT count(*) FROM orders WHERE customer_id = $1 <- 1:int8
SELECT sum($1) FROM orders <- 1:int4
SELECT sum($1::int) FROM orders <- 1:int4
SELECT count($1) FROM orders <- \N:int4
SELECT * FROM countries WHERE code = $1 <- DE:text
SELECT * FROM logs WHERE id = $1 <- 1:int4
SELECT $1 <- 1:int4
SELECT $1 <- x
SELECT $1::int + $2 <- 1:int4 | 2:int4
SELECT $2 <- 1:int4 | x:text
SELECT * FROM orders WHERE placed < $1 <- now:timestamptz
SELECT * FROM orders WHERE placed < $1 <- now
SELECT * FROM orders WHERE item = $1 <- now:text
SELECT * FROM orders WHERE customer_id = $1 <- 1:int8 | 2:int8
SELECT * FROM orders WHERE customer_id = $3 <- 1:int8 | 2:int8 | 3:int8
SELECT * FROM orders WHERE customer_id = $1 AND item = '$2' <- 1:int8
SELECT * FROM customers WHERE id = $1 AND mood = $2 <- 1:int8 | happy
SELECT * FROM customers WHERE mood = $1 <- ok
SELECT c.name, o.number FROM customers c JOIN orders o ON o.customer_id = c.id WHERE c.id = $1 <- 1:int8
SELECT c.name, o.number FROM customers c JOIN orders o ON o.customer_id = c.id WHERE c.id = $1 AND o.customer_id = $2 <- 1:int8 | 2:int8
SELECT c.name, o.number FROM customers c JOIN orders o ON o.customer_id = $1 WHERE c.id = $1 <- 1:int8
## writes with parameters
INSERT INTO hollow (id, v, t) VALUES ($1, $2, $3) <- 1000:int8 | 1:int4 | a:text
INSERT INTO hollow (id, v, t) VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET v = hollow.v + excluded.v RETURNING * <- 1000:int8 | 1:int4 | a:text
INSERT INTO hollow (v, id) VALUES ($2, $1) ON CONFLICT DO NOTHING <- 1001:int8 | 1:int4
INSERT INTO hollow (id, v) VALUES ($1, $1) ON CONFLICT DO NOTHING <- 1002:int4
INSERT INTO hollow (id, v) VALUES ($1, $2), ($3, $4) ON CONFLICT DO NOTHING <- 1003:int8 | 3:int4 | 1004:int8 | 4:int4
INSERT INTO hollow (id, v) VALUES ($1, $2), ($3, $2), ($4, $5) ON CONFLICT DO NOTHING <- 1005:int8 | 3:int4 | 1006:int8 | 1007:int8 | 9:int4
INSERT INTO hollow (id, v) VALUES ($3, $1), ($2, $4) RETURNING id <- 1:int4 | 2001:int8 | 2002:int8 | 4:int4
INSERT INTO hollow (id) VALUES ($1), ($1) ON CONFLICT DO NOTHING <- 1008:int8
INSERT INTO hollow (id) VALUES ($1), ($2) <- 1009:int8 | \N:int8
INSERT INTO hollow (id) VALUES ($1) <- \N:int8
INSERT INTO hollow (id) VALUES ($1) <- x
INSERT INTO hollow (id) VALUES ($1) <- 99999999999999999999
INSERT INTO hollow (id) VALUES ($1) ON CONFLICT DO NOTHING <- 1010.4
INSERT INTO hollow (id) VALUES ($1) ON CONFLICT DO NOTHING <- 1010.4:numeric
INSERT INTO hollow (id) VALUES ($1) ON CONFLICT DO NOTHING <- 1010.6:float8
INSERT INTO hollow (id) VALUES ($1::int) ON CONFLICT DO NOTHING <- 1011:int4
INSERT INTO hollow (id) VALUES ($1::text) ON CONFLICT DO NOTHING <- 1011:text
INSERT INTO hollow (id) VALUES ($1 + 1) ON CONFLICT DO NOTHING <- 1011:int8
INSERT INTO hollow (id, t) VALUES ($1, $2), ($3, upper($2)) ON CONFLICT DO NOTHING <- 1012:int8 | a:text | 1013:int8
INSERT INTO hollow (id, t) VALUES ($1, $2), ($3, $4::text || $5) ON CONFLICT DO NOTHING <- 1014:int8 | a:text | 1015:int8 | b:text | c:text
UPDATE hollow SET v = $1 WHERE id = $2 <- 5:int4 | 1000:int8
UPDATE hollow SET v = $1 WHERE id = $2 RETURNING * <- 5:int4 | 1000:int8
UPDATE hollow SET v = $1 <- 6:int4
UPDATE hollow SET v = $2, t = $1 WHERE v = $2 <- z:text | 6:int4
UPDATE hollow SET id = $1 WHERE id = $2 <- 5:int8 | 1000:int8
DELETE FROM hollow WHERE id = $1 RETURNING * <- 1000:int8
DELETE FROM hollow WHERE id IN ($1, $2) <- 1001:int8 | 1003:int8
DELETE FROM hollow WHERE v = $1 <- 6:int4
INSERT INTO words VALUES ($1, $2) ON CONFLICT DO NOTHING <- new:text | 1:int4
INSERT INTO words VALUES ($1, $2) ON CONFLICT DO NOTHING <- new  :bpchar | 1:int4
INSERT INTO words VALUES ($1, $2) ON CONFLICT DO NOTHING <- 12:int4 | 1:int4
INSERT INTO words VALUES ($1::char(3), $2) ON CONFLICT DO NOTHING <- abcde:text | 1:int4
INSERT INTO names VALUES ($1, $2) <- toolongname:text | 1:int4
INSERT INTO names VALUES ($1, $2) <- blank          :text | 1:int4
INSERT INTO names VALUES ($1::varchar(3), $2) <- abcdef:text | 1:int4
INSERT INTO names VALUES ($1, $2) <- b :bpchar | 1:int4
INSERT INTO codes VALUES ($1, $2) <- xy:text | 1:int4
INSERT INTO codes VALUES ($1, $2) <- xy   :bpchar | 1:int4
INSERT INTO codes VALUES ($1, $2) <- toolong:text | 1:int4
INSERT INTO codes VALUES ($1, $2) <- blank     :text | 1:int4
INSERT INTO amounts VALUES ($1, $2) <- 1.25:numeric | 1:int4
INSERT INTO amounts VALUES ($1, $2) <- 1.255:numeric | 1:int4
INSERT INTO amounts VALUES ($1, $2) <- 1.255 | 1:int4
INSERT INTO amounts VALUES ($1, $2) <- 7:int4 | 1:int4
INSERT INTO amounts VALUES ($1, $2) <- 9999999:numeric | 1:int4
INSERT INTO days VALUES ($1, $2) <- 2024-05-05:date | 1:int4
INSERT INTO days VALUES ($1, $2) <- 2024-05-05 23:00:timestamp | 1:int4
INSERT INTO days VALUES ($1, $2) <- today | 1:int4
INSERT INTO moments VALUES ($1, $2) <- 2024-05-05 10:00+00:timestamptz | 1:int4
INSERT INTO stamps VALUES ($1, $2) <- 2024-05-05 10:00:00.1234567:timestamp | 1:int4
INSERT INTO public.flags VALUES ($1, $2) <- t:bool | 1:int4
INSERT INTO small VALUES ($1, $2) <- 5:int4 | a:text
INSERT INTO small VALUES ($1, $2) <- 5:int8 | a:text
INSERT INTO small VALUES ($1, $2) <- 4294967301:int8 | a:text
INSERT INTO devices VALUES ($1, $2) ON CONFLICT DO NOTHING <- a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a99:uuid | a:text
INSERT INTO metrics VALUES ($1, $2, $3) ON CONFLICT DO NOTHING <- t:text | 5:int8 | 1.5:float8
INSERT INTO metrics VALUES ($1, $2), ($1, $3), ($4, $2) ON CONFLICT DO NOTHING <- t2:text | 5:int8 | 6:int8 | t3:text
INSERT INTO countries (code, name) VALUES ($1, $2) ON CONFLICT DO NOTHING <- XX:text | Ex:text
UPDATE countries SET name = $2 WHERE code = $1 RETURNING * <- XX:text | Ey:text
DELETE FROM countries WHERE code = $1 <- XX:text
INSERT INTO logs (msg) VALUES ($1) RETURNING * <- p:text
INSERT INTO settings (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = $2 <- k:text | v:text
