// What npm's openid-client, oauth4webapi and jose make of a server: discovery, introspection, revocation and the
// published keys. The arguments are the folder of the packages, the issuer, a client's id and secret, an access and a
// refresh token. It writes what it has seen as JSON.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, issuer, id, secret, access, refresh] = process.argv.slice(2);
const packages = createRequire(pathToFileURL(`${folder}/`));
const load = (name) => import(pathToFileURL(packages.resolve(name)).href);
const [client, jose, oauth] = await Promise.all(["openid-client", "jose", "oauth4webapi"].map(load));

// The server is on this machine and speaks plain http.
const options = { algorithm: "oauth2", execute: [client.allowInsecureRequests] };
const discover = (authentication) => client.discovery(new URL(issuer), id, undefined, authentication, options);
const basic = await discover(client.ClientSecretBasic(secret));
const post = await discover(client.ClientSecretPost(secret));
const wrong = await discover(client.ClientSecretBasic("csc_wrong"));
const refused = (promise) => promise.then(() => "accepted", (error) => error.status ?? error.cause?.status);

const seen = { metadata: basic.serverMetadata() };

// A resource server that verifies by itself.
const keys = jose.createRemoteJWKSet(new URL(seen.metadata.jwks_uri));
const verified = await jose.jwtVerify(access, keys, { issuer, typ: "at+jwt" });
seen.verified = verified.payload.sub;
seen.refreshIsNoAccess = await jose.jwtVerify(refresh, keys, { issuer }).then(() => "accepted", (error) => error.code);
// RFC 9068 wants an audience and a client in each token, which a first-party login has not.
const request = new Request("https://api.example.com", { headers: { authorization: `Bearer ${access}` } });
const rfc9068 = oauth.validateJwtAccessToken(seen.metadata, request, "api", { [oauth.allowInsecureRequests]: true });
seen.rfc9068 = await rfc9068.then(() => "accepted", (error) => error.message);

seen.access = await client.tokenIntrospection(basic, access, { token_type_hint: "access_token" });
seen.refresh = await client.tokenIntrospection(post, refresh);
seen.garbage = await client.tokenIntrospection(post, "garbage");
seen.wrongSecret = await refused(client.tokenIntrospection(wrong, access));
seen.wrongRevocation = await refused(client.tokenRevocation(wrong, refresh));

await client.tokenRevocation(post, "garbage");
await client.tokenRevocation(basic, refresh, { token_type_hint: "refresh_token" });
await client.tokenRevocation(basic, refresh);
seen.accessAfter = await client.tokenIntrospection(basic, access);
seen.refreshAfter = await client.tokenIntrospection(basic, refresh);

console.log(JSON.stringify(seen));
