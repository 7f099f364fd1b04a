"use client";

import { useRouter } from "next/navigation";
import { useRef, useState, useTransition } from "react";

import { useHydrated } from "@/components/use-hydrated";
import { useSession } from "@/components/use-session";
import { useVoice } from "@/components/voice";
import type { Assistant } from "@/lib/assistants";

interface Props {
  assistants: Assistant[];
  /** How long an assistant that is disconnected may go on. */
  minutes: number;
  revoke: (clientId: string) => Promise<void>;
}

export function AssistantList({ assistants, minutes, revoke }: Props) {
  const [asked, setAsked] = useState<Assistant>();
  const [isBusy, start] = useTransition();
  const dialog = useRef<HTMLDialogElement>(null);
  const { say, voice } = useVoice();
  const router = useRouter();
  useSession();

  function ask(assistant: Assistant) {
    setAsked(assistant);
    dialog.current?.showModal();
  }

  function disconnect({ clientId, name }: Assistant) {
    dialog.current?.close();
    start(async () => {
      await revoke(clientId);
      router.refresh();
      say(`Disconnected “${name}”.`);
    });
  }

  return (
    <>
      {assistants.length === 0 && <p className="muted heading">No assistant is connected.</p>}
      <ul className="assistants" aria-label="Connected assistants" aria-busy={isBusy}>
        {assistants.map((assistant) => (
          <li key={assistant.clientId}>
            <div>
              <p className="title">{assistant.name}</p>
              <p className="muted">{assistant.mayWrite ? "May see and change your tasks" : "May see your tasks"}</p>
              <p className="muted">
                Connected <Time time={assistant.connectedAt} format={DAY} />, last active{" "}
                <Time time={assistant.lastActiveAt} format={MOMENT} />
              </p>
            </div>
            <button aria-label={`Disconnect ${assistant.name}`} onClick={() => ask(assistant)}>
              Disconnect
            </button>
          </li>
        ))}
      </ul>
      <dialog ref={dialog} aria-labelledby="disconnect">
        <div className="stack">
          <h2 id="disconnect">Disconnect “{asked?.name}”?</h2>
          <p className="muted">
            It cannot get new access. Access that it already has ends within{" "}
            {minutes === 1 ? "a minute" : `${minutes} minutes`}. What it did to your tasks stays.
          </p>
          <div className="buttons">
            <button className="primary" onClick={() => asked && disconnect(asked)}>
              Disconnect
            </button>
            <button autoFocus onClick={() => dialog.current?.close()}>
              Cancel
            </button>
          </div>
        </div>
      </dialog>
      {voice}
    </>
  );
}

const DAY = { day: "numeric", month: "long", year: "numeric" } as const;
const MOMENT = { ...DAY, hour: "2-digit", minute: "2-digit" } as const;

// The server does not know the user's time zone: what it writes is replaced once the page is there.
function Time({ time, format }: { time: Date; format: Intl.DateTimeFormatOptions }) {
  const zone = useHydrated() ? {} : { timeZone: "UTC" };
  const text = new Intl.DateTimeFormat("en-GB", { ...format, ...zone }).format(time);
  return <time dateTime={time.toISOString()}>{text}</time>;
}
