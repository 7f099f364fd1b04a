"use client";

import type { Task } from "@todo-api/client";
import { useEffect, useRef } from "react";

import { SignedOut } from "@/components/providers";
import { isTyping } from "@/components/typing";
import type { Failure } from "@/components/use-tasks";
import { type Change, Conflict, failed, joined, mayBeRepeated, reason, rescued } from "@/lib/changes";

interface Props {
  failures: Failure[];
  change: (change: Change) => void;
  dismiss: (failure: Failure) => void;
}

/** What did not work, each with what the user can do about it. */
export function Failures({ failures, change, dismiss }: Props) {
  /** Forget what failed, and do this instead. */
  function settle(settled: Failure[], instead?: Change) {
    settled.forEach(dismiss);
    if (instead) change(instead);
  }

  return (
    <div className="failures">
      {failures.map((failure) => {
        const { variables, error } = failure.state;
        if (!variables || !error) return null;
        if (error instanceof Conflict) {
          const { theirs } = error;
          const asked = failures.filter(({ state }) => isConflictOf(theirs, state.error));
          if (failure !== asked.at(-1)) return null; // one question, about all that was done to the task
          const mine = asked.map(({ state }) => state.variables as Change).reduce(joined);
          return (
            <ConflictPanel
              key={theirs.id}
              change={mine}
              theirs={theirs}
              onTakeTheirs={() => settle(asked)}
              onKeepMine={() => settle(asked, "task" in mine ? { ...mine, task: theirs } : mine)}
            />
          );
        }
        const rescue = rescued(variables, error);
        return (
          <div key={failure.mutationId} className="trouble card" role="alert">
            <p>
              <strong>{failed(variables)}</strong> {reason(error)}
            </p>
            <div className="buttons">
              {error instanceof SignedOut && (
                <a href="/sign-in" target="_blank">
                  Sign in (new tab)
                </a>
              )}
              {mayBeRepeated(error) && <button onClick={() => settle([failure], variables)}>Try again</button>}
              {rescue && <button onClick={() => settle([failure], rescue)}>Add as a new task</button>}
              <button onClick={(click) => click.detail < 2 && settle([failure])}>Dismiss</button>
            </div>
          </div>
        );
      })}
    </div>
  );
}

const isConflictOf = ({ id }: Task, error: unknown) => error instanceof Conflict && error.theirs.id === id;

interface ConflictProps {
  change: Change;
  theirs: Task;
  onTakeTheirs: () => void;
  onKeepMine: () => void;
}

function ConflictPanel({ change, theirs, onTakeTheirs, onKeepMine }: ConflictProps) {
  const panel = useRef<HTMLElement>(null);
  useEffect(() => {
    if (!isTyping()) panel.current?.focus();
  }, []);

  return (
    <section ref={panel} className="conflict card" tabIndex={-1} role="alert" aria-label="Conflict">
      <h2>“{theirs.title}” was changed elsewhere</h2>
      <p>Another version was saved after you last saw it, perhaps by yourself on another device.</p>
      <div className="versions">
        <Version name="Saved elsewhere" {...theirs} />
        {change.kind === "update" ? <Version name="Yours" {...theirs} {...change.changes} /> : <Deletion />}
      </div>
      <div className="buttons">
        <button className="primary" onClick={onKeepMine}>
          {change.kind === "remove" ? "Delete it anyway" : "Keep mine"}
        </button>
        <button onClick={onTakeTheirs}>Use the other version</button>
      </div>
    </section>
  );
}

function Version({ name, title, description, is_completed }: { name: string } & Partial<Task>) {
  return (
    <div>
      <h3>{name}</h3>
      <p className="title">{title}</p>
      {description && <p className="muted description">{description}</p>}
      <p className="muted">{is_completed ? "Completed" : "Active"}</p>
    </div>
  );
}

const Deletion = () => (
  <div>
    <h3>Yours</h3>
    <p>Deleted</p>
  </div>
);
