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

/** Read all changes since a copy, or a first copy. They are applied only when all have been read. */
export async function followed(
  copy: TaskCopy | undefined,
  read: (since: string | undefined) => Promise<Changes>,
): Promise<TaskCopy> {
  const responses: Changes[] = [];
  let next = copy?.next;
  let response: Changes;
  do {
    response = await read(next);
    responses.push(response);
    next = response.next;
  } while (response.has_more);
  return merged(copy, responses, next);
}

function merged(copy: TaskCopy | undefined, responses: Changes[], next: string): TaskCopy {
  const isUnchanged = responses.every(({ tasks, deleted }) => tasks.length + deleted.length === 0);
  if (copy && isUnchanged) return next === copy.next ? copy : { tasks: copy.tasks, next };
  const tasks = new Map(copy?.tasks.map((task) => [task.id, task]));
  for (const response of responses) {
    for (const id of response.deleted) tasks.delete(id);
    for (const task of response.tasks) tasks.set(task.id, task);
  }
  return { tasks: [...tasks.values()].sort(newestFirst), next };
}

function newestFirst(a: Task, b: Task): number {
  const [left, right] = a.created_at === b.created_at ? [a.id, b.id] : [a.created_at, b.created_at];
  return left < right ? 1 : -1;
}
