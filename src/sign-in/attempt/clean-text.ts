/** A claim's text as it can be stored and shown: no control characters (Postgres takes no NUL), and not blank. */
export function cleanText(text: string, maxLength: number): string | undefined {
  const clean = text
    .replaceAll(/\p{Cc}/gu, ' ')
    .trim()
    .slice(0, maxLength)
    .toWellFormed()
  return clean === '' ? undefined : clean
}
