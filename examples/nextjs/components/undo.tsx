"use client";

import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useMemo, useReducer } from "react";

import { focusList } from "@/components/focus";
import { isTyping } from "@/components/typing";
import type { Entry } from "@/lib/database";
import { holdLonger, isHeldAt, undo } from "@/lib/outbox";
import { done } from "@/lib/words";

/** Offers to undo the last deletion. It is sent when the time is over, or when the page is opened again. */
export function Undo({ waiting, say }: { waiting: Entry[]; say: (text: string) => void }) {
  const entry = useLastHeld(waiting);

  async function takeBack(entry: Entry) {
    say((await undo(entry)) ? "Undone." : "It was too late to undo it.");
    if (!isTyping()) focusList();
  }

  useEffect(() => {
    if (!entry) return;
    const press = (event: KeyboardEvent) => {
      if (event.key !== "z" || !(event.ctrlKey || event.metaKey) || event.shiftKey || isTyping()) return;
      event.preventDefault();
      void takeBack(entry);
    };
    document.addEventListener("keydown", press);
    return () => document.removeEventListener("keydown", press);
  });

  return (
    <div role="status" className="undo">
      {entry && (
        <div
          key={entry.id}
          className="toast"
          onFocus={() => void holdLonger(entry)}
          onPointerEnter={() => void holdLonger(entry)}
        >
          <span>{done(entry.change)}</span>
          <button aria-keyshortcuts="Control+Z" onClick={() => takeBack(entry)}>
            Undo
          </button>
        </div>
      )}
    </div>
  );
}

/** The last deletion that can still be undone. When its time is over, it is sent. */
function useLastHeld(waiting: Entry[]): Entry | undefined {
  const queries = useQueryClient();
  const [ticks, tick] = useReducer((count: number) => count + 1, 0);
  // Looked at again when entries change, and when the time of one is over.
  const held = useMemo(() => {
    const now = Date.now();
    return waiting.filter((entry) => isHeldAt(entry, now));
  }, [waiting, ticks]);
  const next = Math.min(...held.map(({ heldUntil }) => heldUntil));
  useEffect(() => {
    if (next === Infinity) return;
    const timer = setTimeout(() => {
      tick();
      void queries.refetchQueries();
    }, next - Date.now());
    return () => clearTimeout(timer);
  }, [next, queries]);
  return held.at(-1);
}
