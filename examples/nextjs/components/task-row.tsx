"use client";

import type { Task } from "@todo-api/client";
import { memo, type MouseEvent, useCallback, useEffect, useRef, useState } from "react";

import { focusNeighbour, hasFocusElsewhere } from "@/components/focus";
import { Bin, Pencil } from "@/components/icons";
import { TaskEditor } from "@/components/task-editor";
import { TaskLabels } from "@/components/task-labels";
import type { MakeChange } from "@/components/use-changes";

interface Props {
  task: Task;
  today: string;
  /** Where the row is in the list, and how long that is. */
  index: number;
  count: number;
  /** Its distance from the top of the list, in pixels. */
  start: number;
  measure: (row: Element | null) => void;
  /** Whether the row goes away when its task is completed or reopened. */
  leaves: boolean;
  /** The task as it was when its editor was opened, while it is open. */
  edited: Task | undefined;
  /** Whether the task does not exist any more: what has an editor stays. */
  isDeleted: boolean;
  knownTags: string[];
  onEdit: (task: Task) => void;
  onClose: (task: Task) => void;
  change: MakeChange;
}

export const TaskRow = memo(function TaskRow({ task, index, count, start, measure, ...props }: Props) {
  const { edited, isDeleted, knownTags, onClose, change } = props;
  const row = useRef<HTMLLIElement>(null);
  const attach = useCallback(
    (element: HTMLLIElement | null) => {
      row.current = element;
      measure(element);
    },
    [measure],
  );

  function closeEditor() {
    onClose(task);
    requestAnimationFrame(() => {
      if (!hasFocusElsewhere()) row.current?.querySelector<HTMLElement>(".edit")?.focus();
    });
  }

  return (
    <li
      ref={attach}
      data-index={index}
      aria-posinset={index + 1}
      aria-setsize={count}
      style={{ transform: `translateY(${start}px)` }}
    >
      {edited ? (
        <TaskEditor task={edited} {...{ isDeleted, knownTags, change }} onClose={closeEditor} />
      ) : (
        <Shown task={task} {...props} />
      )}
    </li>
  );
});

function Shown({ task, today, leaves, onEdit, change }: Pick<Props, "task" | "today" | "leaves" | "onEdit" | "change">) {
  const [isCompleted, setCompleted] = useShownAtOnce(task.is_completed);

  function toggle(event: { currentTarget: Element }) {
    if (leaves) focusNeighbour(event.currentTarget.closest("li"), "input");
    setCompleted(!isCompleted);
    void change({ kind: "update", task, changes: { is_completed: !isCompleted } });
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
        <button
          className="icon remove"
          aria-label={`Delete ${task.title}`}
          onClickCapture={onlyFirst}
          onClick={remove}
        >
          <Bin />
        </button>
      </div>
    </div>
  );
}

const SOON_MS = 1_000;

/** A value that the user changes here, shown until the list has it, a moment later. */
function useShownAtOnce<T>(value: T) {
  const [wanted, setWanted] = useState<{ value: T }>();
  if (wanted && wanted.value === value) setWanted(undefined);
  useEffect(() => {
    if (!wanted) return;
    const timer = setTimeout(() => setWanted(undefined), SOON_MS); // it was refused already
    return () => clearTimeout(timer);
  }, [wanted]);
  return [wanted ? wanted.value : value, (value: T) => setWanted({ value })] as const;
}

/** The second click of a double click is not meant for the row that has come under the pointer by then. */
function onlyFirst(click: MouseEvent) {
  if (click.detail < 2) return;
  click.preventDefault();
  click.stopPropagation();
}
