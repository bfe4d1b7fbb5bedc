/**
 * Issuers that sign in everyone with an account, whatever their company. An SSO configuration with one of them needs a list of
 * allowed e-mail domains. The operator can add more (SHARED_ISSUERS).
 */
export const publicIssuers: readonly string[] = [
  'https://accounts.google.com',
  'https://appleid.apple.com',
  'https://gitlab.com',
  'https://github.com/login/oauth',
  'https://login.salesforce.com',
  'https://test.salesforce.com',
  'https://slack.com',
  'https://www.linkedin.com/oauth',
  'https://www.linkedin.com',
  'https://api.login.yahoo.com',
  'https://login.yahoo.com',
  'https://discord.com',
  'https://www.facebook.com',
  'https://id.twitch.tv/oauth2',
  'https://access.line.me',
  'https://kauth.kakao.com',
  'https://www.paypal.com',
  'https://www.paypalobjects.com',
  'https://auth.atlassian.com',
  'https://id.heroku.com',
  'https://oauth.telegram.org',
  // Microsoft's tenant of personal accounts.
  'https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0',
  'https://login.live.com',
]
