"use client";

import type { Task } from "@todo-api/client";
import { useRef, useState } from "react";

import { Bin, Pencil } from "@/components/icons";
import { TaskEditor } from "@/components/task-editor";
import { type Change, isDraft } from "@/lib/changes";

interface Props {
  task: Task;
  change: (change: Change) => void;
}

export function TaskRow({ task, change }: Props) {
  const [edited, setEdited] = useState<Task>();
  const row = useRef<HTMLLIElement>(null);

  function closeEditor() {
    setEdited(undefined);
    requestAnimationFrame(() => row.current?.querySelector<HTMLElement>(".edit")?.focus());
  }

  /** Where the focus goes when this row does. */
  function focusNeighbour(selector: string) {
    const neighbour = row.current?.nextElementSibling ?? row.current?.previousElementSibling;
    (neighbour?.querySelector<HTMLElement>(selector) ?? document.getElementById("new-task"))?.focus();
  }

  function toggle() {
    change({ kind: "update", task, changes: { is_completed: !task.is_completed } });
    const checkbox = row.current?.querySelector("input");
    requestAnimationFrame(() => checkbox?.isConnected || focusNeighbour("input"));
  }

  function remove() {
    focusNeighbour(".remove");
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
        <button className="icon edit" aria-label={`Edit ${task.title}`} disabled={isDraft(task)} onClick={() => setEdited(task)}>
          <Pencil />
        </button>
        <button className="icon remove" aria-label={`Delete ${task.title}`} disabled={isDraft(task)} onClick={remove}>
          <Bin />
        </button>
      </div>
    </li>
  );
}
