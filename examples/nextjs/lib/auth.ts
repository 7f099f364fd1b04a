/** Better Auth, on the server: who is signed in, and the tokens that the API accepts. */

import { betterAuth } from "better-auth";
import { jwt } from "better-auth/plugins";
import { SqliteDialect } from "kysely";
import Database from "libsql";

// Opened when first used, for `next build` loads this file, too.
const open = async () => new Database(process.env.AUTH_DATABASE ?? "instance/auth.db", { timeout: 5 });

export const auth = betterAuth({
  baseURL: process.env.BETTER_AUTH_URL, // must be set: it becomes issuer and audience of the tokens
  secret: process.env.BETTER_AUTH_SECRET,
  database: { dialect: new SqliteDialect({ database: open }), type: "sqlite" },
  advanced: { database: { validateSchema: false } }, // instrumentation.ts has made it
  emailAndPassword: { enabled: true },
  plugins: [jwt({ jwt: { expirationTime: process.env.JWT_LIFETIME ?? "15m" } })],
});
