// A real Better Auth server on 127.0.0.1 for the tests: users, sessions and keys live in memory.
//
// Settings, one JSON object in the first argument:
//   port       default 0: any free one
//   secret     of Better Auth, 32 characters or more
//   alg        EdDSA (default), ES256, RS256, PS256; or HS256, which signs with the secret and publishes no keys
//   rotate     seconds until the next token is signed by a new key; default never
//   cookies    "jwt" or "jwks": how the session cookie is signed; default not at all
//   resource   the URL of an MCP server, for which Better Auth is then the OAuth authorization server.
//              POST /machine registers a client without a user, which only an operator's code can
//
// Prints "ready ORIGIN". Prints "mail TOKEN" for each e-mail verification. Ends with its standard input.
import http from "node:http";
import { mcp } from "@better-auth/mcp";
import { betterAuth } from "better-auth";
import { memoryAdapter } from "better-auth/adapters/memory";
import { fromNodeHeaders, toNodeHandler } from "better-auth/node";
import { bearer, jwt } from "better-auth/plugins";
import { SignJWT } from "jose";

const settings = JSON.parse(process.argv[2]);
const key = new TextEncoder().encode(settings.secret);

function jwtOptions(origin) {
  const options = { jwks: {}, sessionCookieCache: settings.cookies === "jwks" };
  if (settings.alg === "HS256") {
    options.jwks = { remoteUrl: `${origin}/no-jwks`, keyPairConfig: { alg: "EdDSA" } };
    options.jwt = {
      issuer: origin,
      audience: origin,
      sign: (claims) => new SignJWT(claims).setProtectedHeader({ alg: "HS256", typ: "JWT" }).sign(key),
    };
  } else {
    options.jwks.keyPairConfig = { alg: settings.alg ?? "EdDSA" };
    options.jwks.rotationInterval = settings.rotate;
  }
  return options;
}

const scopes = ["tasks:read", "tasks:write"];

function authorizationServer(resource) {
  return mcp({
    resource,
    resources: [{ identifier: resource, accessTokenTtl: 900 }],
    scopes: ["openid", "offline_access", ...scopes],
    loginPage: "/sign-in", // these two are the front end's: the tests do what they do
    consentPage: "/consent",
    allowDynamicClientRegistration: true,
    allowUnauthenticatedClientRegistration: true,
    clientPrivileges: () => true,
  });
}

async function registerMachine(auth, request, response) {
  const body = {
    grant_types: ["client_credentials"],
    token_endpoint_auth_method: "client_secret_post",
    client_credentials_scopes: scopes,
  };
  const client = await auth.api.adminCreateOAuthClient({ headers: fromNodeHeaders(request.headers), body });
  response.end(JSON.stringify(client));
}

function database() {
  const tables = ["user", "session", "account", "verification", "jwks"];
  for (const table of ["Client", "Resource", "ClientResource", "AccessToken", "RefreshToken", "Consent"]) {
    tables.push(`oauth${table}`);
  }
  return memoryAdapter(Object.fromEntries(tables.map((table) => [table, []])));
}

function handlerAt(origin) {
  const auth = betterAuth({
    baseURL: origin,
    secret: settings.secret,
    database: database(),
    emailAndPassword: { enabled: true },
    emailVerification: {
      sendOnSignUp: true,
      sendVerificationEmail: async ({ token }) => console.log(`mail ${token}`),
    },
    rateLimit: { enabled: false },
    telemetry: { enabled: false },
    session: settings.cookies ? { cookieCache: { enabled: true, strategy: "jwt", maxAge: 300 } } : {},
    plugins: [
      jwt(jwtOptions(origin)),
      bearer(),
      ...(settings.resource ? [authorizationServer(settings.resource)] : []),
    ],
  });
  const handle = toNodeHandler(auth);
  return (request, response) =>
    request.url === "/machine" ? registerMachine(auth, request, response) : handle(request, response);
}

let handler;
const server = http.createServer((request, response) => handler(request, response));
server.listen(settings.port ?? 0, "127.0.0.1", () => {
  const origin = `http://127.0.0.1:${server.address().port}`;
  handler = handlerAt(origin);
  console.log(`ready ${origin}`);
});
process.stdin.on("end", () => process.exit(0)).resume();
