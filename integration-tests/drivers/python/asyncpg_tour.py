"""asyncpg: binary protocol, a statement cache of its own, introspection of types, cursors, COPY."""

import asyncio
import datetime
import decimal
import io
import json
import os
import uuid

import asyncpg

from tour import DATABASE, HOST, PASSWORD, PORT, USER, section, run, show


async def connect(**more):
    kw = dict(host=HOST, port=PORT, user=USER, password=PASSWORD, database=DATABASE, timeout=20)
    kw.update(more)
    return await asyncpg.connect(**kw)


async def attempt(what, awaitable):
    try:
        show(what, await awaitable)
    except asyncpg.PostgresError as e:
        show(what, type(e).__name__, e.sqlstate, e.args[0], e.detail, e.hint, e.constraint_name, e.table_name, e.position)
    except Exception as e:
        show(what, type(e).__name__, e)


def asynchronous(function):
    def body():
        asyncio.run(asyncio.wait_for(function(), 15))

    body.__name__ = function.__name__
    section(body)
    return function


@asynchronous
async def connecting():
    c = await connect(server_settings={"application_name": "async tour", "search_path": "elsewhere, public", "jit": "off"})
    show(await c.fetchrow("SELECT current_setting('application_name'), current_setting('search_path'), current_setting('jit')"))
    settings = c.get_settings()
    show(settings.TimeZone, settings.client_encoding, settings.application_name, c.get_server_version())
    await c.close()
    await attempt("wrong database", connect(database="no_such_database"))
    await attempt("bad setting", connect(server_settings={"statement_timeout": "soon"}))


@asynchronous
async def types():
    c = await connect()
    await c.execute("""
        CREATE TYPE mood AS ENUM ('sad', 'ok');
        CREATE TYPE pair AS (a int, b text);
        CREATE DOMAIN positive AS int CHECK (VALUE > 0);
        CREATE TABLE kinds (id serial PRIMARY KEY, i2 smallint, i4 int, i8 bigint, f4 real, f8 float8, n numeric, t text, b bytea, bo bool,
            d date, ts timestamp, tz timestamptz, tm time, iv interval, u uuid, j json, jb jsonb, ia int[], ta text[], r int4range,
            m mood, ma mood[], p pair, pa pair[], po positive)""")
    utc = datetime.timezone.utc
    row = (1, -2, 3**39, 1.5, 2.25, decimal.Decimal("12345.67890"), "naïve\n\\", bytes(range(256)), True, datetime.date(2024, 2, 29),
           datetime.datetime(2024, 1, 2, 3, 4, 5, 678), datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=utc), datetime.time(1, 2, 3),
           datetime.timedelta(days=3, seconds=4), uuid.UUID(int=77), '{"a": [1, null]}', '{"b": 2}', [1, None, 3], ["a", None, 'c"d'],
           asyncpg.Range(1, 5), "ok", ["sad", "ok"], (1, "two"), [(1, "x"), (None, None)], 5)
    columns = "i2,i4,i8,f4,f8,n,t,b,bo,d,ts,tz,tm,iv,u,j,jb,ia,ta,r,m,ma,p,pa,po"
    marks = ",".join(f"${i + 1}" for i in range(len(row)))
    await attempt("insert", c.fetchval(f"INSERT INTO kinds ({columns}) VALUES ({marks}) RETURNING id", *row))
    await attempt("nulls", c.fetchval(f"INSERT INTO kinds ({columns}) VALUES ({marks}) RETURNING id", *([None] * len(row))))
    for record in await c.fetch("SELECT * FROM kinds ORDER BY id"):
        show(dict(record))
    await c.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    show(await c.fetchval("SELECT jb FROM kinds WHERE jb = $1", {"b": 2}))
    await attempt("domain", c.execute("INSERT INTO kinds (po) VALUES ($1)", -1))
    await attempt("wrong type", c.execute("INSERT INTO kinds (i4) VALUES ($1)", "text"))
    await attempt("overflow", c.execute("INSERT INTO kinds (i2) VALUES ($1)", 100000))
    await attempt("enum", c.execute("INSERT INTO kinds (m) VALUES ($1)", "angry"))
    await attempt("syntax", c.execute("SELEC 1"))
    s = await c.prepare("SELECT i4, m, p FROM kinds WHERE id = $1 AND m = $2")
    show([(p.name, p.kind) for p in s.get_parameters()], [(a.name, a.type.name) for a in s.get_attributes()], s.get_statusmsg())
    show(await s.fetchrow(1, "ok"), s.get_statusmsg())
    await c.execute("SET TimeZone TO 'Asia/Tokyo'")
    show(c.get_settings().TimeZone, await c.fetchval("SELECT tz::text FROM kinds WHERE id = 1"))
    await c.reset()
    show(await c.fetchval("SHOW TimeZone"), await c.fetchval("SELECT tz::text FROM kinds WHERE id = 1"))
    await c.close()


