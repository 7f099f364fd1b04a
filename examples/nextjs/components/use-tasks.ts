"use client";

import type { Task } from "@todo-api/client";
import { useLiveQuery } from "dexie-react-hooks";
import { useMemo } from "react";

import { useAccount } from "@/components/account";
import { applied } from "@/lib/changes";
import { db, type Entry, state, type StoredTask } from "@/lib/database";

export type Refused = Entry & { problem: NonNullable<Entry["problem"]> };

interface Snapshot {
  stored: StoredTask[];
  entries: Entry[];
  version: string;
  /** Whether the tasks have been read from the API at least once. */
  isLoaded: boolean;
}

const EMPTY: Snapshot = { stored: [], entries: [], version: "", isLoaded: false };

let last = EMPTY;

/** Read both in one transaction: a change that was accepted is in exactly one of them. */
const read = (userId: string) =>
  db.transaction("r", db.tasks, db.outbox, db.settings, async (): Promise<Snapshot> => {
    const { user, version = "", next } = (await state()) ?? {};
    if (user?.id !== userId) return EMPTY; // somebody else has signed in in another tab
    const isCurrent = version !== "" && version === last.version;
    const stored = isCurrent ? last.stored : await db.tasks.toArray();
    return (last = { stored, entries: await db.outbox.toArray(), version, isLoaded: next !== undefined });
  });

/** The tasks in this browser, with the changes that wait to be sent, in this tab and in others. */
export function useTasks() {
  const { user } = useAccount();
  const snapshot = useLiveQuery(() => read(user.id), [user.id]) ?? EMPTY;
  const { stored, entries } = snapshot;
  const waiting = useMemo(() => entries.filter(({ problem }) => !problem), [entries]);
  const refused = useMemo(() => entries.filter((entry): entry is Refused => !!entry.problem), [entries]);
  const tasks = useMemo(
    () => waiting.reduce<Task[]>((all, { change }) => applied(all, change), stored),
    [stored, waiting],
  );
  return { tasks, waiting, refused, isLoaded: snapshot.isLoaded, isRead: snapshot !== EMPTY };
}
