"use client";

import { useCallback, useEffect, useMemo, useState } from "react";
import type { Task } from "@todo-api/client";

import { Agenda } from "@/components/agenda";
import { BulkActions } from "@/components/bulk-actions";
import { Connection, useIsOnline } from "@/components/connection";
import { LIST, useFocusKept } from "@/components/focus";
import { NewTask } from "@/components/new-task";
import { Refusals } from "@/components/refusals";
import { hidesAll, Summary } from "@/components/summary";
import { keyOf, TaskList } from "@/components/task-list";
import { Toolbar } from "@/components/toolbar";
import { hasTyped } from "@/components/typing";
import { Undo } from "@/components/undo";
import { useChanges } from "@/components/use-changes";
import { useSync } from "@/components/use-sync";
import { useTasks } from "@/components/use-tasks";
import { useToday } from "@/components/use-today";
import { useVoice } from "@/components/voice";
import { addressOf, belongs, EVERYTHING, sorted, tagsOf, type View, viewOf } from "@/lib/view";

/** The page: the list, and everything that is done with it. */
export function Tasks() {
  const [view, setView] = useState(() => viewOf(new URLSearchParams(window.location.search)));
  const [edited, setEdited] = useState<Task[]>([]); // each as it was when its editor was opened
  const { say, voice } = useVoice();
  const { data, error, refetch } = useSync();
  const { tasks, waiting, refused, isLoaded, isRead } = useTasks();
  const { change, settle } = useChanges(say);
  const today = useToday();
  const isOnline = useIsOnline();
  const tags = useMemo(() => tagsOf(tasks), [tasks]);
  const known = useMemo(() => new Set(tasks.map(keyOf)), [tasks]);
  const shown = useMemo(() => {
    const open = new Set(edited.map(keyOf)); // an editor stays, whatever has become of its task
    const deleted = edited.filter((task) => !known.has(keyOf(task)));
    const found = tasks.filter((task) => belongs(task, view, today) || open.has(keyOf(task)));
    return sorted([...found, ...deleted], view.sort);
  }, [tasks, known, edited, view, today]);
  const count = useMemo(() => tasks.filter((task) => belongs(task, view, today)).length, [tasks, view, today]);
  useFocusKept();
  useWarningBeforeLeaving();

  function look(next: View) {
    setView(next);
    window.history.replaceState(null, "", addressOf(next));
  }

  function add(task: Task) {
    if (!belongs(task, view, today)) look({ ...EVERYTHING, sort: view.sort }); // or nothing would be seen of it
    return change({ kind: "create", task });
  }

  const edit = useCallback((task: Task) => setEdited((open) => [...open, task]), []);
  const close = useCallback(
    (task: Task) => setEdited((open) => open.filter((other) => keyOf(other) !== keyOf(task))),
    [],
  );

  return (
    <div className="page">
      <NewTask knownTags={tags} onAdd={add} />
      <div role="status">
        <Connection error={error} waiting={waiting.length} onRetry={() => void refetch()} />
      </div>
      <Refusals refused={refused} today={today} settle={settle} />
      <Agenda tasks={tasks} today={today} chosen={view.due} onChoose={(due) => look({ ...view, due })} />
      <section className="card" id={LIST} tabIndex={-1} aria-label="Your tasks">
        <Toolbar view={view} tags={tags} onLook={look} />
        {shown.length > 0 && (
          <TaskList
            tasks={shown}
            edited={edited}
            known={known}
            leaves={view.show !== "all" || view.due !== ""}
            today={today}
            knownTags={tags}
            onEdit={edit}
            onClose={close}
            change={change}
          />
        )}
        <Summary
          view={view}
          shown={count}
          total={tasks.length}
          isLoaded={isLoaded || data !== null}
          isOnline={isOnline}
          isError={error !== null}
        >
          {hidesAll(view, count, tasks.length) && (
            <button onClick={() => look({ ...EVERYTHING, show: view.show, sort: view.sort })}>
              {view.q ? "Clear the search" : "Show all"}
            </button>
          )}
          {tasks.length > 0 && isRead && <BulkActions tasks={tasks} show={view.show} change={change} />}
        </Summary>
      </section>
      <Undo waiting={waiting} say={say} />
      {voice}
    </div>
  );
}

/** Changes are kept; only what is being typed would be lost. */
function useWarningBeforeLeaving() {
  useEffect(() => {
    const warn = (event: BeforeUnloadEvent) => hasTyped() && event.preventDefault();
    window.addEventListener("beforeunload", warn);
    return () => window.removeEventListener("beforeunload", warn);
  }, []);
}
