"use client";

import { onlineManager, useQueryClient } from "@tanstack/react-query";
import type { Task } from "@todo-api/client";
import { useEffect, useRef, useState, useSyncExternalStore } from "react";

import { BulkActions } from "@/components/bulk-actions";
import { Failures } from "@/components/failures";
import { LIST, useFocusKept } from "@/components/focus";
import { NewTask } from "@/components/new-task";
import { hasUnsent } from "@/components/providers";
import { Summary } from "@/components/summary";
import { TaskRow } from "@/components/task-row";
import { Toolbar } from "@/components/toolbar";
import { isTyping } from "@/components/typing";
import { useHydrated } from "@/components/use-hydrated";
import { useChanges, useTasks } from "@/components/use-tasks";
import { useVoice } from "@/components/voice";
import { done, reason, withEdited } from "@/lib/changes";
import { addressOf, belongs, EVERYTHING, type View } from "@/lib/view";

export function Tasks({ firstView }: { firstView: View }) {
  const [view, setView] = useState(firstView);
  const [edited, setEdited] = useState<Task[]>([]); // each as it was when its editor was opened
  const { say, voice } = useVoice();
  const { query, error, tasks, total, isLoaded, waiting } = useTasks(view);
  const { change, failures, dismiss } = useChanges((change) => say(done(change)));
  const isOnline = useIsOnline();
  const list = useRef<HTMLUListElement>(null);
  const isWhole = isLoaded && !query.hasNextPage;
  const rows = withEdited(tasks, edited);
  useFocusKept();
  useWarningBeforeLeaving();

  function look(next: View) {
    setView(next);
    window.history.replaceState(null, "", addressOf(next));
  }

  function add(task: Task) {
    if (!belongs(task, view)) look(EVERYTHING); // or nothing would be seen of it
    change({ kind: "create", task });
  }

  async function loadMore() {
    const shown = rows.length;
    const before = query.data?.pages.length;
    let result;
    // A change that is made meanwhile breaks off what is being loaded.
    do result = await query.fetchNextPage({ cancelRefetch: false });
    while (result.hasNextPage && !result.isError && result.data?.pages.length === before);
    if (result.hasNextPage) return;
    // The button is gone, and the focus must not be with it.
    requestAnimationFrame(() => isTyping() || list.current?.children[shown]?.querySelector("input")?.focus());
  }

  return (
    <fieldset role="presentation" className="page" disabled={!useHydrated()}>
      <NewTask onAdd={add} />
      <div role="status">{!isOnline && <Offline waiting={waiting} />}</div>
      <Failures failures={failures} change={change} dismiss={dismiss} />
      <section className="card" id={LIST} tabIndex={-1} aria-label="Your tasks">
        <Toolbar view={view} onLook={look} />
        {error && (
          <div className={query.data ? "trouble mild" : "trouble"} role="alert">
            <p>
              {query.data ? "This list may be out of date. " : "Your tasks could not be loaded. "}
              {reason(error)}
            </p>
            <button onClick={() => query.refetch()}>Try again</button>
          </div>
        )}
        {rows.length > 0 && (
          <ul ref={list} className="tasks" aria-label="Tasks" aria-busy={!isLoaded}>
            {rows.map((task) => (
              <TaskRow
                key={task.id}
                task={task}
                leaves={view.show !== "all"}
                edited={edited.find(({ id }) => id === task.id)}
                isGone={!tasks.includes(task)}
                onEdit={() => setEdited([...edited, task])}
                onClose={() => setEdited(edited.filter(({ id }) => id !== task.id))}
                change={change}
              />
            ))}
          </ul>
        )}
        <Summary
          view={view}
          shown={tasks.length}
          total={total}
          isWhole={isWhole}
          isOnline={isOnline}
          isError={error !== null}
        >
          {tasks.length === 0 && isWhole && view.q && (
            <button onClick={() => look({ ...view, q: "" })}>Clear the search</button>
          )}
          {tasks.length > 0 && query.hasNextPage && isLoaded && (
            <button onClick={loadMore} aria-disabled={query.isFetchingNextPage}>
              {query.isFetchingNextPage ? "Loading…" : "Load more"}
            </button>
          )}
          {tasks.length > 0 && !view.q && <BulkActions show={view.show} change={change} />}
        </Summary>
      </section>
      {voice}
    </fieldset>
  );
}

function Offline({ waiting }: { waiting: number }) {
  const changes = waiting === 1 ? "One change waits" : `${waiting} changes wait`;
  return (
    <p className="banner">
      <strong>You are offline.</strong>{" "}
      {waiting > 0 ? `${changes} to be sent.` : "What you change is sent once you are back."}
    </p>
  );
}

function useIsOnline() {
  return useSyncExternalStore(
    (listener) => onlineManager.subscribe(listener),
    () => onlineManager.isOnline(),
    () => true,
  );
}

function useWarningBeforeLeaving() {
  const queries = useQueryClient();
  useEffect(() => {
    const warn = (event: BeforeUnloadEvent) => hasUnsent(queries) && event.preventDefault();
    window.addEventListener("beforeunload", warn);
    return () => window.removeEventListener("beforeunload", warn);
  }, [queries]);
}
