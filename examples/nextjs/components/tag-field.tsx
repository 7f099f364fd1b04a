"use client";

import { type KeyboardEvent, useId, useRef, useState } from "react";

import { Cross } from "@/components/icons";

const MOST = 20;

interface Props {
  tags: string[];
  /** Tags to suggest. */
  known: string[];
  onChange: (tags: string[]) => void;
}

/** A list of tags. Enter or a comma begins the next one; what is being typed already counts. */
export function TagField({ tags, known, onChange }: Props) {
  const [chosen, setChosen] = useState(tags);
  const [text, setText] = useState("");
  const input = useRef<HTMLInputElement>(null);
  const id = useId();

  function set(chosen: string[], text: string) {
    setChosen(chosen);
    setText(text);
    onChange(unique([...chosen, text]));
  }

  function remove(tag: string) {
    set(
      chosen.filter((other) => other !== tag),
      text,
    );
    input.current?.focus();
  }

  function press(event: KeyboardEvent) {
    if (event.nativeEvent.isComposing) return;
    if (event.key === "Enter" && text.trim() !== "") {
      event.preventDefault(); // which would submit the form
      set(unique([...chosen, text]), "");
    }
    if (event.key === "Backspace" && text === "") set(chosen.slice(0, -1), "");
  }

  /** A comma, typed or pasted, ends a tag. */
  function type(typed: string) {
    const parts = typed.split(",");
    const last = parts.pop() ?? "";
    set(unique([...chosen, ...parts]), last);
  }

  return (
    <div className="field wide">
      <label htmlFor={`${id}-input`}>
        Tags <small className="muted">Enter or a comma adds one</small>
      </label>
      <div className="tag-field">
        {chosen.map((tag) => (
          <span key={tag} className="tag">
            {tag}
            <button type="button" aria-label={`Remove tag ${tag}`} onClick={() => remove(tag)}>
              <Cross />
            </button>
          </span>
        ))}
        <input
          ref={input}
          id={`${id}-input`}
          list={`${id}-known`}
          maxLength={50}
          autoCapitalize="none"
          value={text}
          onChange={({ target }) => type(target.value)}
          onKeyDown={press}
        />
        <datalist id={`${id}-known`}>
          {known
            .filter((tag) => !chosen.includes(tag))
            .map((tag) => (
              <option key={tag} value={tag} />
            ))}
        </datalist>
      </div>
    </div>
  );
}

function unique(tags: string[]): string[] {
  const trimmed = tags.map((tag) => tag.trim()).filter((tag) => tag !== "");
  return [...new Set(trimmed)].slice(0, MOST);
}