@asynchronous
async def statements():
    c = await connect(statement_cache_size=10)
    other = await connect()
    await c.execute("CREATE TABLE cached (id int PRIMARY KEY, v text)")
    await c.executemany("INSERT INTO cached VALUES ($1, $2)", [(i, f"v{i}") for i in range(500)])
    show(await c.fetchval("SELECT count(*) FROM cached"))
    for i in range(40):
        await c.fetchval(f"SELECT {i} + $1::int", i)
    for i in range(5):
        show(await c.fetchrow("SELECT * FROM cached WHERE id = $1", i))
    # prepare() ends with a Flush: the lock on the table is kept until the next statement's Sync.
    s = await c.prepare("SELECT * FROM cached WHERE id = $1")
    show(await s.fetchrow(2))
    await other.execute("ALTER TABLE cached ADD COLUMN more int DEFAULT 9")
    for i in range(3):
        await attempt("after ALTER by another", c.fetchrow("SELECT * FROM cached WHERE id = $1", i))
    await attempt("a statement kept", s.fetchrow(3))
    await other.execute("ALTER TABLE cached DROP COLUMN v")
    async with c.transaction():
        await attempt("after DROP, in a transaction", c.fetchrow("SELECT id, more FROM cached WHERE id = $1", 3))
    await attempt("the column is gone", c.fetchrow("SELECT v FROM cached WHERE id = $1", 3))
    show(await c.execute("INSERT INTO cached SELECT i FROM generate_series(1000, 1009) i"))
    show(await c.execute("SELECT 1; SELECT 2; UPDATE cached SET more = 1"))
    await attempt("unique in executemany", c.executemany("INSERT INTO cached (id) VALUES ($1)", [(5000,), (5001,), (5000,)]))
    show(await c.fetchval("SELECT count(*) FROM cached WHERE id >= 5000"))
    show(await c.fetchmany("INSERT INTO cached (id) VALUES ($1) RETURNING id", [(6000,), (6001,)]))
    await c.execute("DEALLOCATE ALL")
    await attempt("after DEALLOCATE ALL", c.fetchrow("SELECT * FROM cached WHERE id = $1", 4))
    await attempt("and again", c.fetchrow("SELECT * FROM cached WHERE id = $1", 4))
    await c.close()
    c = await connect(statement_cache_size=0)
    for i in range(5):
        show(await c.fetchval("SELECT id FROM cached WHERE id = $1", i))
    await c.close()
    await other.close()


@asynchronous
async def transactions():
    c = await connect()
    await c.execute("CREATE TABLE accounts (id int PRIMARY KEY, n int)")
    async with c.transaction():
        await c.execute("INSERT INTO accounts VALUES (1, 1)")
        try:
            async with c.transaction():
                await c.execute("INSERT INTO accounts VALUES (1, 2)")
        except asyncpg.UniqueViolationError as e:
            show(e.sqlstate, e.detail)
        async with c.transaction():
            await c.execute("INSERT INTO accounts VALUES (2, 2)")
    show(await c.fetch("SELECT * FROM accounts ORDER BY 1"))
    for isolation in "read_committed", "repeatable_read", "serializable":
        async with c.transaction(isolation=isolation, readonly=isolation == "serializable", deferrable=isolation == "serializable"):
            show(await c.fetchval("SHOW transaction_isolation"), await c.fetchval("SHOW transaction_read_only"))
            if isolation == "serializable":
                await attempt("read only", c.execute("DELETE FROM accounts"))
                await attempt("aborted", c.execute("SELECT 1"))
                break
    t = c.transaction()
    await t.start()
    await c.execute("DELETE FROM accounts")
    await t.rollback()
    show(await c.fetchval("SELECT count(*) FROM accounts"), c.is_in_transaction())
    await c.close()


@asynchronous
async def cursors():
    c = await connect()
    await c.execute("CREATE TABLE many AS SELECT i AS id, repeat('x', i % 50) AS v FROM generate_series(1, 3000) i")
    async with c.transaction():
        total = 0
        async for row in c.cursor("SELECT id FROM many WHERE id > $1 ORDER BY id", 5, prefetch=70):
            total += row["id"]
        show(total)
        cur = await c.cursor("SELECT id FROM many ORDER BY id")
        show(await cur.fetchrow(), await cur.fetch(2), await cur.forward(10), await cur.fetchrow())
        s = await c.prepare("SELECT id FROM many WHERE id < $1 ORDER BY id")
        one, two = await s.cursor(10), await s.cursor(4)
        show(await one.fetchrow(), await two.fetch(2), await one.fetch(20), await two.fetch(20))
    await attempt("outside", c.cursor("SELECT 1").__aiter__().__anext__())
    show(len(await c.fetch("SELECT * FROM many", timeout=20)))
    await c.close()


