"""psycopg 3, by libpq (PSYCOPG_IMPL=binary) and in Python alone (PSYCOPG_IMPL=python): what applications do with it."""

import logging

# What it logs by itself has addresses of this process in it.
logging.disable(logging.CRITICAL)

import datetime
import decimal
import io
import ipaddress
import threading
import time
import uuid

import psycopg
from psycopg import sql
from psycopg.rows import dict_row, namedtuple_row
from psycopg.types.composite import CompositeInfo, register_composite
from psycopg.types.enum import EnumInfo, register_enum
from psycopg.types.json import Jsonb
from psycopg.types.range import Range
import enum

from tour import DATABASE, HOST, PASSWORD, PORT, USER, in_threads, run, section, show


def connect(**more):
    kw = dict(host=HOST, port=PORT, user=USER, password=PASSWORD, dbname=DATABASE, connect_timeout=20)
    kw.update(more)
    return psycopg.connect(**kw)


def attempt(what, function):
    try:
        show(what, function())
    except psycopg.Error as error:
        d = error.diag
        show(what, type(error).__name__, d.sqlstate, d.severity, d.message_primary, d.message_detail, d.message_hint,
             d.constraint_name, d.table_name, d.statement_position)
    except Exception as error:
        show(what, type(error).__name__, error)


@section
def connecting():
    with connect(application_name="tour", options="-c search_path=elsewhere,public -c statement_timeout=54321 -c geqo=off") as c:
        show(c.info.parameter_status("application_name"), c.info.parameter_status("server_encoding"),
             c.info.parameter_status("client_encoding"), c.info.parameter_status("DateStyle"),
             c.info.parameter_status("integer_datetimes"), c.info.server_version, c.info.transaction_status.name)
        for name in "search_path", "statement_timeout", "geqo", "application_name":
            show(name, c.execute(sql.SQL("SHOW {}").format(sql.Identifier(name))).fetchone())
        c.rollback()
        show(c.execute("SHOW search_path").fetchone())
    attempt("a bad option", lambda: connect(options="-c nonsense=1").close())
    attempt("a bad value", lambda: connect(options="-c statement_timeout=soon").close())
    with connect(client_encoding="latin1") as c:
        show(c.execute("SELECT %s::text, 'é'", ("ü",)).fetchone(), c.info.encoding)
    for protocol in "3.0",:
        with connect(sslmode="prefer", gssencmode="disable", keepalives=1, target_session_attrs="read-write") as c:
            show(c.execute("SELECT 1").fetchone())


Mood = enum.Enum("Mood", {label: label for label in ("sad", "ok", "happy day")})


