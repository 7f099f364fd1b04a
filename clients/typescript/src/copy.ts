/** A client's copy of all tasks of a user, kept up to date with the feed of changes. */

import type { paths } from "./schema.js";

export type Changes = paths["/api/tasks/changes"]["get"]["responses"][200]["content"]["application/json"];
type Task = Changes["tasks"][number];

/** All tasks of a user. It is plain JSON, so it can be stored. Do not change it: `sync` makes a new one. */
export interface TaskCopy {
  /** Newest first, like `list()`. */
  readonly tasks: readonly Task[];
  /** `since` of the next request for changes. */
  readonly next: string;
}

/** All changes since a position in the feed. */
export interface Update {
  /** Tasks that were created or changed, in their current state. */
  readonly tasks: readonly Task[];
  /** Ids of tasks that were deleted. */
  readonly deleted: readonly string[];
  /** `since` of the next request for changes. */
  readonly next: string;
  /** Whether these are all tasks of the user. Remove all others from the copy. */
  readonly isWhole: boolean;
}

/** Read the feed to its end. Returns nothing before all has been read. */
export async function followed(
  since: string | undefined,
  read: (since: string | undefined) => Promise<Changes>,
): Promise<Update> {
  const tasks = new Map<string, Task>();
  const deleted = new Set<string>();
  let next = since;
  let response: Changes;
  do {
    response = await read(next);
    for (const id of response.deleted) (deleted.add(id), tasks.delete(id));
    for (const task of response.tasks) (tasks.set(task.id, task), deleted.delete(task.id));
    next = response.next;
  } while (response.has_more);
  return { tasks: [...tasks.values()], deleted: [...deleted], next, isWhole: since === undefined };
}

/** Returns the copy with an update applied: the same object if nothing changed. */
export function merged(copy: TaskCopy | undefined, { tasks, deleted, next, isWhole }: Update): TaskCopy {
  const old = isWhole ? undefined : copy;
  if (old && tasks.length + deleted.length === 0) return next === old.next ? old : { tasks: old.tasks, next };
  const all = new Map(old?.tasks.map((task) => [task.id, task]));
  for (const id of deleted) all.delete(id);
  for (const task of tasks) all.set(task.id, task);
  return { tasks: [...all.values()].sort(newestFirst), next };
}

function newestFirst(a: Task, b: Task): number {
  const [left, right] = a.created_at === b.created_at ? [a.id, b.id] : [a.created_at, b.created_at];
  return left < right ? 1 : -1;
}
