/** How a change is sent to the API, and how an error is told apart. */

import { type Task, TaskApiError, type TaskClient, type WriteOptions } from "@todo-api/client";

import type { Change } from "@/lib/changes";
import type { Problem } from "@/lib/database";
import { fieldsOf, isConflict, isDone } from "@/lib/fields";

/** How long a response may take: the API itself gives up after 15 s. */
export const PATIENCE_MS = 20_000;

/** Another device or person changed the same. */
class Conflict extends Error {
  constructor(readonly theirs: Task) {
    super("It was changed elsewhere.");
  }
}

/** Send a change. Returns the task as the API has it now, if the change was about one that still exists. */
export async function perform(api: TaskClient, change: Change): Promise<Task | undefined> {
  switch (change.kind) {
    case "create":
      return api.create(fieldsOf(change.task), { idempotencyKey: change.task.id });
    case "update":
      return update(api, change.task, change.changes);
    case "remove":
      return remove(api, change.task);
    case "markAll":
      return markAll(api, change.ids, change.completed);
    case "clearCompleted":
      return clearCompleted(api, change.ids);
  }
}

/** Change the version that the user saw. If there is a newer one, keep its other fields, or throw `Conflict`. */
function update(api: TaskClient, seen: Task, changes: Partial<Task>) {
  return onNewest(api, seen, async (theirs, how) => {
    if (isConflict(seen, theirs, changes)) throw new Conflict(theirs);
    return isDone(theirs, changes) ? theirs : api.update(seen.id, changes, how);
  });
}

async function remove(api: TaskClient, seen: Task) {
  const removal = onNewest(api, seen, async (theirs, how) => {
    if (isConflict(seen, theirs)) throw new Conflict(theirs);
    await api.remove(seen.id, how);
    return undefined;
  });
  return removal.catch(unlessGone); // as the user wanted
}

const markAll = (api: TaskClient, ids: string[], completed: boolean) =>
  onSeen(api, ids, !completed, {
    all: () => api.markAll(completed),
    one: ({ id }, how) => api.update(id, { is_completed: completed }, how),
  });

const clearCompleted = (api: TaskClient, ids: string[]) =>
  onSeen(api, ids, true, {
    all: () => api.clearCompleted(),
    one: ({ id }, how) => api.remove(id, how),
  });

interface Work {
  all: () => Promise<unknown>;
  one: (task: Task, how: WriteOptions) => Promise<unknown>;
}

/** Write to the completed or active tasks with these ids: together if there are no others, otherwise one by one. */
async function onSeen(api: TaskClient, ids: string[], is_completed: boolean, { all, one }: Work): Promise<undefined> {
  const found = await api.list({ is_completed });
  const wanted = new Set(ids);
  const seen = found.filter(({ id }) => wanted.has(id));
  if (seen.length === found.length) return void (await all());
  for (const task of seen) {
    const work = onNewest(api, task, async (newest, how) => newest.is_completed === is_completed && one(newest, how));
    await work.catch(unlessGone);
  }
}

/** Write to the version that was seen. If that is not the newest, read the newest and write to that. */
async function onNewest<T>(api: TaskClient, seen: Task, write: (task: Task, how: WriteOptions) => Promise<T>) {
  for (let task = seen; ;) {
    try {
      return await write(task, { ifMatch: task.updated_at });
    } catch (error) {
      if (codeOf(error) !== "PRECONDITION_FAILED") throw error;
      task = await api.get(seen.id);
    }
  }
}

function unlessGone(error: unknown): undefined {
  if (codeOf(error) !== "TASK_NOT_FOUND") throw error;
}

const codeOf = (error: unknown) => (error instanceof TaskApiError ? error.code : undefined);

const LATER = [401, 429, 502, 503, 504];

/** Returns why the API refused a change, or undefined if the same change may be accepted later. */
export function problemOf(error: unknown): Problem | undefined {
  if (error instanceof Conflict) return { code: "CONFLICT", message: error.message, theirs: error.theirs };
  if (!(error instanceof TaskApiError) || error.status < 400 || LATER.includes(error.status)) return undefined;
  return { code: error.code, message: error.message };
}

/** Says why something failed. */
export function reason(error: Error): string {
  if (error instanceof TypeError) return "The service cannot be reached.";
  return error.name === "TimeoutError" ? "The service does not answer." : error.message;
}
