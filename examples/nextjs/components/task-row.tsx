"use client";

import type { Task } from "@todo-api/client";
import { useRef, useState } from "react";

import { focusNeighbour } from "@/components/focus";
import { Bin, Pencil } from "@/components/icons";
import { TaskEditor } from "@/components/task-editor";
import { type Change, isDraft } from "@/lib/changes";

interface Props {
  task: Task;
  /** Whether the row goes away when its task is completed or reopened. */
  leaves: boolean;
  change: (change: Change) => void;
}

export function TaskRow({ task, leaves, change }: Props) {
  const [edited, setEdited] = useState<Task>();
  const row = useRef<HTMLLIElement>(null);

  function closeEditor() {
    setEdited(undefined);
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

  if (edited) {
    return (
      <li ref={row}>
        <TaskEditor
          task={edited}
          onCancel={closeEditor}
          onSave={(changes) => {
            if (Object.keys(changes).length > 0) change({ kind: "update", task: edited, changes });
            closeEditor();
          }}
        />
      </li>
    );
  }
  return (
    <li ref={row} className={task.is_completed ? "task done" : "task"} aria-busy={isDraft(task)}>
      <label>
        <input type="checkbox" checked={task.is_completed} disabled={isDraft(task)} onChange={toggle} />
        <span className="title">{task.title}</span>
      </label>
      {task.description && <p className="muted description">{task.description}</p>}
      <div className="actions">
        <button
          className="icon edit"
          aria-label={`Edit ${task.title}`}
          disabled={isDraft(task)}
          onClick={() => setEdited(task)}
        >
          <Pencil />
        </button>
        <button className="icon remove" aria-label={`Delete ${task.title}`} disabled={isDraft(task)} onClick={remove}>
          <Bin />
        </button>
      </div>
    </li>
  );
}
