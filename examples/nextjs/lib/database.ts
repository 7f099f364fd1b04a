/** What this browser keeps in IndexedDB: the tasks, the changes that were not sent yet, and whose they are. */

import type { Task } from "@todo-api/client";
import Dexie, { type EntityTable } from "dexie";

import type { Change } from "@/lib/changes";

/** `draft` is the id that the task had in this browser before the API gave it one. */
export type StoredTask = Task & { draft?: string };

/** A change that the API has not accepted yet. Entries are sent in the order of their ids. */
export interface Entry {
  id: number;
  change: Change;
  /** It is not sent before this time, so that it can be undone. */
  heldUntil: number;
  /** Why the API refused it. It then waits for the user's decision. */
  problem?: Problem;
}

export interface Problem {
  code: string;
  message: string;
  /** After a conflict: the version that was saved elsewhere. */
  theirs?: Task;
}

export interface User {
  id: string;
  name: string;
}

interface Settings {
  name: "state";
  user: User;
  /** The position in the feed of changes. */
  next?: string | undefined;
  /** A new value with every write to `tasks`, so that a reader knows whether to read them again. */
  version: string;
}

class Database extends Dexie {
  tasks!: EntityTable<StoredTask, "id">;
  outbox!: EntityTable<Entry, "id">;
  settings!: EntityTable<Settings, "name">;

  constructor() {
    super("tasks");
    this.version(1).stores({ tasks: "id, draft", outbox: "++id", settings: "name" });
  }
}

export const db = new Database();

export class SignedOut extends Error {}

export class AnotherUser extends SignedOut {}

export const state = () => db.settings.get("state");

/** Write in one transaction, and only for the user whose data this is. */
export function write<T>(userId: string, work: () => PromiseLike<T>): PromiseLike<T> {
  return db.transaction("rw", db.tasks, db.outbox, db.settings, async () => {
    const user = (await state())?.user;
    if (!user) throw new SignedOut("You are signed out.");
    if (user.id !== userId) throw new AnotherUser("Somebody else has signed in.");
    return work();
  });
}

/** Like `write`, for a change of `tasks`. */
export function writeTasks(userId: string, work: () => PromiseLike<Partial<Settings> | void>) {
  return write(userId, async () => {
    const settings = await work();
    await db.settings.update("state", { ...settings, version: crypto.randomUUID() });
  });
}

/** Keep data for this user from now on. Nothing of another user is left. */
export async function adopt(user: User) {
  await db.transaction("rw", db.tasks, db.outbox, db.settings, async () => {
    if ((await state())?.user.id === user.id) return;
    await forget();
    await db.settings.add({ name: "state", user, version: "" });
  });
}

/** Remove everything. */
export async function forget() {
  await Promise.all([db.tasks.clear(), db.outbox.clear(), db.settings.clear()]);
}

/** Remove everything of this user, unless another user's data is there by now. */
export function forgetUser(userId: string) {
  return db.transaction("rw", db.tasks, db.outbox, db.settings, async () => {
    if ((await state())?.user.id === userId) await forget();
  });
}

/** After the session has ended: keep only what was not sent yet, until somebody signs in. */
export function forgetUnlessUnsent(userId: string) {
  return db.transaction("rw", db.tasks, db.outbox, db.settings, async () => {
    if ((await state())?.user.id !== userId) return;
    if ((await db.outbox.count()) === 0) return forget();
    await db.tasks.clear();
    await db.settings.update("state", { next: undefined, version: crypto.randomUUID() });
  });
}
