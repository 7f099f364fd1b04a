"use client";

import { useQuery } from "@tanstack/react-query";
import { useEffect } from "react";

import { useAccount } from "@/components/account";
import { sync } from "@/lib/sync";

const EVERY_MS = 60_000;
const AFTER_ERROR_MS = 5_000;

/** Sync when the page opens, gets the focus or a network, and every minute while it is visible. */
export function useSync() {
  const { api, user } = useAccount();
  const query = useQuery({
    queryKey: ["sync"],
    queryFn: () => sync(api, user.id),
    initialData: null, // so that a change that is made during the first sync starts another
    retry: false, // the client retries by itself
    refetchOnWindowFocus: false, // it does not notice another window
    refetchOnReconnect: "always",
    refetchInterval: ({ state }) => (state.status === "error" ? AFTER_ERROR_MS : EVERY_MS),
  });
  const { refetch } = query;
  useEffect(() => {
    const look = () => void (document.visibilityState === "visible" && refetch());
    window.addEventListener("focus", look);
    document.addEventListener("visibilitychange", look);
    return () => {
      window.removeEventListener("focus", look);
      document.removeEventListener("visibilitychange", look);
    };
  }, [refetch]);
  return query;
}
