"use client";

import type { Task } from "@todo-api/client";
import { useRef } from "react";

import type { Change } from "@/lib/changes";

/** What is done to all of the user's tasks, not only to those that are shown. */
export function BulkActions({ tasks, change }: { tasks: Task[]; change: (change: Change) => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const areDone = tasks.every((task) => task.is_completed);
  return (
    <div className="buttons">
      <button className="quiet" onClick={() => change({ kind: "markAll", completed: !areDone })}>
        {areDone ? "Reopen all" : "Complete all"}
      </button>
      <button className="quiet" onClick={() => dialog.current?.showModal()}>
        Clear completed
      </button>
      <dialog ref={dialog} aria-labelledby="clear-completed">
        <form method="dialog" className="stack" onSubmit={() => change({ kind: "clearCompleted" })}>
          <h2 id="clear-completed">Delete all completed tasks?</h2>
          <p className="muted">This cannot be undone.</p>
          <div className="buttons">
            <button className="primary">Delete them</button>
            <button type="button" onClick={() => dialog.current?.close()}>
              Cancel
            </button>
          </div>
        </form>
      </dialog>
    </div>
  );
}
