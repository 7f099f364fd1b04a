"use client";

/** Whose tasks these are, and the client of the API for that user. */

import { onlineManager, QueryCache, QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { keepToken, TaskClient } from "@todo-api/client";
import { createContext, type ReactNode, useContext, useEffect, useState } from "react";

import { hasTyped } from "@/components/typing";
import { fetchToken, onSession } from "@/lib/auth-client";
import { AnotherUser, forgetUnlessUnsent, forgetUser, SignedOut, type User } from "@/lib/database";
import { PATIENCE_MS } from "@/lib/perform";

interface Account {
  api: TaskClient;
  user: User;
}

const AccountContext = createContext<Account | undefined>(undefined);

export function useAccount(): Account {
  const account = useContext(AccountContext);
  if (!account) throw new Error("There is no <AccountProvider> around this.");
  return account;
}

/** Only memory holds what the API sent, besides IndexedDB: the browser's cache could not be cleared. */
const newApi = (apiUrl: string, getToken: ReturnType<typeof keepToken>) =>
  new TaskClient({
    baseUrl: apiUrl,
    getToken,
    cache: "no-store",
    keepBytes: 100_000,
    fetch: (request) => {
      const signal = AbortSignal.any([request.signal, AbortSignal.timeout(PATIENCE_MS)]);
      return fetch(new Request(request, { signal }));
    },
  });

/** Leave the page of a user who is not signed in any more, unless what is being typed would be lost. */
async function leave(userId: string, error: SignedOut) {
  if (hasTyped()) return;
  const isAnother = error instanceof AnotherUser;
  await (isAnother ? forgetUser(userId) : forgetUnlessUnsent(userId));
  window.location.assign(isAnother ? "/" : "/sign-in?ended");
}

interface Props {
  apiUrl: string;
  user: User;
  children: ReactNode;
}

export function AccountProvider({ apiUrl, user, children }: Props) {
  const [getToken] = useState(() => keepToken(() => fetchToken(user.id)));
  const [api] = useState(() => newApi(apiUrl, getToken));
  const [queries] = useState(() => {
    onlineManager.setOnline(navigator.onLine); // it only learns of changes by itself
    const onError = (error: Error) => void (error instanceof SignedOut && leave(user.id, error));
    return new QueryClient({ queryCache: new QueryCache({ onError }) });
  });
  useEffect(() => {
    // The back button may bring back the page as it was, of a user who has signed out since.
    const reload = ({ persisted }: PageTransitionEvent) => persisted && window.location.reload();
    window.addEventListener("pageshow", reload);
    return () => window.removeEventListener("pageshow", reload);
  }, []);
  useEffect(() => {
    return onSession(() => {
      getToken.forget(); // it would go on working
      void queries.refetchQueries(); // which learns who is signed in now
    });
  }, [getToken, queries]);
  return (
    <QueryClientProvider client={queries}>
      <AccountContext value={{ api, user }}>{children}</AccountContext>
    </QueryClientProvider>
  );
}