@asynchronous
async def copying():
    c = await connect()
    await c.execute("CREATE TABLE copied (id int, v text, n numeric)")
    show(await c.copy_records_to_table("copied", records=[(i, f"v{i}", decimal.Decimal(i) / 8) for i in range(4000)]))
    show(await c.copy_to_table("copied", source=io.BytesIO(b"1,a,2\n2,b,3\n"), format="csv"))
    out = io.BytesIO()
    show(await c.copy_from_query("SELECT * FROM copied WHERE id < $1 ORDER BY id, v", 4, output=out, format="csv"))
    show(out.getvalue())
    out = io.BytesIO()
    show(await c.copy_from_table("copied", output=out, format="binary"), len(out.getvalue()))
    await attempt("bad data", c.copy_to_table("copied", source=io.BytesIO(b"x,y\n"), format="csv"))

    async def broken():
        yield b"1,a,2\n"
        raise ValueError("the source fails")

    await attempt("a source that fails", c.copy_to_table("copied", source=broken(), format="csv"))
    show(await c.fetchval("SELECT count(*) FROM copied"))
    await c.close()


@asynchronous
async def listening():
    c, other = await connect(), await connect()
    got = asyncio.Queue()
    await c.add_listener("async_news", lambda con, pid, channel, payload: got.put_nowait((channel, payload)))
    for i in range(3):
        await other.execute("SELECT pg_notify('async_news', $1)", str(i))
    await other.execute("NOTIFY async_news, 'four'")
    for _ in range(4):
        show(await asyncio.wait_for(got.get(), 10))
    notices = []
    c.add_log_listener(lambda con, message: notices.append((message.severity, message.message)))
    await c.execute("DO $$ BEGIN RAISE NOTICE 'hello %', 1; END $$")
    await asyncio.sleep(0)
    show(notices)
    await c.reset()
    await c.close()
    await other.close()


@asynchronous
async def cancelling():
    c = await connect()
    await attempt("timeout", c.fetchval("SELECT pg_sleep(20)", timeout=0.3))
    show(await c.fetchval("SELECT 1"))
    task = asyncio.ensure_future(c.fetchval("SELECT pg_sleep(20)"))
    await asyncio.sleep(0.3)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        show("cancelled")
    show(await c.fetchval("SELECT 2"), c.is_closed())
    async with c.transaction():
        await attempt("in a transaction", c.fetchval("SELECT pg_sleep(20)", timeout=0.3))
        await attempt("then", c.fetchval("SELECT 3"))
    await c.close()


@asynchronous
async def pooled():
    async def setup(c):
        await c.execute("SET work_mem TO '9MB'")

    async with asyncpg.create_pool(host=HOST, port=PORT, user=USER, password=PASSWORD, database=DATABASE, min_size=3, max_size=8, init=setup) as pool:
        await pool.execute("CREATE TABLE shared (id int PRIMARY KEY, n int)")
        await pool.execute("INSERT INTO shared SELECT i, 0 FROM generate_series(0, 19) i")

        async def work(n):
            seen = set()
            for turn in range(30):
                async with pool.acquire() as c:
                    async with c.transaction():
                        await c.execute("UPDATE shared SET n = n + 1 WHERE id = $1", n)
                        seen.add(await c.fetchval("SELECT $1 || current_setting('application_name')", f"{n}"))
                        await c.execute(f"SET LOCAL application_name TO 'w{n}'")
                        seen.add(await c.fetchval("SELECT $1 || current_setting('application_name')", f"{n}"))
            return sorted(seen)

        for result in await asyncio.gather(*(work(n) for n in range(20))):
            show(result)
        show([tuple(r) for r in await pool.fetch("SELECT * FROM shared ORDER BY id")])


@asynchronous
async def large():
    c = await connect()
    rows = await c.fetch("SELECT i, repeat('y', 1000) FROM generate_series(1, 20000) i")
    show(len(rows), sum(len(r[1]) for r in rows))
    show(len(await c.fetchval("SELECT $1 || 'a'", "z" * 30_000_000)))
    marks = ",".join(f"(${i + 1}::int)" for i in range(32000))
    show(await c.fetchrow(f"SELECT count(*), sum(x) FROM (VALUES {marks}) v(x)", *range(32000)))
    show(await c.fetchval("SELECT count(*) FROM unnest($1::int[])", list(range(100000))))
    await attempt("empty", c.execute(""))
    await c.close()


if __name__ == "__main__":
    run()
