"use client";

import { useEffect, useRef } from "react";

import { SHOWN, type View } from "@/lib/view";

const PAUSE_MS = 250; // of typing, before it is searched

export function Toolbar({ view, onLook }: { view: View; onLook: (view: View) => void }) {
  const search = useRef<HTMLInputElement>(null);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);

  useEffect(() => {
    if (view.q !== "" || !search.current) return;
    clearTimeout(timer.current);
    search.current.value = "";
  }, [view.q]);

  function type(q: string) {
    clearTimeout(timer.current);
    timer.current = setTimeout(() => onLook({ ...view, q: q.trim() }), PAUSE_MS);
  }

  function show(name: View["show"]) {
    clearTimeout(timer.current);
    onLook({ show: name, q: search.current?.value.trim() ?? "" });
  }

  return (
    <search className="toolbar">
      <input
        ref={search}
        type="search"
        aria-label="Search"
        placeholder="Search"
        maxLength={200}
        defaultValue={view.q}
        onChange={(event) => type(event.target.value)}
      />
      <fieldset className="choice">
        <legend className="for-ears">Show</legend>
        {SHOWN.map((name) => (
          <label key={name}>
            <input type="radio" name="show" checked={view.show === name} onChange={() => show(name)} />
            <span>{name}</span>
          </label>
        ))}
      </fieldset>
    </search>
  );
}
