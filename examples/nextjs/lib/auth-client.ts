import { createAuthClient } from "better-auth/react";

export const { signIn, signOut, signUp } = createAuthClient();

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
