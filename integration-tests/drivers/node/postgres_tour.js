// postgres.js: pipelines what it can, prepares everything under names of its own.
'use strict'

const postgres = require('postgres')
const { Readable } = require('node:stream')
const { pipeline } = require('node:stream/promises')
const { attempt, options, pause, run, show } = require('./tour')

async function connected(work, more = {}) {
  const { user, ...rest } = options
  const sql = postgres({ ...rest, username: user, max: 1, onnotice: () => {}, ...more })
  try {
    return await work(sql)
  } finally {
    await sql.end({ timeout: 5 })
  }
}

async function connecting() {
  await connected(async (sql) => {
    show(await sql`SELECT current_setting('application_name') AS a, current_setting('search_path') AS s, current_setting('statement_timeout') AS t`)
    show(sql.parameters.server_version !== undefined, sql.parameters.TimeZone, sql.parameters.application_name)
  }, { connection: { application_name: 'postgres.js tour', search_path: 'one,public', statement_timeout: 54321 } })
  await attempt('no such database', () => connected((sql) => sql`SELECT 1`, { database: 'no_such_database' }))
}

async function kinds() {
  await connected(async (sql) => {
    await sql`CREATE TYPE mood AS ENUM ('sad', 'ok')`
    await sql`CREATE TABLE kinds (id serial PRIMARY KEY, i4 int, i8 int8, f8 float8, n numeric, t text, b bytea, bo bool, d date, tz timestamptz,
      u uuid, j json, jb jsonb, ia int[], ta text[], m mood)`
    const row = { i4: -2, i8: '9007199254740993', f8: 2.5, n: '12345.67890', t: 'naïve\n', b: Buffer.from([0, 1, 255]), bo: true, d: '2024-02-29',
      tz: new Date(Date.UTC(2024, 0, 2)), u: '00000000-0000-0000-0000-000000000005', j: sql.json({ a: [1, null] }), jb: sql.json({ b: 'ü' }), ia: [1, 2], ta: ['a', 'c"d'], m: 'ok' }
    show(await sql`INSERT INTO kinds ${sql(row)} RETURNING *`)
    show(await sql`INSERT INTO kinds ${sql([{ i4: 1, t: null }, { i4: 2, t: 'two' }])} RETURNING id, i4, t`)
    show(await sql`SELECT * FROM kinds WHERE id IN ${sql([1, 2])} ORDER BY id`)
    show(await sql`UPDATE kinds SET ${sql({ t: 'changed' }, 't')} WHERE id = ${1} RETURNING t`)
    const result = await sql`SELECT id, i8 FROM kinds ORDER BY id`
    show(result.count, result.command, result.columns.map((c) => [c.name, c.type]))
    show(await sql`SELECT i4, t FROM kinds ORDER BY id`.values(), await sql`SELECT i4 FROM kinds WHERE id = 1`.raw())
    show(await sql`SELECT i4, m FROM kinds WHERE m = ${'ok'}`.describe().then((d) => [d.types.length, d.columns.map((c) => c.name)]))
    show(await sql`SELECT 1 AS a; SELECT 2 AS b`.simple())
    show(await sql.unsafe('SELECT $1::int + 1 AS n', [4]))
    await attempt('cast', () => sql`SELECT ${'x'}::int`)
    await attempt('unique', () => sql`INSERT INTO kinds (id) VALUES (1)`)
    await attempt('syntax', () => sql`SELEC 1`)
  })
}

async function pipelined() {
  await connected(async (sql) => {
    await sql`CREATE TABLE piped (id int PRIMARY KEY, v text)`
    const all = await Promise.all([...Array(300).keys()].map((i) => sql`INSERT INTO piped VALUES (${i}, ${'v' + i}) RETURNING id`))
    show(all.length, all[299])
    const mixed = await Promise.allSettled([...Array(20).keys()].map((i) => sql`SELECT 100 / (${i}::int - 10) AS n`))
    show(mixed.map((m) => (m.status === 'fulfilled' ? m.value[0].n : m.reason.code)))
    const kinds = await Promise.allSettled([sql`SELECT 1 AS n`, sql`SELECT * FROM nowhere`, sql`SELECT 2 AS n`, sql`INSERT INTO piped VALUES (1)`, sql`SELECT 3 AS n`])
    show(kinds.map((m) => (m.status === 'fulfilled' ? m.value[0].n : m.reason.message)))
    await sql`ALTER TABLE piped ADD COLUMN more int DEFAULT 3`
    for (const id of [1, 2]) await attempt('after ALTER', () => sql`SELECT * FROM piped WHERE id = ${id}`)
    for (const type of ['varchar(10)', 'text']) {
      await sql.unsafe(`ALTER TABLE piped ALTER v TYPE ${type}`)
      await attempt('after ALTER TYPE', () => sql`SELECT * FROM piped WHERE id = ${3}`)
    }
  })
  await connected(async (sql) => {
    for (const id of [1, 2, 3]) show(await sql`SELECT v FROM piped WHERE id = ${id}`)
  }, { prepare: false })
}

