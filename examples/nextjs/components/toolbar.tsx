"use client";

import { useEffect, useRef, useState } from "react";

import { Filter } from "@/components/icons";
import { PRIORITIES } from "@/lib/fields";
import { EVERYTHING, SHOWN, type View } from "@/lib/view";

const PAUSE_MS = 150; // of typing, before it is searched

const SORT_NAMES = { newest: "Newest", due: "Due date", priority: "Priority", title: "Title", changed: "Last change" };

interface Props {
  view: View;
  tags: string[];
  onLook: (view: View) => void;
}

/** Search, filters and sorting. */
export function Toolbar({ view, tags, onLook }: Props) {
  const [isOpen, setOpen] = useState(view.priority !== "" || view.tag !== "" || view.sort !== "newest");
  const chosen = [view.priority !== "", view.tag !== "", view.sort !== "newest"].filter(Boolean).length;
  return (
    <search className="toolbar">
      <Search q={view.q} onSearch={(q) => onLook({ ...view, q })} />
      <button
        className="quiet more"
        aria-expanded={isOpen}
        aria-label={chosen > 0 ? `Filter and sort, ${chosen} chosen` : "Filter and sort"}
        onClick={() => setOpen(!isOpen)}
      >
        <Filter />
        <span>Filter</span>
        {chosen > 0 && <span className="badge">{chosen}</span>}
      </button>
      <fieldset className="choice">
        <legend className="for-ears">Show</legend>
        {SHOWN.map((name) => (
          <label key={name}>
            <input
              type="radio"
              name="show"
              checked={view.show === name}
              onChange={() => onLook({ ...view, show: name })}
            />
            <span>{name}</span>
          </label>
        ))}
      </fieldset>
      {isOpen && <Filters {...{ view, tags, onLook }} />}
    </search>
  );
}

function Filters({ view, tags, onLook }: Props) {
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
      <button
        className="quiet"
        onClick={() => onLook({ ...view, priority: "", tag: "", sort: EVERYTHING.sort })}
      >
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

function Search({ q, onSearch }: { q: string; onSearch: (q: string) => void }) {
  const [typed, setTyped] = useState(q);
  const [searched, setSearched] = useState(q);
  const latest = useRef(onSearch);
  useEffect(() => void (latest.current = onSearch));
  if (q !== searched) {
    setSearched(q);
    if (q !== typed.trim()) setTyped(q); // it was cleared elsewhere
  }
  useEffect(() => {
    if (typed.trim() === q) return;
    const timer = setTimeout(() => latest.current(typed.trim()), PAUSE_MS);
    return () => clearTimeout(timer);
  }, [typed, q]);
  return (
    <input
      type="search"
      aria-label="Search"
      placeholder="Search"
      maxLength={200}
      value={typed}
      onChange={({ target }) => setTyped(target.value)}
    />
  );
}
