/** What a user may do to tasks: how it looks at once, how it is done, and how it is told. */

import { newIdempotencyKey, type Task, TaskApiError, type TaskClient, type WriteOptions } from "@todo-api/client";

import { belongs, type View } from "@/lib/view";

/** How long an answer may take: the API itself gives up after 15 s. */
export const PATIENCE_MS = 20_000;

/** `task` is the task as the user saw it; once that is done, it is what the API made of it, and the other is `seen`. */
export type Change =
  | { kind: "create"; task: Task }
  | { kind: "update"; task: Task; changes: Partial<Task>; seen?: Task }
  | { kind: "remove"; task: Task }
  | { kind: "markAll"; completed: boolean; count?: number }
  | { kind: "clearCompleted"; count?: number };

/** Somebody else, or the user elsewhere, changed what this change is about. */
export class Conflict extends Error {
  constructor(readonly theirs: Task) {
    super("It was changed elsewhere.");
  }
}

/** Make a task that the API has not seen. Its id is the idempotency key, the same however often it is sent. */
export function draft(title: string, description: string): Task {
  const text = { title: title.trim(), description: description.trim() || null };
  const none = { completed_at: null, due_date: null, priority: null, tags: [], created_at: "", updated_at: "" };
  return { id: newIdempotencyKey(), user_id: "", ...text, is_completed: false, ...none };
}

export const isDraft = (task: Task) => task.created_at === "";

/** Returns the tasks of a view as this change makes them. */
export function applied(tasks: Task[], change: Change, view: View): Task[] {
  switch (change.kind) {
    case "create": {
      const others = tasks.filter(({ id }) => id !== change.task.id); // a repeat may find it in the list
      return belongs(change.task, view) ? [change.task, ...others] : others;
    }
    case "update": {
      const isThere = tasks.some(({ id }) => id === change.task.id);
      // It comes in by this change. One that belonged before is further down, on a page that was not loaded.
      const comesIn = !isThere && !belongs(change.seen ?? change.task, view);
      return (comesIn ? [change.task, ...tasks] : tasks).flatMap((task) => {
        if (task.id !== change.task.id) return [task];
        const newest = change.task.updated_at > task.updated_at ? change.task : task;
        const changed = { ...newest, ...change.changes };
        return belongs(changed, view) ? [changed] : [];
      });
    }
    case "remove":
      return tasks.filter(({ id }) => id !== change.task.id);
    case "markAll":
      return view.show === "all" || (view.show === "completed") === change.completed
        ? tasks.map((task) => ({ ...task, is_completed: change.completed }))
        : [];
    case "clearCompleted":
      return tasks.filter(({ is_completed }) => !is_completed);
  }
}

/** An editor stays where it was, whatever has become of its task: what is typed into it must not be lost. */
export function withEdited(tasks: Task[], edited: Task[]): Task[] {
  const gone = edited.filter(({ id }) => !tasks.some((task) => task.id === id));
  const made = (task: Task) => (isDraft(task) ? "newest" : task.created_at);
  return gone.length > 0 ? [...tasks, ...gone].sort((a, b) => made(b).localeCompare(made(a))) : tasks;
}

/** Two changes of one task as one. */
export function joined(first: Change, second: Change): Change {
  if (first.kind !== "update" || second.kind !== "update") return second;
  return { ...second, changes: { ...first.changes, ...second.changes } };
}

/** Do it, and return it with what the API made of it. */
export async function perform(tasks: TaskClient, change: Change): Promise<Change> {
  const patience = { signal: AbortSignal.timeout(PATIENCE_MS) }; // others wait for it
  switch (change.kind) {
    case "create": {
      const { id, title, description } = change.task;
      return { ...change, task: await tasks.create({ title, description }, { ...patience, idempotencyKey: id }) };
    }
    case "update": {
      const { task, changes } = change;
      const update = (how: WriteOptions) => tasks.update(task.id, changes, how);
      return { ...change, seen: task, task: await unlessInConflict(tasks, task, changes, patience, update) };
    }
    case "remove":
      await unlessInConflict(tasks, change.task, {}, patience, (how) => tasks.remove(change.task.id, how)).catch(
        unlessDeleted,
      );
      return change;
    case "markAll":
      return { ...change, count: await tasks.markAll(change.completed, patience) };
    case "clearCompleted":
      return { ...change, count: await tasks.clearCompleted(patience) };
  }
}

