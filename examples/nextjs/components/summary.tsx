import type { ReactNode } from "react";

import type { View } from "@/lib/view";

interface Props {
  view: View;
  shown: number;
  total: number;
  /** Whether what is shown is all that there is to show. */
  isWhole: boolean;
  isOnline: boolean;
  isError: boolean;
  children: ReactNode;
}

/** How many tasks there are, or why there is none. A screen reader hears what changes in an element that was there. */
export function Summary({ children, ...list }: Props) {
  const said = summary(list);
  const isLoading = said === LOADING;
  return (
    <footer className={said === "" ? "for-ears" : list.shown > 0 ? "some" : "nothing"}>
      {isLoading && [1, 2, 3].map((number) => <span key={number} className="bone" />)}
      <p className={isLoading ? "for-ears" : "muted"} role="status">
        {said}
      </p>
      {children}
    </footer>
  );
}

const LOADING = "Loading your tasks";

function summary({ view, shown, total, isWhole, isOnline, isError }: Omit<Props, "children">): string {
  if (shown > 0) return total > shown ? `${shown} of ${total} tasks` : total === 1 ? "1 task" : `${total} tasks`;
  if (!isWhole && isError) return ""; // which is said above the list
  if (!isWhole) return isOnline ? LOADING : "Your tasks appear here once you are online again.";
  if (view.q) return `No task matches “${view.q}”.`;
  return {
    all: "Nothing to do yet. Add your first task above.",
    active: "Nothing left to do.",
    completed: "Nothing completed yet.",
  }[view.show];
}
