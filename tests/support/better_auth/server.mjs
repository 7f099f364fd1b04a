// A real Better Auth server on 127.0.0.1 for the tests: users, sessions and keys live in memory.
//
// Settings, one JSON object in the first argument:
//   port       default 0: any free one
//   secret     of Better Auth, 32 characters or more
//   alg        EdDSA (default), ES256, RS256, PS256; or HS256, which signs with the secret and publishes no keys
//   rotate     seconds until the next token is signed by a new key; default never
//   cookies    "jwt" or "jwks": how the session cookie is signed; default not at all
//
// Prints "ready ORIGIN". Prints "mail TOKEN" for each e-mail verification. Ends with its standard input.
import http from "node:http";
import { betterAuth } from "better-auth";
import { memoryAdapter } from "better-auth/adapters/memory";
import { toNodeHandler } from "better-auth/node";
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

function handlerAt(origin) {
  return toNodeHandler(
    betterAuth({
      baseURL: origin,
      secret: settings.secret,
      database: memoryAdapter({ user: [], session: [], account: [], verification: [], jwks: [] }),
      emailAndPassword: { enabled: true },
      emailVerification: {
        sendOnSignUp: true,
        sendVerificationEmail: async ({ token }) => console.log(`mail ${token}`),
      },
      rateLimit: { enabled: false },
      telemetry: { enabled: false },
      session: settings.cookies ? { cookieCache: { enabled: true, strategy: "jwt", maxAge: 300 } } : {},
      plugins: [jwt(jwtOptions(origin)), bearer()],
    }),
  );
}

let handler;
const server = http.createServer((request, response) => handler(request, response));
server.listen(settings.port ?? 0, "127.0.0.1", () => {
  const origin = `http://127.0.0.1:${server.address().port}`;
  handler = handlerAt(origin);
  console.log(`ready ${origin}`);
});
process.stdin.on("end", () => process.exit(0)).resume();
