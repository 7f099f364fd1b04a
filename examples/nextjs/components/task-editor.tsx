"use client";

import type { Task } from "@todo-api/client";
import { type FormEvent, useState } from "react";

interface Props {
  task: Task;
  /** Gets the fields that differ, and no other. */
  onSave: (changes: Partial<Task>) => void;
  onCancel: () => void;
}

export function TaskEditor({ task, onSave, onCancel }: Props) {
  const [title, setTitle] = useState(task.title);
  const [description, setDescription] = useState(task.description ?? "");

  function submit(event: FormEvent) {
    event.preventDefault();
    if (title.trim() === "") return;
    const wanted = { title: title.trim(), description: description.trim() || null };
    onSave({
      ...(wanted.title !== task.title && { title: wanted.title }),
      ...(wanted.description !== task.description && { description: wanted.description }),
    });
  }

  return (
    <form
      className="stack editor"
      aria-label={`Edit ${task.title}`}
      onSubmit={submit}
      onKeyDown={(event) => event.key === "Escape" && onCancel()}
    >
      <label className="field">
        <span>Title</span>
        <input autoFocus required maxLength={200} value={title} onChange={(event) => setTitle(event.target.value)} />
      </label>
      <label className="field">
        <span>Details</span>
        <textarea
          rows={3}
          maxLength={2000}
          value={description}
          onChange={(event) => setDescription(event.target.value)}
        />
      </label>
      <div className="buttons">
        <button className="primary">Save</button>
        <button type="button" onClick={onCancel}>
          Cancel
        </button>
      </div>
    </form>
  );
}
