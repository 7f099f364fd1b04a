"use client";

import type { Task } from "@todo-api/client";

import { DUE, type Due, dueOf } from "@/lib/days";

interface Props {
  tasks: Task[];
  today: string;
  chosen: Due | "";
  onChoose: (due: Due | "") => void;
}

/** How many open tasks are overdue, due today and later; each is a button that shows only these. */
export function Agenda({ tasks, today, chosen, onChoose }: Props) {
  const counts = { overdue: 0, today: 0, upcoming: 0 };
  for (const task of tasks) {
    const due = dueOf(task, today);
    if (due) counts[due] += 1;
  }
  return (
    <div className="agenda" role="group" aria-label="Agenda">
      {DUE.map((due) => (
        <button
          key={due}
          className={counts[due] > 0 ? `${due} any` : due}
          aria-pressed={chosen === due}
          onClick={() => onChoose(chosen === due ? "" : due)}
        >
          <span className="count">{counts[due]}</span> <span className="name">{due}</span>
        </button>
      ))}
    </div>
  );
}
