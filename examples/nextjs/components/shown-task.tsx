"use client";

import type { Task } from "@todo-api/client";
import { type MouseEvent, useEffect, useState } from "react";

import { focusNeighbour } from "@/components/focus";
import { Bin, Pencil } from "@/components/icons";
import { TaskLabels } from "@/components/task-labels";
import type { MakeChange } from "@/components/use-changes";

interface Props {
  task: Task;
  today: string;
  /** Whether the row goes away when its task is completed or reopened. */
  leaves: boolean;
  onEdit: (task: Task) => void;
  change: MakeChange;
}

/** A task that is not being edited. */
export function ShownTask({ task, today, leaves, onEdit, change }: Props) {
  const [isCompleted, showCompleted] = useShownAtOnce(task.is_completed);

  function toggle(event: { currentTarget: Element }) {
    if (leaves) focusNeighbour(event.currentTarget.closest("li"), "input");
    const seen = { ...task, is_completed: isCompleted }; // the list may not have the last click yet
    showCompleted(!isCompleted, change({ kind: "update", task: seen, changes: { is_completed: !isCompleted } }));
  }

  function remove({ currentTarget }: MouseEvent) {
    focusNeighbour(currentTarget.closest("li"), ".remove");
    void change({ kind: "remove", task });
  }

  return (
    <div className={isCompleted ? "task done" : "task"}>
      <label onClickCapture={leaves ? onlyFirst : undefined}>
        <input type="checkbox" checked={isCompleted} onChange={toggle} />
        <span className="title">{task.title}</span>
      </label>
      {task.description && <p className="muted description">{task.description}</p>}
      <TaskLabels task={task} today={today} />
      <div className="actions">
        <button className="icon edit" aria-label={`Edit ${task.title}`} onClick={() => onEdit(task)}>
          <Pencil />
        </button>
        <button className="icon remove" aria-label={`Delete ${task.title}`} onClickCapture={onlyFirst} onClick={remove}>
          <Bin />
        </button>
      </div>
    </div>
  );
}

const SOON_MS = 1_000;

/** A value that the user changes here: it is shown at once, until the list has it, a moment after `kept`. */
function useShownAtOnce<T>(value: T) {
  const [wanted, setWanted] = useState<{ value: T; isKept?: true }>();
  if (wanted?.isKept && wanted.value === value) setWanted(undefined);
  useEffect(() => {
    if (!wanted?.isKept) return;
    const timer = setTimeout(() => setWanted(undefined), SOON_MS); // it was refused already
    return () => clearTimeout(timer);
  }, [wanted]);

  function show(value: T, kept: Promise<unknown>) {
    const mine = { value };
    setWanted(mine);
    void kept.finally(() => setWanted((last) => (last === mine ? { value, isKept: true } : last)));
  }
  return [wanted ? wanted.value : value, show] as const;
}

/** The second click of a double click is not meant for the row that has come under the pointer by then. */
function onlyFirst(click: MouseEvent) {
  if (click.detail < 2) return;
  click.preventDefault();
  click.stopPropagation();
}
