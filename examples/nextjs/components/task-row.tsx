"use client";

import type { Task } from "@todo-api/client";
import { type MouseEvent, useRef } from "react";

import { focusNeighbour } from "@/components/focus";
import { Bin, Pencil } from "@/components/icons";
import { TaskEditor } from "@/components/task-editor";
import { type Change, isDraft } from "@/lib/changes";

interface Props {
  task: Task;
  /** Whether the row goes away when its task is completed or reopened. */
  leaves: boolean;
  /** The task as it was when its editor was opened, while it is open. */
  edited: Task | undefined;
  /** Whether the list does not have it any more: what has an editor stays. */
  isGone: boolean;
  onEdit: () => void;
  onClose: () => void;
  change: (change: Change) => void;
}

export function TaskRow({ task, leaves, edited, isGone, onEdit, onClose, change }: Props) {
  const row = useRef<HTMLLIElement>(null);

  function closeEditor() {
    onClose();
    requestAnimationFrame(() => row.current?.querySelector<HTMLElement>(".edit")?.focus());
  }

  function toggle() {
    if (leaves) focusNeighbour(row.current, "input");
    change({ kind: "update", task, changes: { is_completed: !task.is_completed } });
  }

  function remove() {
    focusNeighbour(row.current, ".remove");
    change({ kind: "remove", task });
  }

  /** The second click of a double click is not meant for the row that has come under the pointer by then. */
  function onlyFirst(click: MouseEvent) {
    if (click.detail < 2) return;
    click.preventDefault();
    click.stopPropagation();
  }

  if (edited) {
    return (
      <li ref={row}>
        <TaskEditor task={edited} isGone={isGone} change={change} onClose={closeEditor} />
      </li>
    );
  }
  return (
    <li ref={row} className={task.is_completed ? "task done" : "task"} aria-busy={isDraft(task)}>
      <label onClickCapture={leaves ? onlyFirst : undefined}>
        <input type="checkbox" checked={task.is_completed} disabled={isDraft(task)} onChange={toggle} />
        <span className="title">{task.title}</span>
      </label>
      {task.description && <p className="muted description">{task.description}</p>}
      <div className="actions">
        <button
          className="icon edit"
          aria-label={`Edit ${task.title}`}
          disabled={isDraft(task)}
          onClick={onEdit}
        >
          <Pencil />
        </button>
        <button
          className="icon remove"
          aria-label={`Delete ${task.title}`}
          disabled={isDraft(task)}
          onClickCapture={onlyFirst}
          onClick={remove}
        >
          <Bin />
        </button>
      </div>
    </li>
  );
}