/**
 * Change the version that the user saw. When there is a newer one, its other fields are kept and the change made to it,
 * unless it has another value where the change has one (with no changes: anywhere).
 */
async function unlessInConflict<T>(
  tasks: TaskClient,
  seen: Task,
  changes: Partial<Task>,
  how: WriteOptions,
  write: (how: WriteOptions) => Promise<T>,
) {
  const { id, user_id, created_at, updated_at, ...all } = seen;
  const wanted = Object.entries(Object.keys(changes).length > 0 ? changes : all) as [keyof typeof all, unknown][];
  for (let version = seen.updated_at; ;) {
    try {
      return await write({ ...how, ifMatch: version });
    } catch (error) {
      if (codeOf(error) !== "PRECONDITION_FAILED") throw error;
      const theirs = await tasks.get(seen.id, how);
      if (wanted.some(([name, mine]) => theirs[name] !== seen[name] && theirs[name] !== mine))
        throw new Conflict(theirs);
      version = theirs.updated_at;
    }
  }
}

function unlessDeleted(error: unknown) {
  if (!isDeleted(error)) throw error;
}

const codeOf = (error: unknown) => (error instanceof TaskApiError ? error.code : undefined);

/** Whether the task is there no more. */
export const isDeleted = (error: unknown) => codeOf(error) === "TASK_NOT_FOUND";

const isTooLate = (error: unknown) => error instanceof DOMException && error.name === "TimeoutError";

export const isUnreachable = (error: unknown) => error instanceof TypeError || isTooLate(error);

/** Whether the same once more may succeed. */
export function mayBeRepeated(error: unknown): boolean {
  return !["TASK_NOT_FOUND", "VALIDATION_ERROR"].includes(codeOf(error) ?? "");
}

/** What was written into a task that was deleted meanwhile, as a task of its own. */
export function rescued(change: Change, error: unknown): Change | undefined {
  if (!isDeleted(error) || change.kind !== "update") return undefined;
  if (!("title" in change.changes) && !("description" in change.changes)) return undefined;
  const { title, description } = { ...change.task, ...change.changes };
  return { kind: "create", task: draft(title, description ?? "") };
}

/** Says what was done. */
export function done(change: Change): string {
  const [, verb] = verbs(change);
  if (change.kind === "markAll" || change.kind === "clearCompleted") {
    return `${verb} ${change.count === 1 ? "1 task" : `${change.count} tasks`}.`;
  }
  return `${verb} “${change.task.title}”.`;
}

/** Says what could not be done. */
export function failed(change: Change): string {
  const [verb] = verbs(change);
  if (change.kind === "markAll") return `Could not ${verb} all tasks.`;
  if (change.kind === "clearCompleted") return `Could not ${verb} the completed tasks.`;
  const { title } = change.kind === "update" ? { ...change.task, ...change.changes } : change.task;
  return `Could not ${verb} “${title}”.`;
}

function verbs(change: Change): [string, string] {
  if (change.kind === "create") return ["add", "Added"];
  if (change.kind === "remove" || change.kind === "clearCompleted") return ["delete", "Deleted"];
  const completed = change.kind === "markAll" ? change.completed : change.changes.is_completed;
  if (completed === undefined) return ["save", "Saved"];
  return completed ? ["complete", "Completed"] : ["reopen", "Reopened"];
}

/** Says why something failed. */
export function reason(error: unknown): string {
  if (isDeleted(error)) return "It was deleted elsewhere.";
  if (error instanceof TaskApiError) return error.message;
  if (isTooLate(error)) return "The service does not answer.";
  return error instanceof TypeError ? "The service cannot be reached." : String((error as Error).message);
}
