"use client";

import { useEffect, useRef, useState } from "react";

const PAUSE_MS = 150; // of typing, before it is searched

export function Search({ q, onSearch }: { q: string; onSearch: (q: string) => void }) {
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
