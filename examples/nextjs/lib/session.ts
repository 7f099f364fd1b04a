/** What the server knows about a request. */

import { headers } from "next/headers";

import { auth } from "@/lib/auth";

export async function currentUser() {
  return (await auth.api.getSession({ headers: await headers() }))?.user;
}
