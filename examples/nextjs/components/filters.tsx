"use client";

import { PRIORITIES } from "@/lib/fields";
import { EVERYTHING, type View } from "@/lib/view";

const SORT_NAMES = { newest: "Newest", due: "Due date", priority: "Priority", title: "Title", changed: "Last change" };

interface Props {
  view: View;
  tags: string[];
  onLook: (view: View) => void;
}

/** Filters by priority and tag, and the order. */
export function Filters({ view, tags, onLook }: Props) {
  const priorities = [...PRIORITIES.map((name) => [name, capital(name)] as const), ["none", "None"] as const];
  const known = view.tag === "" || tags.includes(view.tag) ? tags : [view.tag, ...tags];
  return (
    <div className="filters">
      <Choice label="Priority" value={view.priority} onChange={(priority) => onLook({ ...view, priority })}>
        {[["", "Any"], ...priorities]}
      </Choice>
      <Choice label="Tag" value={view.tag} onChange={(tag) => onLook({ ...view, tag })}>
        {[["", "Any"], ...known.map((tag) => [tag, tag] as const)]}
      </Choice>
      <Choice label="Sort by" value={view.sort} onChange={(sort) => onLook({ ...view, sort })}>
        {Object.entries(SORT_NAMES) as [View["sort"], string][]}
      </Choice>
      <button className="quiet" onClick={() => onLook({ ...view, priority: "", tag: "", sort: EVERYTHING.sort })}>
        Reset
      </button>
    </div>
  );
}

const capital = (name: string) => name.charAt(0).toUpperCase() + name.slice(1);

interface ChoiceProps<T extends string> {
  label: string;
  value: T;
  /** Each value with its name. */
  children: (readonly [T, string])[];
  onChange: (value: T) => void;
}

function Choice<T extends string>({ label, value, children, onChange }: ChoiceProps<T>) {
  return (
    <label className="field">
      <span>{label}</span>
      <select value={value} onChange={({ target }) => onChange(target.value as T)}>
        {children.map(([name, text]) => (
          <option key={name} value={name}>
            {text}
          </option>
        ))}
      </select>
    </label>
  );
}
