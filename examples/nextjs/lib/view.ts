/** Which tasks are shown and in which order: filters, search and sorting, and how the address holds them. */

import type { Task } from "@todo-api/client";

import { isDraft } from "@/lib/changes";
import { DUE, type Due, dueOf } from "@/lib/days";
import { PRIORITIES } from "@/lib/fields";

export const SHOWN = ["all", "active", "completed"] as const;
export const SORTS = ["newest", "due", "priority", "title", "changed"] as const;

export interface View {
  show: (typeof SHOWN)[number];
  due: Due | "";
  priority: (typeof PRIORITIES)[number] | "none" | "";
  tag: string;
  q: string;
  sort: (typeof SORTS)[number];
}

export const EVERYTHING: View = { show: "all", due: "", priority: "", tag: "", q: "", sort: "newest" };

export function viewOf(address: URLSearchParams): View {
  const one = <T extends string>(name: string, allowed: readonly T[], otherwise: T) =>
    allowed.find((value) => value === address.get(name)) ?? otherwise;
  return {
    show: one("show", SHOWN, "all"),
    due: one("due", ["", ...DUE], ""),
    priority: one("priority", ["", ...PRIORITIES, "none"], ""),
    tag: address.get("tag") ?? "",
    q: (address.get("q") ?? "").trim().slice(0, 200),
    sort: one("sort", SORTS, "newest"),
  };
}

export function addressOf(view: View): string {
  const chosen = Object.entries(view).filter(([name, value]) => value !== EVERYTHING[name as keyof View]);
  const params = new URLSearchParams(chosen).toString();
  return params ? `/?${params}` : "/";
}

/** Whether there is a search or a filter, beside the choice of active or completed tasks. */
export const isFiltered = ({ due, priority, tag, q }: View) => [due, priority, tag, q].some((value) => value !== "");

export function belongs(task: Task, view: View, today: string): boolean {
  const { show, due, priority, tag, q } = view;
  if (show !== "all" && task.is_completed !== (show === "completed")) return false;
  if (due && dueOf(task, today) !== due) return false;
  if (priority && (task.priority ?? "none") !== priority) return false;
  if (tag && !task.tags.includes(tag)) return false;
  return !q || `${task.title}\n${task.description ?? ""}`.toLowerCase().includes(q.toLowerCase());
}

const byText = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);
const titles = new Intl.Collator("en", { numeric: true });
const rank = ({ priority }: Task) => (priority ? PRIORITIES.indexOf(priority) : PRIORITIES.length);

const LAST = "~"; // sorts after every date

/** A task that the API has not seen is newer than all that it has, whatever this device's clock says. */
const timeOf = (task: Task, name: "created_at" | "updated_at") => (isDraft(task) ? LAST : "") + task[name];

const ORDERS: Record<View["sort"], (a: Task, b: Task) => number> = {
  newest: (a, b) => byText(timeOf(b, "created_at"), timeOf(a, "created_at")) || byText(b.id, a.id),
  due: (a, b) => byText(a.due_date ?? LAST, b.due_date ?? LAST),
  priority: (a, b) => rank(a) - rank(b),
  title: (a, b) => titles.compare(a.title, b.title),
  changed: (a, b) => byText(timeOf(b, "updated_at"), timeOf(a, "updated_at")),
};

/** Sorts without changing the array. Equal tasks are sorted newest first. */
export function sorted(tasks: Task[], sort: View["sort"]): Task[] {
  return [...tasks].sort((a, b) => ORDERS[sort](a, b) || ORDERS.newest(a, b));
}

/** All tags in use. */
export function tagsOf(tasks: Task[]): string[] {
  return [...new Set(tasks.flatMap(({ tags }) => tags))].sort(titles.compare);
}