@section
def types():
    with connect(autocommit=True) as c:
        c.execute("CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy day')")
        c.execute("CREATE TYPE point3 AS (x int, y text, z numeric)")
        c.execute("CREATE DOMAIN positive AS int CHECK (VALUE > 0)")
        c.execute("""CREATE TABLE kinds (id serial PRIMARY KEY, i2 smallint, i4 int, i8 bigint, f4 real, f8 double precision,
            n numeric(20,5), t text, v varchar(10), ch char(5), b bytea, bo boolean, d date, ts timestamp, tz timestamptz,
            tm time, iv interval, u uuid, j json, jb jsonb, ia int[], ta text[], r int4range, ip inet, m mood, p point3, po positive,
            nn numeric[][])""")
        register_enum(EnumInfo.fetch(c, "mood"), c, Mood)
        info = CompositeInfo.fetch(c, "point3")
        register_composite(info, c)
        point3 = info.python_type
        utc = datetime.timezone.utc
        full = (1, -2, 3**39, 1.5, 2.25, decimal.Decimal("12345.67890"), "naïve\n\\ 'q'", "ten chars!", "abc", bytes(range(256)), True,
                datetime.date(2024, 2, 29), datetime.datetime(2024, 1, 2, 3, 4, 5, 678), datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=utc),
                datetime.time(12, 34, 56), datetime.timedelta(days=3, seconds=7), uuid.UUID(int=5), Jsonb({"a": [1, None]}), Jsonb({"b": "ü"}),
                [1, None, 3], ["a", None, 'c"d', "{}"], Range(1, 5), ipaddress.ip_address("10.0.0.1"), Mood["happy day"], point3(1, "two", decimal.Decimal("3.5")), 7,
                [[decimal.Decimal(1), decimal.Decimal("2.5")], [None, decimal.Decimal(4)]])
        columns = "i2,i4,i8,f4,f8,n,t,v,ch,b,bo,d,ts,tz,tm,iv,u,j,jb,ia,ta,r,ip,m,p,po,nn"
        places = ",".join(["%s"] * len(full))
        for binary in False, True:
            cur = c.cursor(binary=binary)
            marks = places.replace("%s", "%b") if binary else places
            attempt("insert", lambda: cur.execute(f"INSERT INTO kinds ({columns}) VALUES ({marks}) RETURNING id", full).fetchone())
            cur.execute(f"INSERT INTO kinds ({columns}) VALUES ({places})", (None,) * len(full))
            for row in cur.execute("SELECT * FROM kinds ORDER BY id"):
                show(row)
            show([(d.name, d.type_code if d.type_code < 16384 else "own", d.internal_size, d.precision, d.scale) for d in cur.description])
        attempt("domain", lambda: c.execute("INSERT INTO kinds (po) VALUES (%s)", (-1,)))
        attempt("range", lambda: c.execute("INSERT INTO kinds (i2) VALUES (%s)", (100000,)))
        attempt("enum", lambda: c.execute("INSERT INTO kinds (m) VALUES ('angry')"))
        attempt("cast", lambda: c.execute("SELECT %s::int", ("x1",)))
        for zone in "UTC", "Europe/Berlin", "America/New_York":
            c.execute(f"SET TimeZone TO '{zone}'")
            show(c.execute("SELECT tz FROM kinds WHERE id = 1").fetchone()[0].isoformat(), c.info.parameter_status("TimeZone"))
        c.execute("SET DateStyle TO 'SQL, DMY'")
        show(c.execute("SELECT d::text, ts::text FROM kinds WHERE id = 1").fetchone(), c.info.parameter_status("DateStyle"))
        attempt("date in another style", lambda: c.execute("SELECT d, ts FROM kinds WHERE id = 1").fetchone())
        c.execute("RESET ALL")
        show(c.execute("SELECT d::text, ts::text FROM kinds WHERE id = 1").fetchone(), c.info.parameter_status("DateStyle"))


@section
def prepared():
    with connect(autocommit=True, prepare_threshold=2) as c:
        c.execute("CREATE TABLE numbers (id int PRIMARY KEY, v text)")
        for i in range(30):
            c.execute("INSERT INTO numbers VALUES (%s, %s)", (i, f"v{i}"))
        for i in range(10):
            show(c.execute("SELECT v FROM numbers WHERE id = %s", (i,)).fetchone())
        for i in range(3):
            show(c.execute("SELECT v, id FROM numbers WHERE id = %s", (i,), prepare=True).fetchone())
            show(c.execute("SELECT * FROM numbers WHERE id = %s", (i,), prepare=True).fetchone())
        c.execute("ALTER TABLE numbers ADD COLUMN extra int DEFAULT 5")
        for i in range(3):
            attempt("after ALTER", lambda: c.execute("SELECT * FROM numbers WHERE id = %s", (i,), prepare=True).fetchone())
        c.execute("ALTER TABLE numbers ALTER COLUMN v TYPE varchar(20)")
        for i in range(3):
            attempt("after ALTER TYPE", lambda: c.execute("SELECT * FROM numbers WHERE id = %s", (i,), prepare=True).fetchone())
        # More statements than psycopg keeps: it deallocates.
        c.prepared_max = 5
        for i in range(20):
            for _ in range(3):
                c.execute(f"SELECT {i}, %s::int", (i,)).fetchone()
        show(c.execute("SELECT count(*) FROM numbers").fetchone())
        c.execute("DEALLOCATE ALL")
        for i in range(3):
            attempt("after DEALLOCATE ALL", lambda: c.execute("SELECT v FROM numbers WHERE id = %s", (i,)).fetchone())
        c.execute("DISCARD ALL")
        for i in range(3):
            attempt("after DISCARD ALL", lambda: c.execute("SELECT v FROM numbers WHERE id = %s", (i,)).fetchone())
        c.execute("PREPARE byhand (int) AS SELECT v FROM numbers WHERE id = $1")
        show(c.execute("EXECUTE byhand(4)").fetchone())
        show(c.execute("SELECT name, statement, parameter_types::text, from_sql FROM pg_prepared_statements ORDER BY 1").fetchall())
        c.execute("DEALLOCATE byhand")
        attempt("gone", lambda: c.execute("EXECUTE byhand(4)"))


