"use client";

import type { Task } from "@todo-api/client";
import { type FormEvent, useState } from "react";

import { useIsDeleted } from "@/components/use-tasks";
import { type Change, draft } from "@/lib/changes";

interface Props {
  task: Task;
  /** Whether the list does not have it any more. */
  isGone: boolean;
  change: (change: Change) => void;
  onClose: () => void;
}

export function TaskEditor({ task, isGone, change, onClose }: Props) {
  const isDeleted = useIsDeleted(task.id, isGone);
  const [title, setTitle] = useState(task.title);
  const [description, setDescription] = useState(task.description ?? "");

  function submit(event: FormEvent) {
    event.preventDefault();
    if (title.trim() === "") return;
    const wanted = draft(title, description);
    const changes = {
      ...(wanted.title !== task.title && { title: wanted.title }),
      ...(description !== (task.description ?? "") && { description: wanted.description }),
    };
    if (isDeleted) change({ kind: "create", task: wanted });
    else if (Object.keys(changes).length > 0) change({ kind: "update", task, changes });
    onClose();
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
        <button className="primary">{isDeleted ? "Add as a new task" : "Save"}</button>
        <button type="button" onClick={onClose}>
          {isDeleted ? "Discard" : "Cancel"}
        </button>
      </div>
    </form>
  );
}
