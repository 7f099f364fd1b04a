"use client";

import { onlineManager } from "@tanstack/react-query";
import { useSyncExternalStore } from "react";

import { SignedOut } from "@/lib/database";
import { reason } from "@/lib/perform";
import { changes } from "@/lib/words";

interface Props {
  error: Error | null;
  /** How many changes wait to be sent. */
  waiting: number;
  onRetry: () => void;
}

/** Says why the list may be out of date, and that what waits is safe. */
export function Connection({ error, waiting, onRetry }: Props) {
  const isOnline = useIsOnline();
  if (isOnline && !error) return null;
  const isSignedOut = error instanceof SignedOut;
  return (
    <div className="banner">
      <p>
        <strong>{isOnline ? reason(error as Error) : "You are offline."}</strong> {comfort(isOnline, waiting)}
      </p>
      {isSignedOut ? (
        <a href="/sign-in" target="_blank">
          Sign in (new tab)
        </a>
      ) : (
        isOnline && <button onClick={onRetry}>Try again</button>
      )}
    </div>
  );
}

function comfort(isOnline: boolean, waiting: number): string {
  const are = waiting === 1 ? "is" : "are";
  if (waiting > 0) return `${changes(waiting)} ${are} saved on this device and will be sent later.`;
  return isOnline ? "This list may be out of date." : "What you change is saved on this device and sent later.";
}

export function useIsOnline() {
  return useSyncExternalStore(
    (listener) => onlineManager.subscribe(listener),
    () => onlineManager.isOnline(),
    () => true,
  );
}