@section
def transactions():
    with connect() as c:
        c.execute("CREATE TABLE accounts (id int PRIMARY KEY, amount numeric CHECK (amount >= 0), note text)")
        c.execute("INSERT INTO accounts SELECT i, 100 FROM generate_series(1, 5) i")
        c.commit()
        attempt("check", lambda: c.execute("UPDATE accounts SET amount = amount - 500 WHERE id = 1"))
        show(c.info.transaction_status.name)
        attempt("aborted", lambda: c.execute("SELECT 1"))
        c.rollback()
        show(c.info.transaction_status.name)
        with c.transaction():
            c.execute("UPDATE accounts SET amount = 1 WHERE id = 1")
            try:
                with c.transaction():
                    c.execute("UPDATE accounts SET amount = 2 WHERE id = 1")
                    with c.transaction("named"):
                        c.execute("INSERT INTO accounts VALUES (1, 1)")
            except psycopg.errors.UniqueViolation as error:
                show("inner", error.diag.message_primary, error.diag.message_detail, error.diag.constraint_name)
            try:
                with c.transaction(force_rollback=True):
                    c.execute("UPDATE accounts SET amount = 3 WHERE id = 1")
            except psycopg.Error as error:
                show("?", error)
        show(c.execute("SELECT * FROM accounts ORDER BY id").fetchall())
        c.rollback()
        for level in psycopg.IsolationLevel:
            c.isolation_level = level
            show(level.name, c.execute("SHOW transaction_isolation").fetchone())
            c.commit()
        c.isolation_level = None
        c.read_only = True
        attempt("read only", lambda: c.execute("DELETE FROM accounts"))
        c.rollback()
        c.read_only = None
        c.deferrable = True
        show(c.execute("SHOW transaction_deferrable").fetchone())
        c.rollback()
        c.deferrable = None
        # Two-phase commit by hand.
        c.tpc_begin(c.xid(1, "tour", "branch"))
        c.execute("UPDATE accounts SET note = 'two phases' WHERE id = 2")
        c.tpc_prepare()
        c.tpc_commit()
        show(c.execute("SELECT note FROM accounts WHERE id = 2").fetchone())
        c.rollback()
        show([str(x) for x in c.tpc_recover()])
        c.rollback()
        # Serialization.
        with connect(autocommit=True) as other:
            c.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            c.execute("SELECT * FROM accounts").fetchall()
            other.execute("UPDATE accounts SET note = 'other' WHERE id = 3")
            attempt("serialization", lambda: c.execute("UPDATE accounts SET note = 'mine' WHERE id = 3"))
            c.rollback()
        c.isolation_level = None
        # A deferred constraint speaks at COMMIT.
        c.execute("CREATE TABLE child (id int REFERENCES accounts DEFERRABLE INITIALLY DEFERRED)")
        c.commit()
        c.execute("INSERT INTO child VALUES (99)")
        attempt("commit", c.commit)
        show(c.info.transaction_status.name)
        attempt("set in a transaction", lambda: c.execute("SET TimeZone TO 'Asia/Tokyo'").statusmessage)
        show(c.execute("SHOW TimeZone").fetchone(), c.info.parameter_status("TimeZone"))
        c.rollback()
        show(c.execute("SHOW TimeZone").fetchone(), c.info.parameter_status("TimeZone"))
        c.rollback()
        c.execute("SET LOCAL work_mem TO '7MB'")
        show(c.execute("SHOW work_mem").fetchone())
        c.commit()
        show(c.execute("SHOW work_mem").fetchone())


