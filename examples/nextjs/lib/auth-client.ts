import { createAuthClient } from "better-auth/react";

export const { signIn, signOut, signUp } = createAuthClient();

const CHANNEL = "session";

/** Tell the other tabs that somebody has signed in or out. */
export function announceSession() {
  new BroadcastChannel(CHANNEL).postMessage(null);
}

export function onSession(listener: () => void) {
  const channel = new BroadcastChannel(CHANNEL);
  channel.onmessage = listener;
  return () => channel.close();
}
