"use client";

import {
  notifyManager,
  onlineManager,
  QueryCache,
  QueryClient,
  QueryClientProvider,
} from "@tanstack/react-query";
import { keepToken, type Page, TaskClient, userOf } from "@todo-api/client";
import { createContext, type ReactNode, useContext, useEffect, useState } from "react";

import { hasTyped } from "@/components/typing";
import { onSession } from "@/lib/auth-client";
import { isUnreachable, PATIENCE_MS } from "@/lib/changes";
import type { View } from "@/lib/view";

// Later than this, a checkbox would be seen going back and forth.
notifyManager.setScheduler(queueMicrotask);

export class SignedOut extends Error {}

/** The token lives in this page's memory, and is asked for anew when the API refuses it. */
async function fetchToken(userId: string) {
  const answer = await fetch("/api/auth/token", { signal: AbortSignal.timeout(PATIENCE_MS) });
  if (answer.status === 401) throw new SignedOut("You are signed out.");
  const body: unknown = answer.ok && (await answer.json().catch(() => undefined)); // a hotel's network has another page
  const { token } = Object(body) as { token?: string };
  if (!token) throw new Error("The sign-in service does not answer.");
  if (userOf(token) !== userId) throw new SignedOut("Somebody else has signed in.");
  return token;
}

/** Whether something that the user did is in this page alone: it is being typed, waits, or failed. */
export function hasUnsent(queries: QueryClient) {
  const changes = queries.getMutationCache().getAll();
  return hasTyped() || changes.some(({ state }) => state.status === "pending" || state.status === "error");
}

/** The sign-in page sends on whoever has signed in since. What is unsent would be lost on the way. */
function leave(queries: QueryClient) {
  if (!hasUnsent(queries)) window.location.assign("/sign-in?ended");
}

function newQueries(view: View, firstPage: Page | undefined) {
  const onError = (error: Error) => {
    if (error instanceof SignedOut) leave(queries);
  };
  // The client repeats by itself. What a lost network broke off waits, and goes on when that is back.
  const retry = (_: number, error: Error) => isUnreachable(error) && !onlineManager.isOnline();
  const queries = new QueryClient({
    queryCache: new QueryCache({ onError }),
    defaultOptions: { queries: { retry, retryDelay: 0, staleTime: 5_000 }, mutations: { retry, retryDelay: 0 } },
  });
  if (firstPage) queries.setQueryData(["tasks", view], { pages: [firstPage], pageParams: [undefined] });
  return queries;
}

const Client = createContext<TaskClient | undefined>(undefined);

export function useTaskClient(): TaskClient {
  const client = useContext(Client);
  if (!client) throw new Error("There is no <Providers> around this.");
  return client;
}

interface Props {
  apiUrl: string;
  userId: string;
  view: View;
  firstPage: Page | undefined;
  children: ReactNode;
}

export function Providers({ apiUrl, userId, view, firstPage, children }: Props) {
  const [getToken] = useState(() => keepToken(() => fetchToken(userId)));
  const [client] = useState(() => new TaskClient({ baseUrl: apiUrl, getToken }));
  const [queries] = useState(() => newQueries(view, firstPage));
  useEffect(() => {
    return onSession(() => {
      getToken.forget(); // it would go on working
      void queries.invalidateQueries(); // which learns who is signed in now
    });
  }, [getToken, queries]);
  return (
    <QueryClientProvider client={queries}>
      <Client value={client}>{children}</Client>
    </QueryClientProvider>
  );
}
