"use client";

import type { Task } from "@todo-api/client";
import { type FormEvent, useRef, useState } from "react";

import { draft } from "@/lib/changes";

export function NewTask({ onAdd }: { onAdd: (task: Task) => void }) {
  const [title, setTitle] = useState("");
  const [description, setDescription] = useState("");
  const input = useRef<HTMLInputElement>(null);

  function submit(event: FormEvent) {
    event.preventDefault();
    input.current?.focus();
    if (title.trim() === "") return;
    onAdd(draft(title, description));
    setTitle("");
    setDescription("");
  }

  return (
    <form className="card new-task" onSubmit={submit} aria-label="New task">
      <input
        ref={input}
        aria-label="What is to be done?"
        placeholder="What is to be done?"
        maxLength={200}
        value={title}
        onChange={(event) => setTitle(event.target.value)}
      />
      <button className="primary">Add</button>
      {title !== "" && (
        <textarea
          aria-label="Details (optional)"
          placeholder="Details (optional)"
          rows={2}
          maxLength={2000}
          value={description}
          onChange={(event) => setDescription(event.target.value)}
        />
      )}
    </form>
  );
}
