import type { FastifyError } from 'fastify'
import { databaseRefusal } from '../db/database.ts'
import { AppError } from '../errors.ts'

/** Of a request to the API, where its scope sets no limit of its own, in bytes. */
export const maxBodyBytes = 262_144

/**
 * Any thrown value as the one kind of refusal that the edges shape into an answer. What nobody foresaw becomes
 * `internal`, with the original as its cause for the log and nothing of it for the caller.
 * @param bodyLimit of the scope, in bytes
 */
export function toAppError(error: unknown, bodyLimit = maxBodyBytes): AppError {
  if (error instanceof AppError) return error
  const { code, statusCode, message } = error as FastifyError
  // As Node says it of a body; a database that hangs up has the same code.
  if (code === 'ECONNRESET' && message === 'aborted') {
    return new AppError('request_aborted', 'The connection ended before the request had come in whole.')
  }
  switch (code) {
    case 'FST_ERR_CTP_INVALID_JSON_BODY':
    case 'FST_ERR_CTP_EMPTY_JSON_BODY':
      return new AppError('malformed_json', 'The request body is not valid JSON.')
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return new AppError('unsupported_media_type', 'Send the body as application/json.')
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return new AppError(
        'body_too_large',
        `The request body is larger than the ${bodyLimit} bytes that are taken here.`,
      )
    case 'FST_ERR_CTP_INVALID_CONTENT_LENGTH':
      return new AppError('invalid', 'Content-Length does not match the body.')
    case 'FST_ERR_ASYNC_CONSTRAINT':
    case 'FST_ERR_BAD_URL':
      return new AppError('invalid', 'The URL is malformed.')
  }
  if (code?.startsWith('FST_') && statusCode !== undefined && statusCode < 500) return ofFramework(statusCode)
  // secure-json-parse refuses __proto__ and constructor keys with a bare SyntaxError.
  if (error instanceof SyntaxError && statusCode === 400) {
    return new AppError('malformed_json', 'The request body is not valid JSON, or has a forbidden key.')
  }
  return (
    databaseRefusal(error) ??
    new AppError('internal', 'Something went wrong here. Quote the request id to whoever runs this service.', {
      cause: error,
    })
  )
}

/** What Fastify itself refuses, such as a method or a length that no route takes. */
function ofFramework(statusCode: number): AppError {
  if (statusCode === 404 || statusCode === 414) return new AppError('not_found', 'There is nothing at this URL.')
  if (statusCode === 405) return new AppError('method_not_allowed', 'This URL does not take this method.')
  if (statusCode === 415) return new AppError('unsupported_media_type', 'Send the body as application/json.')
  return new AppError('invalid', 'The request is not one that this service can read.')
}
