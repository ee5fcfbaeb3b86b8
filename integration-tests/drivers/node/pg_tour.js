// node-postgres with pg-cursor, pg-query-stream and pg-copy-streams.
'use strict'

const { Client, Pool, types } = require('pg')
const Cursor = require('pg-cursor')
const QueryStream = require('pg-query-stream')
const { from: copyFrom, to: copyTo } = require('pg-copy-streams')
const { pipeline } = require('node:stream/promises')
const { Readable } = require('node:stream')
const { attempt, options, pause, run, said, show } = require('./tour')

async function connected(work, more = {}) {
  const client = new Client({ ...options, ...more })
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}

async function connecting() {
  await connected(async (c) => {
    for (const name of ['application_name', 'search_path', 'statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout'])
      show(name, (await c.query(`SHOW ${name}`)).rows)
  }, { application_name: 'node tour', options: '-c search_path=one,public', statement_timeout: 12345, lock_timeout: 2345, idle_in_transaction_session_timeout: 60000 })
  await attempt('no such database', () => connected(async () => 'connected', { database: 'no_such_database' }))
  await attempt('wrong password', () => connected(async () => 'connected', { password: 'wrong' }))
}

async function kinds() {
  await connected(async (c) => {
    await c.query(`CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE pair AS (a int, b text);
      CREATE TABLE kinds (id serial PRIMARY KEY, i2 int2, i4 int, i8 int8, f8 float8, n numeric, t text, b bytea, bo bool, d date, ts timestamp, tz timestamptz,
      iv interval, u uuid, j json, jb jsonb, ia int[], ta text[], m mood, p pair, pt point)`)
    const values = [1, -2, '9007199254740993', 2.5, '12345.67890', 'naïve\n', Buffer.from([0, 1, 255]), true, '2024-02-29', '2024-01-02 03:04:05.678',
      new Date(Date.UTC(2024, 0, 2, 3, 4, 5)), '3 days 4 hours', '00000000-0000-0000-0000-000000000005', { a: [1, null] }, { b: 'ü' }, [1, null, 3],
      ['a', null, 'c"d,{}'], 'ok', '(1,two)', '(1.5,2)']
    const marks = values.map((_, i) => `$${i + 1}`).join(',')
    const columns = 'i2,i4,i8,f8,n,t,b,bo,d,ts,tz,iv,u,j,jb,ia,ta,m,p,pt'
    await attempt('insert', async () => (await c.query(`INSERT INTO kinds (${columns}) VALUES (${marks}) RETURNING id`, values)).rows)
    await attempt('nulls', async () => (await c.query(`INSERT INTO kinds (${columns}) VALUES (${marks}) RETURNING id`, values.map(() => null))).rows)
    for (const query of [{ text: 'SELECT * FROM kinds ORDER BY id' }, { text: 'SELECT * FROM kinds ORDER BY id', rowMode: 'array' },
      { text: 'SELECT i2, i8, f8, t, b, ta FROM kinds WHERE id > $1 ORDER BY id', values: [0], binary: true }]) {
      const result = await c.query(query)
      for (const row of result.rows) show(row)
      show(result.command, result.rowCount, result.fields.map((f) => [f.name, f.dataTypeID < 16384 ? f.dataTypeID : 'own', f.format]))
    }
    await attempt('cast', () => c.query('SELECT $1::int', ['x']))
    await attempt('enum', () => c.query('INSERT INTO kinds (m) VALUES ($1)', ['angry']))
    await attempt('several', async () => (await c.query('SELECT 1 AS one; SELECT 2 AS two, 3; UPDATE kinds SET t = t')).map((r) => [r.command, r.rowCount, r.rows]))
    await attempt('several, one fails', () => c.query("INSERT INTO kinds (t) VALUES ('gone'); SELECT 1/0; SELECT 2"))
    show((await c.query("SELECT count(*) FROM kinds WHERE t = 'gone'")).rows)
    await attempt('empty', async () => (await c.query('')).rows)
    await attempt('too few values', () => c.query('SELECT $1::int, $2::int', [1]))
    await c.query("SET TimeZone TO 'Asia/Tokyo'")
    show((await c.query('SELECT tz::text FROM kinds WHERE id = 1')).rows)
  })
}

