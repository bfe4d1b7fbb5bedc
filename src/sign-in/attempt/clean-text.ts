/**
 * A claim's text as it can be stored and shown: without control characters (Postgres stores no NUL) and bidirectional controls
 * (they reorder the text around them), and not blank.
 */
export function cleanText(text: string, maxLength: number): string | undefined {
  const clean = text
    .replaceAll(/\p{Cc}/gu, ' ')
    .replaceAll(/[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, '')
    .trim()
    .slice(0, maxLength)
    .toWellFormed()
  return clean === '' ? undefined : clean
}
