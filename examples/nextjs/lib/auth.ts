/** Better Auth, on the server: who is signed in, the tokens that the API accepts, and the assistants that were let in. */

import { mcp } from "@better-auth/mcp";
import { betterAuth } from "better-auth";
import { createAuthMiddleware } from "better-auth/api";
import { jwt } from "better-auth/plugins";
import { SqliteDialect } from "kysely";
import Database from "libsql";

import { noteActivity } from "@/lib/activity";
import { ASSISTANT_TOKEN_SECONDS, mcpUrl } from "@/lib/config";

// Opened when first used, for `next build` loads this file, too.
const open = async () => new Database(process.env.AUTH_DATABASE ?? "instance/auth.db", { timeout: 5_000 }); // ms

export const auth = betterAuth({
  baseURL: process.env.BETTER_AUTH_URL, // must be set: it becomes issuer and audience of the tokens
  secret: process.env.BETTER_AUTH_SECRET,
  database: { dialect: new SqliteDialect({ database: open }), type: "sqlite" },
  advanced: { database: { validateSchema: false } }, // instrumentation.ts has made it
  emailAndPassword: { enabled: true },
  plugins: [
    jwt({ jwt: { expirationTime: process.env.JWT_LIFETIME ?? "15m" } }),
    mcp({
      resource: mcpUrl(),
      resources: [{ identifier: mcpUrl(), accessTokenTtl: ASSISTANT_TOKEN_SECONDS }],
      scopes: ["openid", "offline_access", "tasks:read", "tasks:write"],
      loginPage: "/sign-in",
      consentPage: "/consent",
      allowDynamicClientRegistration: true,
      allowUnauthenticatedClientRegistration: true,
    }),
  ],
  hooks: {
    after: createAuthMiddleware(async (context) => {
      if (context.path === "/oauth2/token") await noteActivity(context.context.adapter, context.context.returned);
    }),
  },
});