async function named() {
  await connected(async (c) => {
    await c.query('CREATE TABLE numbers (id int PRIMARY KEY, v text)')
    for (let i = 0; i < 20; i++) await c.query({ name: 'put', text: 'INSERT INTO numbers VALUES ($1, $2)', values: [i, `v${i}`] })
    for (let i = 0; i < 8; i++) show((await c.query({ name: 'get', text: 'SELECT * FROM numbers WHERE id = $1', values: [i] })).rows)
    await attempt('unique', () => c.query({ name: 'put', text: 'INSERT INTO numbers VALUES ($1, $2)', values: [1, 'again'] }))
    await attempt('another text', () => c.query({ name: 'get', text: 'SELECT 1', values: [] }))
    await c.query('ALTER TABLE numbers ADD COLUMN more int DEFAULT 4')
    for (let i = 0; i < 3; i++) await attempt('after ALTER', async () => (await c.query({ name: 'get', text: 'SELECT * FROM numbers WHERE id = $1', values: [i] })).rows)
    await attempt('fails to parse', () => c.query({ name: 'bad', text: 'SELECT * FROM nowhere' }))
    await attempt('fails again', () => c.query({ name: 'bad', text: 'SELECT * FROM nowhere' }))
    // All at once on one connection.
    const all = await Promise.all([...Array(50).keys()].map((i) => c.query({ name: 'count', text: 'SELECT $1::int + count(*) AS n FROM numbers', values: [i] })))
    show(all.map((r) => r.rows[0].n))
  })
}

async function transactions() {
  await connected(async (c) => {
    await c.query('CREATE TABLE accounts (id int PRIMARY KEY, n int CHECK (n >= 0))')
    await c.query('INSERT INTO accounts VALUES (1, 10), (2, 20)')
    await c.query('BEGIN')
    await c.query('UPDATE accounts SET n = n - $1 WHERE id = $2', [5, 1])
    await c.query('SAVEPOINT s')
    await attempt('check', () => c.query('UPDATE accounts SET n = n - $1 WHERE id = $2', [50, 1]))
    await attempt('aborted', () => c.query('SELECT 1'))
    await c.query('ROLLBACK TO s')
    show((await c.query('SELECT * FROM accounts ORDER BY id')).rows)
    show((await c.query('COMMIT')).command)
    await c.query('BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE')
    await attempt('read only', () => c.query('DELETE FROM accounts'))
    show((await c.query('COMMIT')).command)
    show((await c.query('SELECT * FROM accounts ORDER BY id')).rows)
  })
}

async function cursors() {
  await connected(async (c) => {
    await c.query("CREATE TABLE many AS SELECT i AS id, repeat('x', i % 50) AS v FROM generate_series(1, 4000) i")
    const cursor = c.query(new Cursor('SELECT id FROM many WHERE id > $1 ORDER BY id', [10]))
    show((await cursor.read(3)).map((r) => r.id), (await cursor.read(100)).length)
    await cursor.close()
    let sum = 0
    for await (const row of c.query(new QueryStream('SELECT id, v FROM many ORDER BY id', [], { batchSize: 77 }))) sum += row.id
    show(sum)
    for await (const row of c.query(new QueryStream('SELECT id FROM many ORDER BY id'))) if (row.id > 20) break
    show((await c.query('SELECT 1 AS after')).rows)
    await attempt('error in a stream', async () => {
      for await (const row of c.query(new QueryStream('SELECT 100 / (50 - id) FROM many ORDER BY id', [], { batchSize: 20 }))) sum += 1
    })
    show(sum)
    await c.query('BEGIN')
    const first = c.query(new Cursor('SELECT id FROM many ORDER BY id'))
    show((await first.read(2)).map((r) => r.id))
    await first.close()
    await c.query('DECLARE byhand SCROLL CURSOR FOR SELECT id FROM many ORDER BY id')
    show((await c.query('FETCH 3 FROM byhand')).rows, (await c.query('FETCH LAST FROM byhand')).rows, (await c.query('FETCH BACKWARD 2 FROM byhand')).rows)
    await c.query('COMMIT')
  })
}

