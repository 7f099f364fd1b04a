"use client";

import type { Task } from "@todo-api/client";
import { type FormEvent, useState } from "react";

import { TaskFields } from "@/components/task-fields";
import type { MakeChange } from "@/components/use-changes";
import { draft } from "@/lib/changes";
import { differences, fieldsOf } from "@/lib/fields";

interface Props {
  /** The task as it was when the editor was opened. */
  task: Task;
  /** Whether the task was deleted meanwhile. */
  isDeleted: boolean;
  knownTags: string[];
  change: MakeChange;
  onClose: () => void;
}

export function TaskEditor({ task, isDeleted, knownTags, change, onClose }: Props) {
  const [fields, setFields] = useState(fieldsOf(task));

  async function submit(event: FormEvent) {
    event.preventDefault();
    const wanted = { ...fields, title: fields.title.trim() };
    if (wanted.title === "") return;
    const changes = differences(fieldsOf(task), wanted);
    const isChanged = isDeleted || Object.keys(changes).length > 0;
    const made = () => change(isDeleted ? { kind: "create", task: draft(wanted) } : { kind: "update", task, changes });
    if (!isChanged || (await made())) onClose();
  }

  return (
    <form
      className="stack editor"
      aria-label={`Edit ${task.title}`}
      onSubmit={submit}
      onKeyDown={(event) => event.key === "Escape" && !event.nativeEvent.isComposing && onClose()}
    >
      <p role="alert" className="problem">
        {isDeleted && "This task was deleted elsewhere. What you typed is still here."}
      </p>
      <label className="field">
        <span>Title</span>
        <input
          autoFocus
          required
          maxLength={200}
          value={fields.title}
          onChange={({ target }) => setFields({ ...fields, title: target.value })}
        />
      </label>
      <TaskFields fields={fields} knownTags={knownTags} onChange={setFields} />
      <div className="buttons">
        <button className="primary">{isDeleted ? "Add as a new task" : "Save"}</button>
        <button type="button" onClick={onClose}>
          {isDeleted ? "Discard" : "Cancel"}
        </button>
      </div>
    </form>
  );
}
