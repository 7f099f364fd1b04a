import type { ReactNode } from "react";

import { isFiltered, type View } from "@/lib/view";

interface Props {
  view: View;
  shown: number;
  total: number;
  /** Whether the tasks have been read from the API at least once. */
  isLoaded: boolean;
  isOnline: boolean;
  isError: boolean;
  children: ReactNode;
}

/** How many tasks there are, or why there is none. A screen reader hears what changes in an element that was there. */
export function Summary({ children, ...list }: Props) {
  const said = summary(list);
  const isLoading = said === LOADING;
  return (
    <footer className={list.shown > 0 ? "some" : "nothing"}>
      {isLoading && [1, 2, 3].map((number) => <span key={number} className="bone" />)}
      <p className={isLoading ? "for-ears" : "muted"} role="status">
        {said}
      </p>
      {children}
    </footer>
  );
}

const LOADING = "Loading your tasks";

function summary({ view, shown, total, isLoaded, isOnline, isError }: Omit<Props, "children">): string {
  const tasks = total === 1 ? "1 task" : `${total} tasks`;
  if (shown > 0) return shown < total ? `${shown} of ${tasks}` : tasks;
  if (!isLoaded && isError) return "Your tasks could not be loaded yet.";
  if (!isLoaded) return isOnline ? LOADING : "Your tasks appear here once you are online.";
  if (view.q) return `No task matches “${view.q}”.`;
  if (view.due || view.priority || view.tag) return "No task matches these filters.";
  return {
    all: "Nothing to do yet. Add your first task above.",
    active: "Nothing left to do.",
    completed: "Nothing completed yet.",
  }[view.show];
}

/** Whether filters, and not the lack of tasks, are why nothing is shown. */
export const hidesAll = (view: View, shown: number, total: number) => shown === 0 && total > 0 && isFiltered(view);