@section
def pipelines():
    with connect(autocommit=True) as c:
        c.execute("CREATE TABLE piped (id int PRIMARY KEY, v text)")
        with c.pipeline() as p:
            cur = c.cursor()
            for i in range(200):
                cur.execute("INSERT INTO piped VALUES (%s, %s) RETURNING id", (i, "x" * i))
            p.sync()
        show(c.execute("SELECT count(*), sum(length(v)) FROM piped").fetchone())
        with c.cursor() as cur:
            cur.executemany("INSERT INTO piped VALUES (%s, %s) RETURNING id", [(i, None) for i in range(1000, 1500)], returning=True)
            got = []
            while True:
                got.append(cur.fetchone()[0])
                if not cur.nextset():
                    break
            show(len(got), got[:3], got[-1])
        show(c.execute("SELECT count(*) FROM piped").fetchone())
        try:
            with c.pipeline() as p:
                one = c.execute("INSERT INTO piped VALUES (5000, 'first')")
                two = c.execute("INSERT INTO piped VALUES (5000, 'again')")
                three = c.execute("INSERT INTO piped VALUES (5001, 'skipped')")
                p.sync()
                four = c.execute("INSERT INTO piped VALUES (5002, 'after the sync')")
        except psycopg.Error as error:
            show(type(error).__name__, error.diag.sqlstate, error.diag.message_detail)
        show(c.execute("SELECT id, v FROM piped WHERE id >= 5000 ORDER BY id").fetchall())
        with c.pipeline():
            with c.transaction():
                a = c.execute("SELECT 1")
                b = c.execute("SELECT generate_series(1, 3)")
                show(a.fetchall(), b.fetchall())
            try:
                with c.transaction():
                    c.execute("INSERT INTO piped VALUES (6000)")
                    c.execute("SELECT 1/0").fetchall()
            except psycopg.Error as error:
                show(type(error).__name__, error.diag.sqlstate)
            show(c.execute("SELECT count(*) FROM piped WHERE id = 6000").fetchone())
        # SET in a pipeline, and statements that see it.
        with c.pipeline():
            c.execute("SET TimeZone TO 'Asia/Tokyo'")
            a = c.execute("SHOW TimeZone")
            c.execute("SELECT set_config('my.own', 'seven', false)")
            b = c.execute("SELECT current_setting('my.own')")
            show(a.fetchall(), b.fetchall())
        show(c.execute("SHOW TimeZone").fetchone(), c.execute("SELECT current_setting('my.own')").fetchone())


