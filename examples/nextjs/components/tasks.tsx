"use client";

import { useSyncExternalStore, useRef, useState } from "react";
import { onlineManager } from "@tanstack/react-query";

import { BulkActions } from "@/components/bulk-actions";
import { NewTask } from "@/components/new-task";
import { Failures } from "@/components/failures";
import { Nothing } from "@/components/nothing";
import { TaskRow } from "@/components/task-row";
import { Toolbar } from "@/components/toolbar";
import { useChanges, useTasks } from "@/components/use-tasks";
import { reason, told } from "@/lib/changes";
import { addressOf, type View } from "@/lib/view";

export function Tasks({ firstView }: { firstView: View }) {
  const [view, setView] = useState(firstView);
  const [said, say] = useState("");
  const { query, tasks, total, pending } = useTasks(view);
  const { change, failures, dismiss } = useChanges((done) => say(told(done, true)));
  const isOnline = useSyncExternalStore(
    (listener) => onlineManager.subscribe(listener),
    () => onlineManager.isOnline(),
    () => true,
  );
  const list = useRef<HTMLUListElement>(null);

  function look(next: View) {
    setView(next);
    window.history.replaceState(null, "", addressOf(next));
  }

  async function loadMore() {
    const shown = tasks.length;
    const { hasNextPage } = await query.fetchNextPage();
    // The button is gone then, and the focus must not be with it.
    if (!hasNextPage) list.current?.children[shown]?.querySelector("input")?.focus();
  }

  const isLoaded = query.data !== undefined;
  return (
    <>
      <NewTask onAdd={(task) => change({ kind: "create", task })} />
      {!isOnline && (
        <p className="banner" role="status">
          <strong>You are offline.</strong>{" "}
          {pending.length > 0
            ? `${pending.length === 1 ? "One change waits" : `${pending.length} changes wait`} to be sent.`
            : "What you change is sent when you are back."}
        </p>
      )}
      <Failures failures={failures} change={change} dismiss={dismiss} />
      <section className="card" aria-label="Your tasks">
        <Toolbar view={view} onLook={look} />
        {query.isError && (
          <div className="trouble" role="alert">
            <p>
              {isLoaded ? "The list may be out of date. " : "Your tasks could not be loaded. "}
              {reason(query.error)}
            </p>
            <button onClick={() => query.refetch()}>Try again</button>
          </div>
        )}
        {tasks.length > 0 && (
          <ul ref={list} className="tasks" aria-label="Tasks" aria-busy={query.isPlaceholderData}>
            {tasks.map((task) => (
              <TaskRow key={task.id} task={task} change={change} />
            ))}
          </ul>
        )}
        {tasks.length === 0 && (isLoaded || !query.isError) && (
          <Nothing view={view} isLoaded={isLoaded} isOnline={isOnline} onClear={() => look({ ...view, q: "" })} />
        )}
        {tasks.length > 0 && (
          <footer>
            <p className="muted" role="status">
              {total > tasks.length ? `${tasks.length} of ${total} tasks` : total === 1 ? "1 task" : `${total} tasks`}
            </p>
            {query.hasNextPage && (
              <button onClick={loadMore} aria-disabled={query.isFetchingNextPage}>
                {query.isFetchingNextPage ? "Loading…" : "Load more"}
              </button>
            )}
            {!view.q && <BulkActions tasks={tasks} change={change} />}
          </footer>
        )}
      </section>
      <p className="for-ears" role="status">
        {said}
      </p>
    </>
  );
}
