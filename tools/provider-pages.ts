// Writes docs/providers from the guides that the API returns: `npm run docs`.
import { join } from 'node:path'
import type { Place, ProviderGuide } from '../src/sso/guides/guide.ts'
import { guides } from '../src/sso/guides/provider-guides.ts'

export const folder = join(import.meta.dirname, '../docs/providers')

/** The pages of docs/providers by file name. */
export function providerPages(): Map<string, string> {
  const pages = Object.values(guides).map(guide => [`${guide.kind}.md`, providerPage(guide)] as const)
  return new Map([['README.md', overview()], ...pages])
}

function overview(): string {
  const rows = Object.values(guides).map(guide => {
    const { kind, name, paste, directorySteps } = guide
    const logout = paste.backchannelLogoutUri ? 'yes' : 'no'
    return `| [${name}](${kind}.md) | ${directorySteps.length > 0 ? 'yes' : 'no'} | ${logout} | ${paste.jwksUri ? 'yes' : 'no'} |`
  })
  return `# Identity providers

How to connect each provider. These pages are written from the guides that \`GET /v1/workspaces/{workspaceId}/sso-config/setup\`
returns, with the URIs of the workspace filled in. Names of screens and fields follow the vendors' documentation of November 2026.

| provider | directory sync | back-channel logout | keys instead of a secret |
| --- | --- | --- | --- |
${rows.join('\n')}
`
}

function providerPage(guide: ProviderGuide): string {
  const { name, issuerForm, paste, copy, signInSteps, directorySteps, notes } = guide
  const sync =
    directorySteps.length === 0
      ? 'This provider cannot sync a directory to a SCIM endpoint.'
      : directorySteps.map((step, index) => `${index + 1}. ${step}`).join('\n')
  return `# ${name}

The issuer is ${issuerForm}.

## Sign-in

${signInSteps.map((step, index) => `${index + 1}. ${step}`).join('\n')}

${fields('register at the provider', paste)}

${fields('copy from the provider', copy)}

## Directory sync

${sync}

## Notes

${notes.map(note => `- ${note}`).join('\n')}
`
}

function fields(title: string, places: Partial<Record<string, Place>>): string {
  const rows = Object.entries(places).map(([field, place]) => `| \`${field}\` | ${place?.screen} | ${place?.field} |`)
  return [`| ${title} | screen | field |`, '| --- | --- | --- |', ...rows].join('\n')
}
