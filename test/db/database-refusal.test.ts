import t from 'tap'
import { databaseRefusal } from '../../src/db/database.ts'

t.test('a fault of the server or of the network is 503 with Retry-After, by its whole class', async t => {
  const codes = (
    '08000 08006 08P01 53000 53100 53200 53300 53400 57P01 57P02 57P03 57P05 57014 58000 58030 58P01 25006 25P03 25P04 ' +
    '40001 40P01 EHOSTUNREACH ENETUNREACH EAI_AGAIN ECONNABORTED ECONNREFUSED ECONNRESET ETIMEDOUT EPIPE'
  ).split(' ')
  for (const code of codes) {
    const refusal = databaseRefusal(Object.assign(new Error('a fault'), { code }))
    t.equal(refusal?.code, 'unavailable', code)
    t.ok(Number(refusal?.retryAfter) > 0, code)
  }
  t.match(databaseRefusal(new Error('The server does not support SSL connections')), { code: 'unavailable' })
})

t.test('a fault of a statement is no outage', async t => {
  for (const code of ['22021', '23502', '42601', '5X', 'EACCES', undefined]) {
    t.equal(databaseRefusal(Object.assign(new Error('a fault'), { code })), undefined, code ?? 'no code')
  }
})
