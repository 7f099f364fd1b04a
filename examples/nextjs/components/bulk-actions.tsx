"use client";

import { type MouseEvent, useRef } from "react";

import type { Change } from "@/lib/changes";
import type { View } from "@/lib/view";

interface Props {
  show: View["show"];
  change: (change: Change) => void;
}

/** What is done to all of the user's tasks, not only to those that are shown. */
export function BulkActions({ show, change }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  const cancel = useRef<HTMLButtonElement>(null);

  function ask() {
    dialog.current?.showModal();
    cancel.current?.focus(); // one Enter too many deletes nothing
  }

  /** The second click of a double click finds nothing left to do. */
  const markAll = (completed: boolean) => (click: MouseEvent) => {
    if (click.detail < 2) change({ kind: "markAll", completed });
  };

  return (
    <div className="buttons">
      {show !== "completed" && (
        <button className="quiet" onClick={markAll(true)}>
          Complete all
        </button>
      )}
      {show !== "active" && (
        <button className="quiet" onClick={markAll(false)}>
          Reopen all
        </button>
      )}
      <button className="quiet" onClick={ask}>
        Clear completed
      </button>
      <dialog ref={dialog} aria-labelledby="clear-completed">
        <form method="dialog" className="stack" onSubmit={() => change({ kind: "clearCompleted" })}>
          <h2 id="clear-completed">Delete all completed tasks?</h2>
          <p className="muted">This cannot be undone.</p>
          <div className="buttons">
            <button className="primary">Delete them</button>
            <button ref={cancel} type="button" onClick={() => dialog.current?.close()}>
              Cancel
            </button>
          </div>
        </form>
      </dialog>
    </div>
  );
}
