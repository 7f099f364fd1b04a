/** What a user may do to tasks, and how the list looks after it. */

import { newIdempotencyKey, type Task } from "@todo-api/client";

import { EMPTY, type Fields, fieldsOf } from "@/lib/fields";

/** `task` is the task as the user saw it, `ids` are those of the tasks that the user saw: no other is changed. */
export type Change =
  | { kind: "create"; task: Task }
  | { kind: "update"; task: Task; changes: Partial<Task> }
  | { kind: "remove"; task: Task }
  | { kind: "markAll"; completed: boolean; ids: string[] }
  | { kind: "clearCompleted"; ids: string[] };

/** Make a task that the API has not seen. Its id is the idempotency key, the same however often it is sent. */
export function draft(fields: Partial<Fields>): Task {
  const now = new Date().toISOString();
  const rest = { user_id: "", is_completed: false, completed_at: null, created_at: now, updated_at: now };
  return { ...EMPTY, ...fields, id: newIdempotencyKey(), ...rest };
}

export const isDraft = (task: Task) => task.user_id === "";

export const isBulk = (change: Change) => change.kind === "markAll" || change.kind === "clearCompleted";

/** Whether it is sent only when the time to undo it is over. */
export const canBeUndone = (change: Change) => change.kind === "remove" || change.kind === "clearCompleted";

/** The id of the task that a change is about. */
export const subject = (change: Change) => ("task" in change ? change.task.id : undefined);

/** Returns all tasks as this change makes them. */
export function applied(tasks: Task[], change: Change): Task[] {
  switch (change.kind) {
    case "create":
      return [change.task, ...tasks];
    case "update":
      return tasks.map((task) => (task.id === change.task.id ? { ...task, ...change.changes } : task));
    case "remove":
      return tasks.filter(({ id }) => id !== change.task.id);
    case "markAll":
      return appliedToAll(tasks, change.ids, (task) => [{ ...task, is_completed: change.completed }]);
    case "clearCompleted":
      return appliedToAll(tasks, change.ids, (task) => (task.is_completed ? [] : [task]));
  }
}

function appliedToAll(tasks: Task[], ids: string[], change: (task: Task) => Task[]): Task[] {
  const seen = new Set(ids);
  return tasks.flatMap((task) => (seen.has(task.id) ? change(task) : [task]));
}

/** Two changes of one task as one. */
export function joined(first: Change, second: Change): Change {
  if (first.kind !== "update" || second.kind !== "update") return second;
  return { ...second, changes: { ...first.changes, ...second.changes } };
}

/** What was written into a task that was deleted meanwhile, as a task of its own. */
export function rescued(change: Change): Change | undefined {
  if (change.kind !== "update" || isSameState(change.changes)) return undefined;
  return { kind: "create", task: draft(fieldsOf({ ...change.task, ...change.changes })) };
}

const isSameState = (changes: Partial<Task>) => Object.keys(changes).every((name) => name === "is_completed");
