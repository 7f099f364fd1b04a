/** When an assistant was last active: it asks for a new token every few minutes in which it calls the API. */

import type { auth } from "@/lib/auth";

type Adapter = Awaited<typeof auth.$context>["adapter"];

interface Claims {
  sub?: string;
  client_id?: string;
}

/** Note in the consent that a token was issued. */
export async function noteActivity(adapter: Pick<Adapter, "update">, response: unknown) {
  const { sub, client_id } = claimsOf((Object(response) as { access_token?: string }).access_token);
  if (!sub || !client_id) return;
  const where = [
    { field: "userId", value: sub },
    { field: "clientId", value: client_id },
  ];
  await adapter.update({ model: "oauthConsent", where, update: { updatedAt: new Date() } });
}

/** The claims of a token that this server has just made: nothing to verify. */
function claimsOf(token = ""): Claims {
  const [, claims] = token.split(".");
  return claims ? (JSON.parse(Buffer.from(claims, "base64url").toString()) as Claims) : {};
}
