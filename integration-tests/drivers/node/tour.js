// What the programs for Node share: sections with a heading, and errors as an application sees them.
'use strict'

const { PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE, ONLY = '' } = process.env

exports.options = { host: PGHOST, port: Number(PGPORT), user: PGUSER, password: PGPASSWORD, database: PGDATABASE }

const text = (value) =>
  typeof value === 'string' ? value : JSON.stringify(value, (_, v) => (typeof v === 'bigint' ? `${v}n` : v instanceof Error ? said(v) : v))

const said = (error) =>
  [error.name, error.code, error.severity, error.message, error.detail, error.hint, error.position, error.constraint_name || error.constraint]
    .map((v) => v ?? '-').join(' | ')

const show = (...values) => console.log('  ', ...values.map(text))
exports.show = show
exports.said = said

exports.attempt = async (what, work) => {
  try {
    show(what, await work())
  } catch (error) {
    show(what, said(error))
  }
}

exports.pause = (ms) => new Promise((done) => setTimeout(done, ms))

exports.run = async (sections) => {
  for (const section of sections) {
    if (!section.name.includes(ONLY)) continue
    console.log('==', section.name)
    let timer
    try {
      const late = new Promise((_, fail) => { timer = setTimeout(() => fail(new Error('hangs')), 30_000) })
      await Promise.race([section(), late])
    } catch (error) {
      show('!! ended', said(error))
    }
    clearTimeout(timer)
  }
  process.exit(0)
}
