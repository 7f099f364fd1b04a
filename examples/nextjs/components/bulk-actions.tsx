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

/** What is done to all of the user's tasks. */
export function BulkActions({ tasks, show, change }: Props) {
  const completed = tasks.filter(({ is_completed }) => is_completed).length;
  const active = tasks.length - completed;

  /** The second click of a double click finds nothing left to do. */
  const onlyFirst = (action: () => Promise<boolean>) => (click: MouseEvent) => void (click.detail < 2 && action());
  const markAll = (completed: boolean, count: number) => onlyFirst(() => change({ kind: "markAll", completed, count }));

  return (
    <div className="buttons">
      {show !== "completed" && active > 0 && (
        <button className="quiet" onClick={markAll(true, active)}>
          Complete all
        </button>
      )}
      {show !== "active" && completed > 0 && (
        <button className="quiet" onClick={markAll(false, completed)}>
          Reopen all
        </button>
      )}
      {completed > 0 && (
        <button className="quiet" onClick={onlyFirst(() => change({ kind: "clearCompleted", count: completed }))}>
          Clear completed
        </button>
      )}
    </div>
  );
}
