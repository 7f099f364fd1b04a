/** What is said about changes. */

import type { Change } from "@/lib/changes";
import { PRIORITIES } from "@/lib/fields";

const tasks = (count: number) => (count === 1 ? "1 task" : `${count} tasks`);

export const changes = (count: number) => (count === 1 ? "1 change" : `${count} changes`);

/** Says what was done. */
export function done(change: Change): string {
  const [, verb] = verbs(change);
  return "task" in change ? `${verb} “${titleOf(change)}”.` : `${verb} ${tasks(change.ids.length)}.`;
}

/** Says what could not be done. */
export function failed(change: Change): string {
  const [verb] = verbs(change);
  if (change.kind === "markAll") return `Could not ${verb} all tasks.`;
  if (change.kind === "clearCompleted") return `Could not ${verb} the completed tasks.`;
  return `Could not ${verb} “${titleOf(change)}”.`;
}

const titleOf = (change: Extract<Change, { task: unknown }>) =>
  (change.kind === "update" && change.changes.title) || change.task.title;

function verbs(change: Change): [string, string] {
  if (change.kind === "create") return ["add", "Added"];
  if (change.kind === "remove" || change.kind === "clearCompleted") return ["delete", "Deleted"];
  const completed = change.kind === "markAll" ? change.completed : change.changes.is_completed;
  if (completed === undefined) return ["save", "Saved"];
  return completed ? ["complete", "Completed"] : ["reopen", "Reopened"];
}

export const priorityName = (priority: (typeof PRIORITIES)[number]) =>
  ({ high: "High priority", medium: "Medium priority", low: "Low priority" })[priority];
