"use client";

import { type FormEvent, useRef, useState } from "react";

import { TaskFields } from "@/components/task-fields";
import { draft } from "@/lib/changes";
import { EMPTY } from "@/lib/fields";
import type { Task } from "@todo-api/client";

interface Props {
  knownTags: string[];
  onAdd: (task: Task) => Promise<boolean>;
}

export function NewTask({ knownTags, onAdd }: Props) {
  const [fields, setFields] = useState(EMPTY);
  const input = useRef<HTMLInputElement>(null);

  async function submit(event: FormEvent) {
    event.preventDefault();
    input.current?.focus();
    if (fields.title.trim() === "") return;
    setFields(EMPTY);
    if (!(await onAdd(draft({ ...fields, title: fields.title.trim() })))) setFields(fields);
  }

  return (
    <form className="card new-task" onSubmit={submit} aria-label="New task">
      <input
        ref={input}
        aria-label="What is to be done?"
        placeholder="What is to be done?"
        maxLength={200}
        enterKeyHint="done"
        value={fields.title}
        onChange={({ target }) => setFields({ ...fields, title: target.value })}
      />
      <button className="primary">Add</button>
      {fields.title !== "" && <TaskFields fields={fields} knownTags={knownTags} onChange={setFields} />}
    </form>
  );
}
