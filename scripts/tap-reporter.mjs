// Reporter for tap: prints one line per test file, all details of failures, and finally `N passed, N failed[, N skipped]`.
import { Transform } from 'node:stream'
import { Parser } from 'tap-parser'
import { stringify } from 'yaml'

export default class ClosingLineReporter extends Transform {
  passed = 0
  failed = 0
  skipped = 0
  parser = new Parser()

  constructor() {
    super({ encoding: 'utf8' })
    // The root parser emits an event for every assertion at any depth. For a subtest it emits one only if the subtest
    // itself fails or is skipped (a crash, a timeout, an import error).
    this.parser.on('pass', () => this.passed++)
    this.parser.on('skip', () => this.skipped++)
    this.parser.on('todo', () => this.skipped++)
    this.parser.on('fail', result => this.fail(result.fullname || result.name, result.diag))
    this.parser.on('assert', file =>
      this.push(`${file.ok ? 'ok' : 'NOT OK'} ${file.name} (${Math.round(file.time)} ms)\n`),
    )
    this.parser.on('extra', text => this.push(text))
    this.parser.on('bailout', reason => this.fail('Bail out!', { reason }))
  }

  fail(name, details) {
    this.failed++
    const lines = details ? stringify(details, { lineWidth: 0 }).replace(/^/gm, '  ').trimEnd() : ''
    this.push(`\nfailed: ${name}\n${lines}\n\n`)
  }

  _transform(chunk, _encoding, done) {
    this.parser.write(chunk)
    done()
  }

  _flush(done) {
    this.parser.end()
    if (!this.parser.results.ok && this.failed === 0) this.fail('the run', { failures: this.parser.results.failures })
    const skipped = this.skipped ? `, ${this.skipped} skipped` : ''
    this.push(`${this.passed} passed, ${this.failed} failed${skipped}\n`)
    done()
  }
}
