"use client";

import { defaultRangeExtractor, type Range, useWindowVirtualizer } from "@tanstack/react-virtual";
import type { Task } from "@todo-api/client";
import { useCallback, useEffect, useRef, useState } from "react";

import { TaskRow } from "@/components/task-row";
import type { MakeChange } from "@/components/use-changes";
import type { StoredTask } from "@/lib/database";

interface Props {
  tasks: StoredTask[];
  edited: Task[];
  /** Ids of the tasks that exist. */
  known: Set<string>;
  leaves: boolean;
  today: string;
  knownTags: string[];
  onEdit: (task: Task) => void;
  onClose: (task: Task) => void;
  change: MakeChange;
}

const USUAL_HEIGHT = 53;

/** The same for a task before and after the API has given it an id. */
export const keyOf = ({ id, draft }: StoredTask) => draft ?? id;

/** The list. Only the rows near the window, the one with the focus and those with an editor are in the page. */
export function TaskList({ tasks, edited, known, ...row }: Props) {
  const list = useRef<HTMLUListElement>(null);
  const [top, setTop] = useState(0);
  const editors = new Map(edited.map((task) => [keyOf(task), task]));
  const rows = useWindowVirtualizer({
    count: tasks.length,
    estimateSize: () => USUAL_HEIGHT,
    getItemKey: (index) => keyOf(tasks[index] as StoredTask),
    overscan: 8,
    scrollMargin: top,
    useFlushSync: false, // rows may come a moment later than the scroll: frames are not held up
    rangeExtractor: (range) => [...new Set([...defaultRangeExtractor(range), ...pinned(range)])].sort((a, b) => a - b),
  });

  function pinned({ count }: Range): number[] {
    const focused = Number(document.activeElement?.closest<HTMLElement>("li[data-index]")?.dataset["index"] ?? NaN);
    const opened = editors.size > 0 ? tasks.flatMap((task, index) => (editors.has(keyOf(task)) ? [index] : [])) : [];
    return [...opened, focused].filter((index) => index < count);
  }

  // What is above the list comes and goes.
  useEffect(() => {
    const look = () => setTop(Math.round((list.current?.getBoundingClientRect().top ?? 0) + window.scrollY));
    const observer = new ResizeObserver(look);
    observer.observe(document.body);
    return () => observer.disconnect();
  }, []);

  const measure = useCallback((element: Element | null) => rows.measureElement(element), [rows]);
  return (
    <ul ref={list} className="tasks" aria-label="Tasks" style={{ height: rows.getTotalSize() }}>
      {rows.getVirtualItems().map(({ key, index, start }) => {
        const task = tasks[index] as StoredTask;
        return (
          <TaskRow
            key={key}
            task={task}
            index={index}
            count={tasks.length}
            start={start - top}
            measure={measure}
            edited={editors.get(keyOf(task))}
            isDeleted={!known.has(keyOf(task))}
            {...row}
          />
        );
      })}
    </ul>
  );
}