@section
def cursors():
    with connect() as c:
        c.execute("CREATE TABLE many AS SELECT i AS id, repeat('x', i % 50) AS v FROM generate_series(1, 5000) i")
        c.commit()
        with c.cursor("streamed") as cur:
            cur.itersize = 333
            cur.execute("SELECT id, v FROM many ORDER BY id")
            show(sum(row[0] for row in cur), cur.description[0].name)
        with c.cursor("scrolled", scrollable=True) as cur:
            cur.execute("SELECT id FROM many ORDER BY id")
            show(cur.fetchone(), cur.fetchmany(2))
            cur.scroll(100)
            show(cur.fetchone())
            cur.scroll(-50)
            show(cur.fetchone())
            cur.scroll(4999, mode="absolute")
            show(cur.fetchall())
        c.commit()
        with c.cursor("kept", withhold=True) as cur:
            cur.execute("SELECT id FROM many ORDER BY id LIMIT 10")
            show(cur.fetchmany(3))
            c.commit()
            show(cur.fetchmany(3))
            c.rollback()
            show(cur.fetchall())
        c.commit()
        cur = c.cursor("lost")
        cur.execute("SELECT id FROM many ORDER BY id")
        show(cur.fetchone())
        c.commit()
        attempt("after the transaction", cur.fetchone)
        c.rollback()
        with c.cursor() as cur:
            show(sum(row[0] for row in cur.stream("SELECT id FROM many")))
        show(len(c.cursor(row_factory=dict_row).execute("SELECT id, v FROM many WHERE id < 4 ORDER BY id").fetchall()[0]))
        with c.cursor() as cur:
            # Left early, it is cancelled: too much to have been sent before that.
            for row in cur.stream("SELECT i, repeat('x', 10000) FROM generate_series(1, 6000) i"):
                if row[0] == 10:
                    break
        show(c.info.transaction_status.name)
        c.rollback()
        with psycopg.ServerCursor(c, "params") as cur:
            cur.execute("SELECT id FROM many WHERE id > %s AND v <> %s ORDER BY id", (4990, "x"))
            show(cur.fetchall())
        with psycopg.ClientCursor(c) as cur:
            cur.execute("SELECT %s, %s, %s", ("it's", None, datetime.date(2020, 1, 1)))
            show(cur.fetchall())
            cur.execute("SELECT 1; SELECT 'two', 3; CREATE TEMP TABLE IF NOT EXISTS tt (i int) ON COMMIT DROP; SELECT 4")
            show(cur.fetchall(), cur.nextset(), cur.fetchall(), cur.nextset(), cur.nextset(), cur.fetchall(), cur.nextset())
        c.rollback()
        with psycopg.RawCursor(c) as cur:
            show(cur.execute("SELECT $1::int + $2::int", (1, 2)).fetchone())


@section
def copying():
    with connect(autocommit=True) as c:
        c.execute("CREATE TABLE copied (id int PRIMARY KEY, v text, n numeric)")
        with c.cursor().copy("COPY copied FROM STDIN") as copy:
            for i in range(3000):
                copy.write_row((i, None if i % 7 == 0 else f"line\t{i}\n\\", decimal.Decimal(i) / 4))
        show(c.execute("SELECT count(*), count(v), sum(n), sum(length(v)) FROM copied").fetchone())
        with c.cursor().copy("COPY copied FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int4", "text", "numeric"])
            for i in range(5000, 5500):
                copy.write_row((i, "b", decimal.Decimal("1.5")))
        with c.cursor().copy("COPY (SELECT * FROM copied WHERE id < 4 ORDER BY id) TO STDOUT") as copy:
            for row in copy.rows():
                show(row)
        with c.cursor().copy("COPY (SELECT * FROM copied WHERE id IN (5, 5001) ORDER BY id) TO STDOUT (FORMAT binary)") as copy:
            show(b"".join(bytes(block) for block in copy))
        with c.cursor().copy("COPY copied TO STDOUT (FORMAT csv, HEADER)") as copy:
            show(sum(len(block) for block in copy))

        def twice():
            with c.cursor().copy("COPY copied FROM STDIN") as copy:
                for i in range(2000):
                    copy.write_row((10, "again", 1))

        def malformed():
            with c.cursor().copy("COPY copied FROM STDIN") as copy:
                copy.write("900000\tx\n")

        def abandoned():
            with c.cursor().copy("COPY copied FROM STDIN") as copy:
                copy.write_row((99999, "never", 1))
                raise ValueError("changed my mind")

        def half_read():
            with c.cursor().copy("COPY copied TO STDOUT") as copy:
                copy.read()
                raise ValueError("seen enough")

        for function in twice, malformed, abandoned, half_read:
            attempt(function.__name__, function)
            show(c.info.transaction_status.name, c.execute("SELECT count(*) FROM copied").fetchone())
        with c.transaction():
            with c.cursor().copy("COPY copied (id) FROM STDIN") as copy:
                copy.write("77777\n77778\n")
            show(c.execute("SELECT id FROM copied WHERE id > 70000 ORDER BY id").fetchall())


