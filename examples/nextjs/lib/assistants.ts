/** The assistants that a user has connected, in the tables of Better Auth. On the server only. */

import { forgetTokens } from "@/lib/activity";
import { auth } from "@/lib/auth";

export interface Assistant {
  clientId: string;
  name: string;
  mayWrite: boolean;
  connectedAt: Date;
  lastActiveAt: Date;
}

interface Consent {
  clientId: string;
  scopes: string[];
  createdAt: Date;
  updatedAt: Date;
}

interface Client {
  clientId: string;
  name?: string | null;
  redirectUris: string[];
}

const MAX_NAME = 60;

const by = (field: string, value: string) => ({ field, value });

export async function assistantsOf(userId: string): Promise<Assistant[]> {
  const { adapter } = await auth.$context;
  const consents = await adapter.findMany<Consent>({ model: "oauthConsent", where: [by("userId", userId)] });
  const assistants = consents.map(async ({ clientId, scopes, createdAt, updatedAt }) => {
    const client = await clientOf(clientId);
    const mayWrite = scopes.includes("tasks:write");
    return { clientId, name: nameOf(client), mayWrite, connectedAt: createdAt, lastActiveAt: updatedAt };
  });
  return (await Promise.all(assistants)).sort((a, b) => b.lastActiveAt.getTime() - a.lastActiveAt.getTime());
}

/** Take back the consent, and the tokens with which the assistant would get new ones without it. */
export async function disconnect(userId: string, clientId: string) {
  const { adapter } = await auth.$context;
  await adapter.deleteMany({ model: "oauthConsent", where: [by("userId", userId), by("clientId", clientId)] });
  await forgetTokens(adapter, userId, clientId);
}

export async function clientOf(clientId: string): Promise<Client | null> {
  const { adapter } = await auth.$context;
  return adapter.findOne<Client>({ model: "oauthClient", where: [by("clientId", clientId)] });
}

/** The name that an assistant gives itself, so that it cannot pass for a part of the sentence that has it. */
export function nameOf(client: Client | null): string {
  const name = (client?.name ?? "").replace(/\s+/gu, " ").replace(/[\p{C}"“”„‟«»]/gu, "");
  return Array.from(name.trim()).slice(0, MAX_NAME).join("").trim() || "Unnamed assistant";
}
