/** What a server component knows of the request that it answers. */

import { TaskClient } from "@todo-api/client";
import { headers } from "next/headers";

import { auth } from "@/lib/auth";

export const apiUrl = () => process.env.API_URL ?? "http://localhost:8000";

export async function currentUser() {
  return (await auth.api.getSession({ headers: await headers() }))?.user;
}

/** Each request has a user of its own, so it has a client of its own, and Next.js stores nothing. */
export async function tasksOfThisRequest() {
  const session = await headers();
  const getToken = async () => (await auth.api.getToken({ headers: session })).token;
  return new TaskClient({ baseUrl: apiUrl(), getToken, cache: "no-store", retries: 0 });
}
