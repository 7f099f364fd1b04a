"use client";

import type { Task } from "@todo-api/client";
import { useEffect, useRef } from "react";

import { TaskLabels } from "@/components/task-labels";
import { isTyping } from "@/components/typing";
import type { Refused } from "@/components/use-tasks";
import { type Change, joined, rescued } from "@/lib/changes";
import type { Entry } from "@/lib/database";
import { failed } from "@/lib/words";

interface Props {
  refused: Refused[];
  today: string;
  settle: (refused: Entry[], instead?: Change) => void;
}

/** Changes that the API refused, each with what the user can do about it. They survive a reload. */
export function Refusals({ refused, today, settle }: Props) {
  return (
    <div className="failures">
      {refused.map((entry) => {
        const { theirs } = entry.problem;
        if (!theirs) return <Refusal key={entry.id} entry={entry} settle={settle} />;
        const asked = refused.filter(({ problem }) => problem.theirs?.id === theirs.id);
        if (entry !== asked.at(-1)) return null; // one question, about all that was done to the task
        const mine = asked.map(({ change }) => change).reduce(joined);
        return (
          <Conflict
            key={theirs.id}
            change={mine}
            theirs={theirs}
            today={today}
            onTakeTheirs={() => settle(asked)}
            onKeepMine={() => settle(asked, "task" in mine ? { ...mine, task: theirs } : mine)}
          />
        );
      })}
    </div>
  );
}

const FINAL = ["TASK_NOT_FOUND", "VALIDATION_ERROR"];

function Refusal({ entry, settle }: { entry: Refused; settle: Props["settle"] }) {
  const { change, problem } = entry;
  const isDeleted = problem.code === "TASK_NOT_FOUND";
  const rescue = isDeleted && rescued(change);
  return (
    <div className="trouble card" role="alert">
      <p>
        <strong>{failed(change)}</strong> {isDeleted ? "It was deleted elsewhere." : problem.message}
      </p>
      <div className="buttons">
        {!FINAL.includes(problem.code) && <button onClick={() => settle([entry], change)}>Try again</button>}
        {rescue && <button onClick={() => settle([entry], rescue)}>Add as a new task</button>}
        <button onClick={(click) => click.detail < 2 && settle([entry])}>Dismiss</button>
      </div>
    </div>
  );
}

interface ConflictProps {
  change: Change;
  theirs: Task;
  today: string;
  onTakeTheirs: () => void;
  onKeepMine: () => void;
}

function Conflict({ change, theirs, today, onTakeTheirs, onKeepMine }: ConflictProps) {
  const panel = useRef<HTMLElement>(null);
  useEffect(() => {
    if (!isTyping()) panel.current?.focus();
  }, []);

  return (
    <section ref={panel} className="conflict card" tabIndex={-1} role="alert" aria-label="Conflict">
      <h2>“{theirs.title}” was changed elsewhere</h2>
      <p>Another version was saved after you last saw it, perhaps by yourself on another device.</p>
      <div className="versions">
        <Version name="Saved elsewhere" task={theirs} today={today} />
        {change.kind === "update" ? (
          <Version name="Yours" task={{ ...theirs, ...change.changes }} today={today} />
        ) : (
          <Deletion />
        )}
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

function Version({ name, task, today }: { name: string; task: Task; today: string }) {
  return (
    <div>
      <h3>{name}</h3>
      <p className="title">{task.title}</p>
      {task.description && <p className="muted description">{task.description}</p>}
      <TaskLabels task={task} today={today} />
      <p className="muted">{task.is_completed ? "Completed" : "Active"}</p>
    </div>
  );
}

const Deletion = () => (
  <div>
    <h3>Yours</h3>
    <p>Deleted</p>
  </div>
);
