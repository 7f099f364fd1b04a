/** What a user may do to tasks: how it looks at once, how it is done, and how it is told. */

import { newIdempotencyKey, type Task, TaskApiError, type TaskClient } from "@todo-api/client";

import { belongs, type View } from "@/lib/view";

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
  return { id: newIdempotencyKey(), user_id: "", ...text, is_completed: false, created_at: "", updated_at: "" };
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

/** Do it, and return it with what the API made of it. */
export async function perform(tasks: TaskClient, change: Change): Promise<Change> {
  switch (change.kind) {
    case "create": {
      const { id, title, description } = change.task;
      return { ...change, task: await tasks.create({ title, description }, { idempotencyKey: id }) };
    }
    case "update": {
      const { task, changes } = change;
      const update = (ifMatch: string) => tasks.update(task.id, changes, { ifMatch });
      return { ...change, seen: task, task: await unlessInConflict(tasks, task, changes, update) };
    }
    case "remove":
      await unlessInConflict(tasks, change.task, {}, (ifMatch) => tasks.remove(change.task.id, { ifMatch })).catch(
        unlessGone,
      );
      return change;
    case "markAll":
      return { ...change, count: await tasks.markAll(change.completed) };
    case "clearCompleted":
      return { ...change, count: await tasks.clearCompleted() };
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
  write: (ifMatch: string) => Promise<T>,
) {
  const all = { title: seen.title, description: seen.description, is_completed: seen.is_completed };
  const wanted = Object.entries(Object.keys(changes).length > 0 ? changes : all) as [keyof typeof all, unknown][];
  for (let version = seen.updated_at; ;) {
    try {
      return await write(version);
    } catch (error) {
      if (codeOf(error) !== "PRECONDITION_FAILED") throw error;
      const theirs = await tasks.get(seen.id);
      if (wanted.some(([name, mine]) => theirs[name] !== seen[name] && theirs[name] !== mine))
        throw new Conflict(theirs);
      version = theirs.updated_at;
    }
  }
}

function unlessGone(error: unknown) {
  if (codeOf(error) !== "TASK_NOT_FOUND") throw error;
}

const codeOf = (error: unknown) => (error instanceof TaskApiError ? error.code : undefined);

/** Whether the same once more may succeed. */
export function mayBeRepeated(error: unknown): boolean {
  return !["TASK_NOT_FOUND", "VALIDATION_ERROR", "TASK_LIMIT_REACHED"].includes(codeOf(error) ?? "");
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
  if (codeOf(error) === "TASK_NOT_FOUND") return "It was deleted elsewhere.";
  if (error instanceof TaskApiError) return [error.message, ...Object.values(error.errors).flat()].join(" ");
  return error instanceof TypeError ? "The service cannot be reached." : String((error as Error).message);
}