async function transactions() {
  await connected(async (sql) => {
    await sql`CREATE TABLE accounts (id int PRIMARY KEY, n int)`
    show(await sql.begin(async (sql) => {
      await sql`INSERT INTO accounts VALUES (1, 1)`
      await attempt('savepoint', () => sql.savepoint(async (sql) => {
        await sql`INSERT INTO accounts VALUES (2, 2)`
        await sql`INSERT INTO accounts VALUES (1, 1)`
      }))
      return sql`SELECT * FROM accounts`
    }))
    await attempt('rolled back', () => sql.begin(async (sql) => {
      await sql`DELETE FROM accounts`
      throw new Error('changed my mind')
    }))
    show(await sql`SELECT * FROM accounts`)
    show(await sql.begin('ISOLATION LEVEL REPEATABLE READ READ ONLY', (sql) => [sql`SHOW transaction_isolation`, sql`SHOW transaction_read_only`]))
    await attempt('read only', () => sql.begin('READ ONLY', (sql) => sql`DELETE FROM accounts`))
    const reserved = await sql.reserve()
    await reserved`SET work_mem TO '11MB'`
    show(await reserved`SHOW work_mem`)
    reserved.release()
  })
}

async function cursors() {
  await connected(async (sql) => {
    await sql`CREATE TABLE many AS SELECT i AS id FROM generate_series(1, 3000) i`
    let total = 0
    await sql`SELECT id FROM many ORDER BY id`.cursor(100, (rows) => { total += rows.length })
    for await (const rows of sql`SELECT id FROM many WHERE id > ${10} ORDER BY id`.cursor(33)) total += rows[0].id
    for await (const rows of sql`SELECT id FROM many ORDER BY id`.cursor(10)) if (rows[0].id > 20) break
    await sql`SELECT id FROM many`.forEach((row) => { total += row.id })
    show(total)
    show(await sql`SELECT 1 AS after`)
  })
}

async function copying() {
  await connected(async (sql) => {
    await sql`CREATE TABLE copied (id int PRIMARY KEY, v text)`
    await pipeline(Readable.from(Array.from({ length: 3000 }, (_, i) => `${i}\tline ${i}\n`)), await sql`COPY copied FROM STDIN`.writable())
    show(await sql`SELECT count(*) FROM copied`)
    let bytes = 0
    for await (const chunk of await sql`COPY copied TO STDOUT`.readable()) bytes += chunk.length
    show(bytes)
  })
}

async function notifications() {
  await connected(async (sql) => {
    const heard = []
    const { unlisten } = await sql.listen('js_news', (payload) => heard.push(payload), () => heard.push('listening'))
    await sql.notify('js_news', 'one')
    await sql`SELECT pg_notify('js_news', ${'two'})`
    for (let i = 0; heard.length < 3 && i < 500; i++) await pause(10)
    show(heard)
    await unlisten()
  })
}

async function cancelling() {
  await connected(async (sql) => {
    const slow = sql`SELECT pg_sleep(20)`.execute()
    setTimeout(() => slow.cancel(), 300)
    await attempt('cancelled', () => slow)
    show(await sql`SELECT 1 AS n`)
    await sql`SET statement_timeout TO 200`
    await attempt('statement_timeout', () => sql`SELECT pg_sleep(20)`)
    await sql`RESET statement_timeout`
    show(await sql`SHOW statement_timeout`)
  })
}

async function pooled() {
  await connected(async (sql) => {
    await sql`CREATE TABLE shared (id int PRIMARY KEY, n int)`
    await sql`INSERT INTO shared SELECT i, 0 FROM generate_series(0, 19) i`
    const work = async (n) => {
      const seen = new Set()
      for (let turn = 0; turn < 20; turn++) {
        await sql.begin(async (sql) => {
          await sql.unsafe(`SET LOCAL application_name TO 'w${n}'`)
          await sql`UPDATE shared SET n = n + 1 WHERE id = ${n}`
          seen.add((await sql`SHOW application_name`)[0].application_name)
        })
        seen.add((await sql`SELECT current_setting('application_name') AS a, ${n}::int AS n`)[0].n)
      }
      return [...seen]
    }
    for (const result of await Promise.all([...Array(20).keys()].map(work))) show(result)
    show((await sql`SELECT n FROM shared ORDER BY id`).map((r) => r.n))
  }, { max: 8 })
}

async function large() {
  await connected(async (sql) => {
    const rows = await sql`SELECT i, repeat('y', 1000) AS y FROM generate_series(1, 20000) i`
    show(rows.length, rows.reduce((n, r) => n + r.y.length, 0))
    show((await sql`SELECT ${'z'.repeat(20_000_000)} || 'a' AS big`)[0].big.length)
  })
}

run([connecting, kinds, pipelined, transactions, cursors, copying, notifications, cancelling, pooled, large])