@section
def notifications():
    with connect(autocommit=True) as listener, connect(autocommit=True) as speaker:
        listener.execute("LISTEN tour_news")
        listener.execute('LISTEN "Tour Quoted"')
        for i in range(3):
            speaker.execute("SELECT pg_notify('tour_news', %s)", (f"message {i}",))
        speaker.execute("NOTIFY \"Tour Quoted\", 'by statement'")
        got = list(listener.notifies(timeout=10, stop_after=4))
        show([(n.channel, n.payload) for n in got])
        with speaker.transaction():
            speaker.execute("NOTIFY tour_news, 'on commit'")
            show(list(listener.notifies(timeout=0.2)))
        show([(n.channel, n.payload) for n in listener.notifies(timeout=10, stop_after=1)])
        listener.execute("NOTIFY tour_news, 'to myself'")
        show([(n.channel, n.payload, n.pid == listener.info.backend_pid) for n in listener.notifies(timeout=10, stop_after=1)][0][:2])
        # Through pgherd it can be asked for in this form alone.
        show(sorted(listener.execute("SELECT * FROM pg_listening_channels()").fetchall()))
        listener.execute("UNLISTEN tour_news")
        speaker.execute("NOTIFY tour_news, 'nobody hears'")
        speaker.execute("NOTIFY \"Tour Quoted\", 'somebody hears'")
        show([(n.channel, n.payload) for n in listener.notifies(timeout=10, stop_after=1)])
        seen = []
        listener.add_notice_handler(lambda d: seen.append((d.severity, d.sqlstate, d.message_primary)))
        listener.execute("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$")
        listener.execute("DROP TABLE IF EXISTS not_there")
        listener.execute("SET client_min_messages TO error")
        listener.execute("DROP TABLE IF EXISTS not_there")
        show(seen)


@section
def cancelling():
    with connect(autocommit=True) as c:
        for how in "cancel_safe", "cancel":
            timer = threading.Timer(0.3, getattr(c, how))
            timer.start()
            attempt(how, lambda: c.execute("SELECT pg_sleep(20)"))
            timer.join()
            show(c.info.transaction_status.name, c.execute("SELECT 1").fetchone())
        c.execute("SET statement_timeout TO '100ms'")
        attempt("statement_timeout", lambda: c.execute("SELECT pg_sleep(20)"))
        c.execute("RESET statement_timeout")
        show(c.execute("SHOW statement_timeout").fetchone())
        attempt("SET LOCAL outside", lambda: c.execute("SET LOCAL statement_timeout TO '100ms'").statusmessage)
        with connect(autocommit=True) as other, connect() as holder:
            holder.execute("CREATE TABLE IF NOT EXISTS locked (i int)")
            holder.commit()
            holder.execute("LOCK TABLE locked")
            other.execute("SET lock_timeout TO '100ms'")
            attempt("lock_timeout", lambda: other.execute("SELECT * FROM locked"))
            holder.rollback()
            show(other.execute("SELECT count(*) FROM locked").fetchone())
        # A cancel when nothing runs hurts nobody.
        c.cancel_safe()
        show(c.execute("SELECT 2").fetchone())
    with connect() as c:
        c.execute("SELECT 1")
        timer = threading.Timer(0.3, c.cancel_safe)
        timer.start()
        attempt("in a transaction", lambda: c.execute("SELECT pg_sleep(20)"))
        timer.join()
        show(c.info.transaction_status.name)