async function copying() {
  await connected(async (c) => {
    await c.query('CREATE TABLE copied (id int PRIMARY KEY, v text)')
    const lines = Array.from({ length: 5000 }, (_, i) => `${i}\t${i % 7 ? `line ${i}` : '\\N'}\n`)
    const into = c.query(copyFrom('COPY copied FROM STDIN'))
    await pipeline(Readable.from(lines), into)
    show(into.rowCount, (await c.query('SELECT count(*), count(v) FROM copied')).rows)
    let bytes = 0
    const out = c.query(copyTo('COPY (SELECT * FROM copied ORDER BY id) TO STDOUT (FORMAT csv)'))
    for await (const chunk of out) bytes += chunk.length
    show(bytes, out.rowCount)
    await attempt('duplicate', () => pipeline(Readable.from(['1\tx\n']), c.query(copyFrom('COPY copied FROM STDIN'))))
    show((await c.query('SELECT count(*) FROM copied')).rows)
    await attempt('no data', () => pipeline(Readable.from([]), c.query(copyFrom('COPY copied FROM STDIN'))))
    await attempt('COPY by query()', () => c.query('COPY copied FROM STDIN'))
    show((await c.query('SELECT count(*) FROM copied')).rows)
  })
}

async function notifications() {
  await connected(async (listener) => connected(async (speaker) => {
    const heard = []
    listener.on('notification', ({ channel, payload }) => heard.push([channel, payload]))
    await listener.query('LISTEN node_news')
    for (const n of [1, 2, 3]) await speaker.query('SELECT pg_notify($1, $2)', ['node_news', `number ${n}`])
    await speaker.query("NOTIFY node_news, 'by statement'")
    for (let i = 0; heard.length < 4 && i < 500; i++) await pause(10)
    show(heard)
    const notices = []
    listener.on('notice', (n) => notices.push([n.severity, n.code, n.message]))
    await listener.query("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two' USING HINT = 'h'; END $$")
    show(notices)
    await listener.query('UNLISTEN *')
  }))
}

async function timeouts() {
  await connected(async (c) => {
    await attempt('statement_timeout', () => c.query('SELECT pg_sleep(20)'))
    show((await c.query('SELECT 1 AS n')).rows)
  }, { statement_timeout: 200 })
  await attempt('query_timeout', () => connected((c) => c.query('SELECT pg_sleep(1)'), { query_timeout: 200 }))
  await connected(async (c) => connected(async (other) => {
    const { pid } = (await c.query("SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT pid%' AND pid = pg_backend_pid()")).rows[0]
    show(typeof pid)
    const slow = attempt('cancelled by another', () => c.query('SELECT pg_sleep(20), 4242'))
    await pause(300)
    const { rows } = await other.query("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(20), 4242'")
    await slow
    show(rows)
    show((await c.query('SELECT 2 AS n')).rows)
  }))
}

async function pooled() {
  const pool = new Pool({ ...options, max: 10, idleTimeoutMillis: 50 })
  await pool.query('CREATE TABLE shared (id int PRIMARY KEY, n int)')
  await pool.query('INSERT INTO shared SELECT i, 0 FROM generate_series(0, 29) i')
  const work = async (n) => {
    const seen = new Set()
    for (let turn = 0; turn < 20; turn++) {
      const c = await pool.connect()
      try {
        await c.query('BEGIN')
        await c.query(`SET LOCAL application_name TO 'w${n}'`)
        await c.query({ name: 'add', text: 'UPDATE shared SET n = n + 1 WHERE id = $1', values: [n] })
        seen.add((await c.query('SHOW application_name')).rows[0].application_name)
        await c.query('COMMIT')
        seen.add((await c.query('SHOW application_name')).rows[0].application_name)
      } finally {
        c.release(turn % 10 === 9)
      }
    }
    return [...seen]
  }
  for (const result of await Promise.all([...Array(30).keys()].map(work))) show(result)
  show((await pool.query('SELECT * FROM shared ORDER BY id')).rows.map((r) => r.n))
  await pool.end()
}

async function large() {
  await connected(async (c) => {
    const { rows } = await c.query("SELECT i, repeat('y', 1000) AS y FROM generate_series(1, 20000) i")
    show(rows.length, rows.reduce((n, r) => n + r.y.length, 0))
    show((await c.query("SELECT $1 || 'a' AS big", ['z'.repeat(20_000_000)])).rows[0].big.length)
    const values = [...Array(60000).keys()]
    show((await c.query(`SELECT count(*), sum(x) FROM (VALUES ${values.map((i) => `($${i + 1}::int)`).join()}) v(x)`, values)).rows)
  })
}

run([connecting, kinds, named, transactions, cursors, copying, notifications, timeouts, pooled, large])
