/** Changes on their way to the API: kept in this browser until the API has accepted them. */

import type { Task, TaskClient } from "@todo-api/client";

import { applied, canBeUndone, type Change, isBulk, isDraft, subject } from "@/lib/changes";
import { db, type Entry, type Problem, write, writeTasks } from "@/lib/database";
import { isSameTask } from "@/lib/fields";
import { perform, problemOf } from "@/lib/perform";

/** How long a deletion can be undone. */
export const UNDO_MS = 8_000;

/** Keep a change until it has been sent. */
export function add(userId: string, change: Change) {
  const heldUntil = canBeUndone(change) ? Date.now() + UNDO_MS : 0;
  return write(userId, async () => {
    await db.outbox.add({ change: await renamed(change), heldUntil });
  });
}

/** Replace changes that the API refused by the user's decision about them. */
export function decide(userId: string, refused: Entry[], instead?: Change) {
  return write(userId, async () => {
    const entries = await db.outbox.toArray();
    const drafts = refused.flatMap(({ change }) => (change.kind === "create" && !instead ? [change.task.id] : []));
    const dependent = entries.filter(({ change }) => drafts.includes(subject(change) ?? ""));
    const [first] = refused;
    await db.outbox.bulkDelete([...refused, ...dependent].map(({ id }) => id));
    // In the old place: what was done to a task after its creation is sent after it.
    if (first && instead) await db.outbox.add({ id: first.id, change: await renamed(instead), heldUntil: 0 });
  });
}

/** Take back a deletion. Returns false if it is too late: it may be on its way. */
export function undo({ id }: Entry) {
  return db.transaction("rw", db.outbox, async () => {
    const entry = await db.outbox.get(id);
    if (!entry || !isHeldAt(entry, Date.now())) return false;
    await db.outbox.delete(id);
    return true;
  });
}

/** Give the user more time to take back a deletion. */
export function holdLonger({ id }: Entry) {
  return db.transaction("rw", db.outbox, async () => {
    const [entry, now] = [await db.outbox.get(id), Date.now()];
    if (entry && isHeldAt(entry, now)) await db.outbox.update(id, { heldUntil: now + UNDO_MS });
  });
}

/** Whether it can still be undone. A clock that was set back does not make that longer. */
export const isHeldAt = ({ heldUntil }: Entry, now: number) => heldUntil > now && heldUntil <= now + UNDO_MS;

/** Send deletions that could still be undone with the next `send`. */
export const releaseAll = () => db.outbox.toCollection().modify({ heldUntil: 0 });

/** The API knows a task by another id now if it was created since the user saw it. */
async function renamed(change: Change): Promise<Change> {
  if ("ids" in change) {
    const stored = await db.tasks.where("draft").anyOf(change.ids).toArray();
    const ids = new Map(stored.map(({ draft, id }) => [draft, id]));
    return { ...change, ids: change.ids.map((id) => ids.get(id) ?? id) };
  }
  if (!("task" in change) || change.kind === "create" || !isDraft(change.task)) return change;
  const stored = await db.tasks.get({ draft: change.task.id });
  if (!stored) return change;
  const { updated_at } = isSameTask(change.task, stored) ? stored : change.task; // not a version that was not seen
  return { ...change, task: identified(change.task, stored, updated_at) };
}

function identified(task: Task, { id, user_id, created_at }: Task, updated_at: string): Task {
  return { ...task, id, user_id, created_at, updated_at };
}

/** Send everything that is due. Throws if the API cannot be reached: then all is sent later. */
export async function send(api: TaskClient, userId: string) {
  for (;;) {
    const now = Date.now(); // before they are read: what can still be undone then is not sent
    const entries = await write(userId, () => db.outbox.toArray()); // not those of whoever has signed in since
    const entry = nextDue(entries, now);
    if (!entry) return;
    const problem = await sendOne(api, userId, entry, entries);
    if (problem) await db.outbox.update(entry.id, { problem });
  }
}

async function sendOne(api: TaskClient, userId: string, entry: Entry, entries: Entry[]): Promise<Problem | undefined> {
  // It would delete for good what a refused change may have been to keep.
  if (entry.change.kind === "clearCompleted" && entries.some(({ problem }) => problem)) {
    return { code: "", message: "An earlier change was not saved." };
  }
  try {
    const task = await perform(api, entry.change);
    await writeTasks(userId, async () => {
      await db.outbox.delete(entry.id);
      await store(entry.change, task);
    });
    return undefined;
  } catch (error) {
    const problem = problemOf(error);
    if (!problem) throw error;
    return problem;
  }
}

/** The first entry that may be sent now. */
function nextDue(entries: Entry[], now: number): Entry | undefined {
  const waiting = entries.filter(({ problem }) => !problem);
  return waiting.find((entry) => {
    if (isHeldAt(entry, now)) return false;
    return !entries.some((earlier) => earlier.id < entry.id && mustWaitFor(entry.change, earlier, now));
  });
}

function mustWaitFor(change: Change, earlier: Entry, now: number): boolean {
  const isAboutSame = subject(change) !== undefined && subject(change) === subject(earlier.change);
  if (earlier.problem) return isAboutSame && earlier.change.kind === "create";
  return isHeldAt(earlier, now) && (isAboutSame || isBulk(change) || isBulk(earlier.change));
}

/** Write what the API accepted into the copy, until the feed of changes confirms it. */
async function store(change: Change, task: Task | undefined) {
  if (isBulk(change)) {
    const before = await db.tasks.toArray();
    const after = applied(before, change);
    await db.tasks.clear();
    await db.tasks.bulkAdd(after);
  } else if (change.kind === "remove") {
    await db.tasks.delete(change.task.id);
  } else if (task && (change.kind === "create" || change.kind === "update")) {
    const key = change.kind === "create" ? { draft: change.task.id } : undefined;
    await db.tasks.put({ ...(await db.tasks.get(task.id)), ...task, ...key });
    await rebase(change, task);
  }
}

/** Later changes of the same task are made to the version that the API has now. */
async function rebase(change: Extract<Change, { kind: "create" | "update" }>, task: Task) {
  const expected = change.kind === "update" ? { ...change.task, ...change.changes } : change.task;
  const isAsExpected = isSameTask(expected, task);
  await db.outbox.toCollection().modify((entry) => {
    const later = entry.change;
    if ("ids" in later) later.ids = later.ids.map((id) => (id === change.task.id ? task.id : id));
    if (!("task" in later) || later.task.id !== change.task.id) return;
    later.task = identified(later.task, task, isAsExpected ? task.updated_at : later.task.updated_at);
  });
}
