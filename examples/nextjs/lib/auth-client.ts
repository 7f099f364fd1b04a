/** Better Auth in the browser: the session, and the tokens for the API. */

import { oauthProviderClient } from "@better-auth/oauth-provider/client";
import { userOf } from "@todo-api/client";
import { createAuthClient } from "better-auth/react";

import { AnotherUser, SignedOut, type User } from "@/lib/database";
import { PATIENCE_MS } from "@/lib/perform";

export const { getSession, signIn, signOut, signUp, $fetch } = createAuthClient({
  plugins: [oauthProviderClient()], // which sends on the request of an assistant in the address
  disableDefaultFetchPlugins: true, // which would leave the page before it has removed what another user left
});

export const UNREACHABLE = "The sign-in service cannot be reached. Try again.";

/**
 * Answer the request of an assistant, for the user who was asked. Returns where the browser is to go. Throws an error
 * that says why it did not.
 */
export async function decideConsent(userId: string, accept: boolean, scopes: string[]): Promise<string> {
  const user = await currentUser().catch(() => Promise.reject(new Error(UNREACHABLE)));
  if (user?.id !== userId) throw new AnotherUser("Somebody else has signed in.");
  const body = { accept, ...(accept && { scope: scopes.join(" ") }) };
  const answer = $fetch<{ url?: string }>("/oauth2/consent", { method: "POST", body });
  const { data, error } = await answer.catch(() => Promise.reject(new Error(UNREACHABLE)));
  if (data?.url) return data.url;
  if (error?.status !== 400) throw new Error("That did not work. Try again.");
  throw new Error("This request is too old. Start again in your assistant.");
}

/** Returns who is signed in. Throws without a network. */
export async function currentUser(): Promise<User | undefined> {
  const { data, error } = await getSession({ fetchOptions: { timeout: PATIENCE_MS } });
  if (error) throw new TypeError("The session could not be read.");
  return data?.user && { id: data.user.id, name: data.user.name };
}

/** Fetch a token for the API. It stays in memory. */
export async function fetchToken(userId: string): Promise<string> {
  const answer = await fetch("/api/auth/token", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
  if (answer.status === 401) throw new SignedOut("You are signed out.");
  const body: unknown = answer.ok && (await answer.json().catch(() => undefined)); // a hotel's network has another page
  const { token } = Object(body) as { token?: string };
  if (!token) throw new Error("The sign-in service does not answer.");
  if (userOf(token) !== userId) throw new AnotherUser("Somebody else has signed in.");
  return token;
}

// One for the whole page, so that it does not hear itself; made when first used, for the server loads this file, too.
let opened: BroadcastChannel | undefined;
const channel = () => (opened ??= new BroadcastChannel("session"));

/** Tell the other tabs that somebody has signed in or out. */
export function announceSession() {
  channel().postMessage(null);
}

export function onSession(listener: () => void) {
  channel().addEventListener("message", listener);
  return () => channel().removeEventListener("message", listener);
}
