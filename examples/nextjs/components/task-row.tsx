"use client";

import type { Task } from "@todo-api/client";
import { memo, useCallback, useEffect, useRef } from "react";

import { hasFocusElsewhere } from "@/components/focus";
import { ShownTask } from "@/components/shown-task";
import { TaskEditor } from "@/components/task-editor";
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

  useEffect(() => {
    if (!edited) return;
    return () => {
      if (!hasFocusElsewhere()) row.current?.querySelector<HTMLElement>(".edit")?.focus(); // the editor is closed
    };
  }, [edited]);

  return (
    <li
      ref={attach}
      data-index={index}
      aria-posinset={index + 1}
      aria-setsize={count}
      style={{ transform: `translateY(${start}px)` }}
    >
      {edited ? (
        <TaskEditor task={edited} {...{ isDeleted, knownTags, change }} onClose={() => onClose(task)} />
      ) : (
        <ShownTask task={task} {...props} />
      )}
    </li>
  );
});
