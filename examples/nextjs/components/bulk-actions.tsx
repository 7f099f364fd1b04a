"use client";

import type { MouseEvent } from "react";
import type { Task } from "@todo-api/client";

import type { MakeChange } from "@/components/use-changes";
import type { View } from "@/lib/view";

interface Props {
  /** All tasks, not only those that are shown. */
  tasks: Task[];
  show: View["show"];
  change: MakeChange;
}

/** What is done to all tasks that the user has here. */
export function BulkActions({ tasks, show, change }: Props) {
  const completed = tasks.filter(({ is_completed }) => is_completed).map(({ id }) => id);
  const active = tasks.filter(({ is_completed }) => !is_completed).map(({ id }) => id);

  /** The second click of a double click finds nothing left to do. */
  const onlyFirst = (action: () => Promise<boolean>) => (click: MouseEvent) => void (click.detail < 2 && action());
  const markAll = (completed: boolean, ids: string[]) => onlyFirst(() => change({ kind: "markAll", completed, ids }));

  return (
    <div className="buttons">
      {show !== "completed" && active.length > 0 && (
        <button className="quiet" onClick={markAll(true, active)}>
          Complete all
        </button>
      )}
      {show !== "active" && completed.length > 0 && (
        <button className="quiet" onClick={markAll(false, completed)}>
          Reopen all
        </button>
      )}
      {completed.length > 0 && (
        <button className="quiet" onClick={onlyFirst(() => change({ kind: "clearCompleted", ids: completed }))}>
          Clear completed
        </button>
      )}
    </div>
  );
}
