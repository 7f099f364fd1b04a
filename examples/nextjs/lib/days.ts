/** Days without a time, such as "2026-02-14", in the time zone of this browser. */

import type { Task } from "@todo-api/client";

export const DUE = ["overdue", "today", "upcoming"] as const;
export type Due = (typeof DUE)[number];

const pad = (number: number, length: number) => String(number).padStart(length, "0");

/** The day on the user's clock. */
export function dayOf(time: Date): string {
  return [pad(time.getFullYear(), 4), pad(time.getMonth() + 1, 2), pad(time.getDate(), 2)].join("-");
}

/** How long this day still lasts: 23 or 25 hours at most when daylight saving time changes. */
export function untilTomorrow(time: Date): number {
  return new Date(time.getFullYear(), time.getMonth(), time.getDate() + 1).getTime() - time.getTime();
}

/** Days between two days. Both are read as UTC, where every day has 24 hours. */
const between = (from: string, to: string) => Math.round((Date.parse(to) - Date.parse(from)) / 86_400_000);

/** Whether an open task is overdue, due today or later; undefined if it is completed or has no due date. */
export function dueOf({ due_date, is_completed }: Task, today: string): Due | undefined {
  if (due_date === null || is_completed) return undefined;
  if (due_date === today) return "today";
  return due_date < today ? "overdue" : "upcoming";
}

/** Says when a day is: "Today", "Tomorrow", "3 days ago", "14 February". */
export function dayName(day: string, today: string): string {
  const days = between(today, day);
  if (Math.abs(days) <= 1) return ["Yesterday", "Today", "Tomorrow"][days + 1] as string;
  if (days < 0 && days >= -30) return `${-days} days ago`;
  const isThisYear = day.slice(0, 4) === today.slice(0, 4);
  const date: Intl.DateTimeFormatOptions = { day: "numeric", month: "long", ...(!isThisYear && { year: "numeric" }) };
  const format: Intl.DateTimeFormatOptions = days > 0 && days < 7 ? { weekday: "long" } : date;
  return new Intl.DateTimeFormat("en-GB", { ...format, timeZone: "UTC" }).format(Date.parse(day));
}
