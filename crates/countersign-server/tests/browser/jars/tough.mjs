// npm's tough-cookie reads `Set-Cookie` fields and says what it would send. JSON in, JSON out. The argument is the folder
// of the package.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const { Cookie, CookieJar } = createRequire(import.meta.url)(process.argv[2])

const REFERENCE = 'reference'
// What `SameSite` asks about: a request of the site itself, a link from another one, and everything else from there.
const CONTEXTS = { own: 'strict', link: 'lax', request: 'none' }

function kept(jar) {
  const cookies = jar.serializeSync().cookies.map(cookie => Cookie.fromJSON(cookie))
  return cookies.filter(cookie => cookie.key !== REFERENCE && cookie.TTL() > 0)
}

function take(jar, fields, url) {
  for (const field of fields) {
    try {
      jar.setCookieSync(field, url, { sameSiteContext: 'strict' })
    } catch {
      // Refused: it is then missing among those that are kept.
    }
  }
}

function seen({ url, set, removal, probes }) {
  const jar = new CookieJar(undefined, { prefixSecurity: 'strict' })
  take(jar, set, url)
  const lives = {}
  for (const cookie of kept(jar)) {
    lives[`${cookie.key} ${cookie.path}`] = cookie.isPersistent()
      ? Math.round((cookie.expiryTime() - cookie.creation) / 1000)
      : null
  }
  const sent = {}
  for (const probe of probes) {
    const cookies = jar.getCookiesSync(probe.url, { sameSiteContext: CONTEXTS[probe.context] })
    sent[probe.name] = cookies.filter(cookie => cookie.key !== REFERENCE).map(cookie => cookie.cookieString())
  }
  take(jar, removal, url)
  return { sent, lives, left: kept(jar).map(cookie => `${cookie.key} ${cookie.path}`) }
}

const cases = JSON.parse(readFileSync(0, 'utf8'))
process.stdout.write(JSON.stringify(cases.map(seen)))