@section
def session_things():
    with connect(autocommit=True) as c, connect(autocommit=True) as other:
        c.execute("CREATE TEMP TABLE mine (i int)")
        c.execute("INSERT INTO mine VALUES (1), (2)")
        show(c.execute("SELECT sum(i) FROM mine").fetchone())
        attempt("not theirs", lambda: other.execute("SELECT * FROM mine"))
        show(c.execute("SELECT pg_advisory_lock(4711)").fetchone())
        show(other.execute("SELECT pg_try_advisory_lock(4711)").fetchone())
        c.execute("SELECT pg_advisory_unlock(4711)")
        show(other.execute("SELECT pg_try_advisory_lock(4711)").fetchone())
        other.execute("SELECT pg_advisory_unlock_all()")
        c.execute("DISCARD ALL")
        attempt("discarded", lambda: c.execute("SELECT * FROM mine"))
        c.execute("CREATE SEQUENCE IF NOT EXISTS ticks")
        with c.transaction():
            show(c.execute("SELECT nextval('ticks')").fetchone(), c.execute("SELECT currval('ticks'), lastval()").fetchone())
        show(c.execute("SELECT set_config('tour.key', 'value', false)").fetchone())
        show(c.execute("SELECT current_setting('tour.key')").fetchone(),
             other.execute("SELECT current_setting('tour.key', true)").fetchone()[0] or None)
        c.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
        attempt("read only", lambda: c.execute("CREATE TABLE never (i int)"))
        c.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE")
        c.execute("SET ROLE app")
        show(c.execute("SELECT current_user, session_user").fetchone())
        c.execute("RESET ROLE")
        attempt("role", lambda: c.execute("SET ROLE nobody_at_all"))
        show(c.execute("SHOW transaction_read_only").fetchone())


@section
def large():
    with connect(autocommit=True) as c:
        rows = c.execute("SELECT i, repeat('y', 1000) FROM generate_series(1, 20000) i").fetchall()
        show(len(rows), sum(len(r[1]) for r in rows))
        big = "z" * 30_000_000
        show(len(c.execute("SELECT %s || 'a'", (big,)).fetchone()[0]))
        show(len(c.execute("SELECT %b::bytea", (big.encode(),)).fetchone()[0]))
        values = list(range(60000))
        show(c.execute("SELECT count(*), sum(x) FROM (VALUES " + ",".join(["(%s::int)"] * len(values)) + ") v(x)", values).fetchone())
        show(len(c.execute("SELECT " + ",".join(f"{i} AS c{i}" for i in range(1600))).fetchone()))
        attempt("too many columns", lambda: c.execute("SELECT " + ",".join(str(i) for i in range(2000))))
        attempt("empty", lambda: c.execute("").statusmessage)
        attempt("comment", lambda: c.execute("-- nothing\n").statusmessage)


@section
def many_clients():
    with connect(autocommit=True) as c:
        c.execute("CREATE TABLE counters (id int PRIMARY KEY, n int)")
        c.execute("INSERT INTO counters SELECT i, 0 FROM generate_series(0, 15) i")

    def work(number):
        zone = ["UTC", "Europe/Paris", "Asia/Tokyo", "America/Lima"][number % 4]
        wrong = []
        with connect(prepare_threshold=1, application_name=f"client {number}", options=f"-c timezone={zone}") as c:
            for turn in range(40):
                with c.transaction():
                    c.execute("UPDATE counters SET n = n + 1 WHERE id = %s", (number,))
                    c.execute("UPDATE counters SET n = n + 1 WHERE id = %s", (15,))
                    if turn % 10 == 9:
                        try:
                            with c.transaction():
                                c.execute("SELECT 1/%s", (0,))
                        except psycopg.errors.DivisionByZero:
                            pass
                    row = c.execute("SELECT current_setting('application_name'), current_setting('TimeZone'), %s::int", (turn,)).fetchone()
                    if row != (f"client {number}", zone, turn):
                        wrong.append(row)
                c.autocommit = False
        return wrong

    show(in_threads(12, work))
    with connect() as c:
        show(c.execute("SELECT * FROM counters ORDER BY id").fetchall())


if __name__ == "__main__":
    run()
