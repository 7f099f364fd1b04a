/** Which tasks are looked at: what the address says, and what the API is asked for. */

import type { PageQuery, Task } from "@todo-api/client";

export const SHOWN = ["all", "active", "completed"] as const;

export interface View {
  show: (typeof SHOWN)[number];
  q: string;
}

export const EVERYTHING: View = { show: "all", q: "" };

type Params = Record<string, string | string[] | undefined>;

export function viewOf({ show, q }: Params): View {
  return { show: SHOWN.find((name) => name === show) ?? "all", q: typeof q === "string" ? q.trim().slice(0, 200) : "" };
}

export function addressOf({ show, q }: View): string {
  const params = new URLSearchParams({ ...(show !== "all" && { show }), ...(q && { q }) }).toString();
  return params ? `/?${params}` : "/";
}

export function queryOf({ show, q }: View): PageQuery {
  return {
    limit: 20,
    include_total: true,
    ...(q && { q }),
    ...(show !== "all" && { is_completed: show === "completed" }),
  };
}

/** Whether a task that was just changed still belongs in a view, before the API says so. */
export function belongs({ title, description, is_completed }: Task, { show, q }: View): boolean {
  const text = `${title}\n${description ?? ""}`.toLowerCase();
  return (show === "all" || is_completed === (show === "completed")) && text.includes(q.toLowerCase());
}
