import type { Task } from "@todo-api/client";

import { Calendar, Flag, Warning } from "@/components/icons";
import { dayName, dueOf } from "@/lib/days";
import { priorityName } from "@/lib/words";

/** Due date, priority and tags of a task. What is urgent is told by an icon and a word, not by colour alone. */
export function TaskLabels({ task, today }: { task: Task; today: string }) {
  const { due_date, priority, tags } = task;
  const due = dueOf(task, today);
  if (!due_date && !priority && tags.length === 0) return null;
  return (
    <ul className="labels" aria-label={`About ${task.title}`}>
      {due_date && (
        <li className={due}>
          {due === "overdue" ? <Warning /> : <Calendar />}
          <span>
            {due === "overdue" ? "Overdue: " : <span className="for-ears">Due: </span>}
            <time dateTime={due_date}>{dayName(due_date, today)}</time>
          </span>
        </li>
      )}
      {priority && (
        <li className={`priority ${priority}`}>
          <Flag /> {priorityName(priority)}
        </li>
      )}
      {tags.map((tag) => (
        <li key={tag} className="tag">
          {tag}
        </li>
      ))}
    </ul>
  );
}
