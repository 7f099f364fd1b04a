"use client";

import { useState } from "react";

import { Filters } from "@/components/filters";
import { Filter } from "@/components/icons";
import { Search } from "@/components/search";
import { SHOWN, type View } from "@/lib/view";

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
