/** What is done with each token of an assistant: it asks for one every few minutes in which it calls the API. */

import { APIError } from "better-auth/api";

import type { auth } from "@/lib/auth";

type Adapter = Pick<Awaited<typeof auth.$context>["adapter"], "findOne" | "update" | "deleteMany">;

interface Claims {
  sub?: string;
  client_id?: string;
  scope?: string;
}

/** Note in the consent that a token was issued. Without a consent to it, it is not: the user has disconnected it. */
export async function noteActivity(adapter: Adapter, response: unknown) {
  const { sub, client_id, scope = "" } = claimsOf((Object(response) as { access_token?: string }).access_token);
  if (!sub || !client_id) return;
  const where = whereIs(sub, client_id);
  const consent = await adapter.findOne<{ scopes: string[] }>({ model: "oauthConsent", where });
  if (!scope.split(" ").every((name) => consent?.scopes.includes(name))) {
    await forgetTokens(adapter, sub, client_id);
    throw new APIError("BAD_REQUEST", { error: "invalid_grant", error_description: "It was disconnected." });
  }
  await adapter.update({ model: "oauthConsent", where, update: { updatedAt: new Date() } });
}

/** Remove the tokens with which an assistant would get new ones. */
export async function forgetTokens(adapter: Adapter, userId: string, clientId: string) {
  const where = whereIs(userId, clientId);
  for (const model of ["oauthAccessToken", "oauthRefreshToken"]) await adapter.deleteMany({ model, where });
}

const whereIs = (userId: string, clientId: string) => [
  { field: "userId", value: userId },
  { field: "clientId", value: clientId },
];

/** The claims of a token that this server has just made: nothing to verify. */
function claimsOf(token = ""): Claims {
  const [, claims] = token.split(".");
  return claims ? (JSON.parse(Buffer.from(claims, "base64url").toString()) as Claims) : {};
}
