"use client";

import { useRef } from "react";

import { useVoice } from "@/components/voice";

export function CopyAddress({ address }: { address: string }) {
  const input = useRef<HTMLInputElement>(null);
  const { say, voice } = useVoice("muted");

  async function copy() {
    input.current?.select();
    await navigator.clipboard.writeText(address).then(
      () => say("Copied."),
      () => say("Press Ctrl+C to copy it."),
    );
  }

  return (
    <div className="address">
      <input ref={input} readOnly aria-label="Address" value={address} onFocus={({ target }) => target.select()} />
      <button onClick={copy}>Copy</button>
      {voice}
    </div>
  );
}
