/** The fields of a task that the user edits. A new field begins here. */

import type { Task } from "@todo-api/client";

export type Fields = Pick<Task, "title" | "description" | "due_date" | "priority" | "tags">;

export const EMPTY: Fields = { title: "", description: null, due_date: null, priority: null, tags: [] };

/** What a change may conflict about. */
const NAMES = [...(Object.keys(EMPTY) as (keyof Fields)[]), "is_completed"] as const;

export const PRIORITIES = ["high", "medium", "low"] as const;

export function fieldsOf({ title, description, due_date, priority, tags }: Task): Fields {
  return { title, description, due_date, priority, tags };
}

/** Whether a text, a list of tags or another value is the same. */
export const isSame = (one: unknown, other: unknown) => JSON.stringify(one) === JSON.stringify(other);

/** Returns the fields that differ, with their new values. */
export function differences(before: Fields, after: Fields): Partial<Fields> {
  const changed = Object.entries(after).filter(([name, value]) => !isSame(value, before[name as keyof Fields]));
  return Object.fromEntries(changed);
}

export const isSameTask = (one: Task, other: Task) => NAMES.every((name) => isSame(one[name], other[name]));

/** Whether `theirs` has another value than `seen` where `mine` has one too; without `mine`, anywhere. */
export function isConflict(seen: Task, theirs: Task, mine: Partial<Task> = seen): boolean {
  const changed = NAMES.filter((name) => name in mine && !isSame(theirs[name], seen[name]));
  return changed.some((name) => !isSame(theirs[name], mine[name]));
}

/** Whether a task already has these values. */
export function isDone(task: Task, changes: Partial<Task>): boolean {
  return NAMES.every((name) => !(name in changes) || isSame(task[name], changes[name]));
}
