## copy from
COPY hollow FROM STDIN <<< 1\t2\tx\n2\t\\N\ty\n3\t4\t\\N\n
COPY hollow (id, t) FROM STDIN <<< 11\tx\n12\ty\n13\t\\N\n
COPY hollow (t, id) FROM STDIN <<< x\t21\ny\t22\n\\N\t23\n
COPY public.hollow (id) FROM STDIN <<< 31\n32\n33\n
COPY "hollow" ("id") FROM STDIN <<< 34\n35
COPY hollow FROM STDIN <<<
COPY hollow FROM STDIN <<< \\.\n
COPY hollow (id) FROM STDIN <<< 41\n42\n\\.\n43\n
COPY hollow (id) FROM STDIN <<< x\n
COPY hollow (id) FROM STDIN <<< 51\nx\n52\n
COPY hollow (id) FROM STDIN <<< 53\n\\N\n54\n
COPY hollow (id) FROM STDIN <<< 53\n53\n54\n
COPY hollow (id) FROM STDIN <<< 55\t1\n
COPY hollow (id, v) FROM STDIN <<< 56\n
COPY hollow (id, v) FROM STDIN <<< 57\tx\n58\t1\n
COPY hollow (v) FROM STDIN <<< 1\n
COPY hollow (id, nosuch) FROM STDIN <<< 1\t2\n
COPY hollow (id, id) FROM STDIN <<< 1\t2\n
COPY hollow (id) FROM STDIN <<<  61 \n+62\n-63\n0064\n
COPY hollow (id) FROM STDIN <<< 65.0\n
COPY hollow (id) FROM STDIN <<< 99999999999999999999\n
COPY hollow (id, t) FROM STDIN <<< 71\ta\\tb\n72\ta\\\\b\n73\t\\x41\n74\t\\101\n75\t\\q\n76\ta\\\nb\n
COPY hollow (id, t) FROM STDIN <<< \\67\\67\tescaped key\n\\x38\\x30\thex key\n
COPY hollow (id, t) FROM STDIN WITH (FORMAT text, DELIMITER ',', NULL 'nil') <<< 81,a\n82,nil\n83,n\\il\n
COPY hollow (id, t) FROM STDIN DELIMITER ',' NULL 'nil' <<< 84,a\n85,nil\n
COPY hollow (id, t) FROM STDIN DELIMITERS ',' <<< 86,a\n
COPY hollow (id, t) FROM STDIN USING DELIMITERS ',' <<< 87,a\n
COPY hollow (id, t) FROM STDIN WITH DELIMITER AS '|' NULL AS '' <<< 88|a\n89|\n
COPY hollow (id, t) FROM STDIN CSV <<< 91,a\n92,\n93,""\n94,"a,b"\n95,"a""b"\n96,"line\nbreak"\n
COPY hollow (id, t) FROM STDIN WITH (FORMAT csv, HEADER) <<< id,t\n101,a\n"102",b\n
COPY hollow (id, t) FROM STDIN WITH (FORMAT csv, HEADER match) <<< id,t\n103,a\n
COPY hollow (id, t) FROM STDIN WITH (FORMAT csv, HEADER match) <<< id,x\n104,a\n
COPY hollow (id, t) FROM STDIN WITH (FORMAT text, HEADER) <<< id\tt\n105\ta\n106\tb\n
COPY hollow (id, t) FROM STDIN WITH (FORMAT csv, QUOTE '''', ESCAPE '\\', DELIMITER ';', NULL 'NULL') <<< 111;'a;b'\n112;NULL\n113;'NULL'\n114;'it\\'s'\n
COPY hollow (id, t) FROM STDIN WITH (FORMAT csv, FORCE_NOT_NULL (t)) <<< 121,\n122,x\n
COPY hollow (id, t) FROM STDIN WITH (FORMAT csv, FORCE_NULL (t)) <<< 123,""\n124,x\n
COPY hollow (id, t) FROM STDIN WITH (FORMAT csv, NULL 'a') <<< 125,a\n126,"a"\n
COPY hollow (id, t) FROM STDIN WITH (FORMAT csv) <<< 131,a\r\n132,b\r\n
COPY hollow (id, t) FROM STDIN <<< 133\ta\r\n134\tb\r\n
COPY hollow (id, t) FROM STDIN <<< 135\ta\n136\tb\r\n
COPY hollow (id, t) FROM STDIN CSV <<< "141,a\n
COPY hollow (id, t) FROM STDIN CSV <<< 142,"a\n143,b\n
COPY hollow (id, t) FROM STDIN (FORMAT csv, ENCODING 'latin1') <<< 144,a\n
COPY hollow (id, t) FROM STDIN (FORMAT csv, ENCODING 'utf8') <<< 145,ä\n
COPY hollow (id, t) FROM STDIN <<< 146\t\xff\n
COPY hollow (id, t) FROM STDIN <<< 147\ta\x00b\n
COPY hollow (id, t) FROM STDIN (FORMAT csv, DELIMITER 'ab') <<< 1ab2\n
COPY hollow (id, t) FROM STDIN (NOSUCH 1) <<< 1\t2\n
COPY hollow (id, t) FROM STDIN (FORMAT csv, FORMAT text) <<< 1\t2\n
COPY hollow (id, t) FROM STDIN (FREEZE false) <<< 148\tx\n
COPY hollow (id, v) FROM STDIN WHERE v > 1 <<< 151\t1\n152\t2\n
COPY words FROM STDIN <<< ca\t1\ten\ncb\t2\t\\N\n日\t3\tx\n\\N\t4\tx\n
COPY words FROM STDIN <<< cc\t1\ten\ncd\t2\t\\N\nc日\t3\tx\nc \t4\tx\n  c\t5\tx\n
COPY words FROM STDIN CSV <<< ce,1,en\n"cf",2,\n" c g ",3,x\n"",4,\n
COPY words FROM STDIN CSV <<< ch,1,en\n"ci""x",2,\nc"j"k,3,x\n
COPY small FROM STDIN <<< 100\tx\t1\n101\ty\t2\n-5\tz\t\\N\n
COPY small FROM STDIN <<< 100\tx\t1\n99999999999\ty\t2\n
COPY metrics FROM STDIN <<< c1\t1\t1.5\tx\nc1\t2\tNaN\ty\nc2\t-1\tInfinity\t\\N\n
COPY metrics (day_no, tenant) FROM STDIN <<< 1\tc3\n2\tc3\n
COPY devices FROM STDIN <<< d0000000-0000-0000-0000-000000000001\ta\t2024-01-01\t{}\n{D0000000-0000-0000-0000-000000000002}\tb\t\\N\t\\N\n
COPY "Upper" FROM STDIN <<< 20\ta\t1\t2\n21\tb\t3\t4\n
COPY "Upper" (id, "Id") FROM STDIN <<< 1\t22\n2\t23\n
COPY depot.events FROM STDIN <<< 1\t2024-01-01\tx\n2\t2024-01-01\ty\n
COPY depot.events (customer_id, payload) FROM STDIN <<< 1\tx\n2\ty\n
COPY codes FROM STDIN <<< x\t1\nx  \t2\ntoolong\t3\n
COPY codes FROM STDIN <<< x\t1\nx  \t2\nyy\t3\n
COPY names FROM STDIN <<< x\t1\nx  \t2\nlonglong    \t3\n
COPY names FROM STDIN <<< x\t1\nx  \t2\n
COPY amounts FROM STDIN <<< 1.005\t1\n
COPY days FROM STDIN <<< 2031-01-01\t1\n2031-01-02\t2\n
COPY days FROM STDIN <<< 01/02/2031\t1\n
COPY moments FROM STDIN <<< 2031-01-01 00:00:00+00\t1\n
COPY moments FROM STDIN <<< 2031-01-01 00:00:00\t1\n
COPY stamps FROM STDIN <<< 2031-01-01 00:00:00\t1\n
COPY public.flags FROM STDIN <<< t\t1\nfalse\t2\nyes\t3\n
COPY public.flags FROM STDIN <<< maybe\t1\n
COPY serials (k, v) FROM STDIN <<< 1\tx\n
COPY serials FROM STDIN <<< 50\t1\t2\tx\n51\t3\t4\ty\n
COPY orders (customer_id, number, amount, item) FROM STDIN <<< 1\t70\t1.5\tx\n2\t70\t2.5\ty\n
COPY orders (customer_id, number, amount) FROM STDIN <<< 1\t71\t1.5\n99999\t71\t2.5\n
COPY orders (customer_id, number, total) FROM STDIN <<< 1\t72\t1.5\n
COPY customers (id, name, mood, tags) FROM STDIN <<< 700\tx\tok\t{a,b}\n701\ty\t\\N\t\\N\n
COPY customers (id, name, mood) FROM STDIN <<< 702\tx\tangry\n
COPY countries FROM STDIN <<< C1\tone\t1.5\t1\nC2\ttwo\t\\N\t2\n
COPY countries (code, name) FROM STDIN CSV HEADER <<< code,name\nC3,three\n
COPY countries (code) FROM STDIN <<< C4\n
COPY countries FROM STDIN <<< DE\tdup\t1\t1\n
COPY logs (msg, level) FROM STDIN <<< a\t1\nb\t2\n
COPY settings (key, value) FROM STDIN <<< c\t1\nd\t2\n
COPY nosuch FROM STDIN <<< 1\n
COPY active_customers FROM STDIN <<< 1\tx\n
COPY hollow FROM '/dev/null'
COPY hollow FROM PROGRAM 'true'
## copy to
COPY customers TO STDOUT
COPY customers (id, name) TO STDOUT
COPY customers (name, id) TO STDOUT WITH (FORMAT csv)
COPY customers (id, name) TO STDOUT WITH (FORMAT csv, HEADER)
COPY customers (id, name) TO STDOUT CSV HEADER FORCE QUOTE *
COPY customers (id, name) TO STDOUT WITH (FORMAT text, HEADER, DELIMITER '|', NULL 'nil')
COPY customers (id, name) TO STDOUT WITH (FORMAT binary)
COPY customers (id, name) TO STDOUT BINARY
COPY BINARY customers (id, name) TO STDOUT
COPY hollow TO STDOUT
COPY hollow TO STDOUT CSV HEADER
COPY orders TO STDOUT
COPY words TO STDOUT CSV
COPY countries TO STDOUT
COPY countries TO STDOUT BINARY
COPY logs (id, msg) TO STDOUT
COPY settings (key) TO STDOUT
COPY customers (nosuch) TO STDOUT
COPY nosuch TO STDOUT
COPY customers TO STDOUT WHERE id = 1
COPY (SELECT * FROM customers WHERE id = 1) TO STDOUT
COPY (SELECT * FROM customers) TO STDOUT
COPY (SELECT count(*) FROM customers) TO STDOUT
COPY (SELECT id, name, balance, born FROM customers WHERE active) TO STDOUT (FORMAT csv, HEADER, FORCE_QUOTE *)
COPY (SELECT * FROM customers) TO STDOUT WITH CSV HEADER DELIMITER ';'
COPY (SELECT id, name FROM customers) TO STDOUT (FORMAT binary)
COPY (SELECT id, name FROM customers ORDER BY name, id) TO STDOUT (DELIMITER '|')
COPY (SELECT country, count(*), avg(balance) FROM customers GROUP BY country) TO STDOUT (FORMAT csv, HEADER)
COPY (SELECT c.name, o.item FROM customers c JOIN orders o ON o.number = c.id) TO STDOUT
COPY (SELECT c.name, o.item FROM customers c JOIN orders o ON o.customer_id = c.id LIMIT 100) TO STDOUT (FORMAT binary)
COPY (SELECT name FROM customers UNION SELECT item FROM orders) TO STDOUT
COPY (SELECT * FROM customers WHERE false) TO STDOUT (FORMAT csv, HEADER)
COPY (SELECT nosuch FROM customers ORDER BY 1) TO STDOUT
COPY (SELECT 1 / (id - 1) FROM customers WHERE id > 0 AND id < 1000 ORDER BY 1) TO STDOUT
COPY (SELECT * FROM customers) TO STDOUT (ENCODING 'LATIN1')
COPY (SELECT * FROM customers ORDER BY id) TO STDOUT (NOSUCH)
COPY (SELECT * FROM customers FOR UPDATE) TO STDOUT
COPY (SELECT * FROM customers ORDER BY id) TO '/dev/null'
COPY (SELECT * FROM countries ORDER BY code) TO STDOUT CSV HEADER
COPY (SELECT 1, 'x') TO STDOUT
COPY (VALUES (1, 2)) TO STDOUT BINARY
COPY (SELECT * FROM logs) TO STDOUT
COPY (DELETE FROM hollow WHERE id = 1 RETURNING *) TO STDOUT
COPY (UPDATE customers SET note = note RETURNING id) TO STDOUT
COPY active_customers TO STDOUT
COPY (SELECT * FROM active_customers) TO STDOUT
COPY customers TO '/dev/null'
COPY customers TO PROGRAM 'cat'
{ copy in a transaction
BEGIN
COPY hollow (id) FROM STDIN <<< 1001\n1002\n1003\n
SELECT count(*) FROM hollow WHERE id > 1000
SAVEPOINT s
COPY hollow (id) FROM STDIN <<< 1004\n1001\n1005\n
ROLLBACK TO s
SELECT count(*) FROM hollow WHERE id > 1000
COPY hollow (id) TO STDOUT
COMMIT
DELETE FROM hollow
}
{ copy that is rolled back
BEGIN
COPY hollow (id) FROM STDIN <<< 1001\n1002\n1003\n
ROLLBACK
SELECT count(*) FROM hollow
}
{ a time zone and copy
SET TimeZone = 'Asia/Tokyo'
COPY moments FROM STDIN <<< 2032-01-01 00:00:00\t1\n
COPY moments FROM STDIN <<< 2032-01-01 00:00:00+00\t1\n
COPY orders TO STDOUT
}
{ a date style and copy
SET DateStyle = 'SQL, DMY'
COPY days FROM STDIN <<< 01/02/2033\t1\n
COPY days FROM STDIN <<< 2033-02-01\t1\n
COPY days TO STDOUT
}
[simple] COPY hollow (id) FROM STDIN; SELECT 1 <<< 1101\n1102\n
[simple] INSERT INTO hollow VALUES (1201); COPY hollow TO STDOUT; SELECT 1
[simple] SELECT 1; COPY logs (id, msg) TO STDOUT
[simple] SELECT 1; COPY countries TO STDOUT
[simple] SELECT 1; COPY (SELECT 1) TO STDOUT; SELECT 2
[simple] SELECT 1; /* c */ COPY (SELECT * FROM orders WHERE customer_id = 1) TO STDOUT
[simple] SELECT 1; COPY logs (msg) FROM STDIN; SELECT 2 <<< m1\nm2\n
DELETE FROM logs WHERE msg IN ('m1', 'm2')
