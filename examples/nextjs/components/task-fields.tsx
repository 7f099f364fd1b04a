"use client";

import { TagField } from "@/components/tag-field";
import { type Fields, PRIORITIES } from "@/lib/fields";

interface Props {
  fields: Fields;
  knownTags: string[];
  onChange: (fields: Fields) => void;
}

/** The inputs of all fields but the title, for a new task and for the editor. */
export function TaskFields({ fields, knownTags, onChange }: Props) {
  const set = (changed: Partial<Fields>) => onChange({ ...fields, ...changed });
  return (
    <div className="fields">
      <label className="field wide">
        <span>Details</span>
        <textarea
          rows={2}
          maxLength={2000}
          value={fields.description ?? ""}
          onChange={({ target }) => set({ description: target.value || null })}
        />
      </label>
      <label className="field">
        <span>Due date</span>
        <input
          type="date"
          min="0001-01-01"
          max="9999-12-31"
          value={fields.due_date ?? ""}
          onChange={({ target }) => set({ due_date: target.value || null })}
        />
      </label>
      <label className="field">
        <span>Priority</span>
        <select
          value={fields.priority ?? ""}
          onChange={({ target }) => set({ priority: PRIORITIES.find((name) => name === target.value) ?? null })}
        >
          <option value="">None</option>
          {PRIORITIES.map((name) => (
            <option key={name} value={name}>
              {name[0]?.toUpperCase() + name.slice(1)}
            </option>
          ))}
        </select>
      </label>
      <TagField tags={fields.tags} known={knownTags} onChange={(tags) => set({ tags })} />
    </div>
  );
}
