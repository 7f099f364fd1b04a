"use client";

import { useCallback, useState } from "react";

/** Tells a screen reader what was done. With another class than the default, everybody sees it. */
export function useVoice(className = "for-ears") {
  const [{ text, count }, set] = useState({ text: "", count: 0 });
  const say = useCallback((text: string) => set(({ count }) => ({ text, count: count + 1 })), []);
  const voice = (
    <p className={className} role="status">
      {/* A new element each time: the same text once more would change nothing, and not be heard. */}
      <span key={count}>{text}</span>
    </p>
  );
  return { say, voice };
}
