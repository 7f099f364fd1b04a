"use client";

import {
  type InfiniteData,
  keepPreviousData,
  type Mutation,
  useInfiniteQuery,
  useMutation,
  useMutationState,
  useQuery,
  useQueryClient,
} from "@tanstack/react-query";
import type { Page } from "@todo-api/client";
import { useState } from "react";

import { useTaskClient } from "@/components/providers";
import { applied, type Change, isDeleted, PATIENCE_MS, perform } from "@/lib/changes";
import { belongs, EVERYTHING, queryOf, type View } from "@/lib/view";

export type Failure = Mutation<Change, Error, Change>;

const queryKey = ["tasks"];
const mutationKey = ["change"];

/** The tasks of a view as the API has them, changed by whatever is still on its way there. */
export function useTasks(view: View) {
  const client = useTaskClient();
  const [lastError, setLastError] = useState<Error | null>(null);
  const query = useInfiniteQuery({
    queryKey: [...queryKey, view],
    queryFn: ({ pageParam, signal }) =>
      client.page({ ...queryOf(view), ...(pageParam && { cursor: pageParam }) }, { signal: inTime(signal) }),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (last) => last.nextCursor,
    placeholderData: lastError ? undefined : keepPreviousData,
    refetchInterval: ({ state }) => state.status === "error" && 5_000,
  });
  const pending = useMutationState({
    filters: { mutationKey, status: "pending" },
    select: ({ state }) => state.variables as Change,
  });
  const pages = query.data?.pages ?? [];
  const fetched = pages.flatMap(({ tasks }) => tasks);
  // A change that fails is gone from here, and with it what it did to the list: there is nothing to roll back.
  const changed = (view: View) => pending.reduce((tasks, change) => applied(tasks, change, view), fetched);
  // Until a view has come, what the last one has of it.
  const tasks = query.isPlaceholderData ? changed(EVERYTHING).filter((task) => belongs(task, view)) : changed(view);
  const isLoaded = query.data !== undefined && !query.isPlaceholderData;
  // While it is asked again after an error, the query has none: it stays until the view has come.
  const error = query.error ?? (isLoaded ? null : lastError);
  if (error !== lastError) setLastError(error);
  const total = isLoaded ? (pages[0]?.total ?? 0) + tasks.length - fetched.length : tasks.length;
  return { query, error, tasks, total, isLoaded, waiting: pending.length };
}

const inTime = (signal: AbortSignal) => AbortSignal.any([signal, AbortSignal.timeout(PATIENCE_MS)]);

/** Whether a task that is not in the list any more is gone altogether. */
export function useIsDeleted(id: string, isGone: boolean) {
  const client = useTaskClient();
  const queryFn = ({ signal }: { signal: AbortSignal }) => client.get(id, { signal: inTime(signal) });
  const { error } = useQuery({ queryKey: ["task", id], queryFn, enabled: isGone });
  return isGone && isDeleted(error);
}

/** Send changes one after another, in the order in which they were made; offline they wait. */
export function useChanges(onDone: (change: Change) => void) {
  const client = useTaskClient();
  const queries = useQueryClient();
  const { mutate } = useMutation({
    mutationKey,
    scope: { id: "changes" },
    gcTime: Infinity, // a failure stays until the user has dealt with it
    mutationFn: async (change: Change) => {
      const failed = queries.getMutationCache().findAll({ mutationKey, status: "error" });
      // It would delete for good what one of them may have been to keep.
      if (change.kind === "clearCompleted" && failed.length > 0) throw new Error("An earlier change was not saved.");
      return perform(client, change);
    },
    onMutate: async () => {
      const changes = queries.getMutationCache();
      for (const over of changes.findAll({ mutationKey, status: "success" })) changes.remove(over);
      await queries.cancelQueries({ queryKey });
    },
    onSuccess: (change) => {
      for (const [key] of queries.getQueriesData<InfiniteData<Page>>({ queryKey })) {
        queries.setQueryData<InfiniteData<Page>>(key, (data) => data && withChange(data, change, key[1] as View));
      }
      onDone(change);
    },
    onSettled: () => {
      if (queries.isMutating({ mutationKey }) === 1) void queries.invalidateQueries({ queryKey });
    },
  });
  const failures = useMutationState({
    filters: { mutationKey, status: "error" },
    select: (mutation) => mutation as unknown as Failure,
  });
  const dismiss = (failure: Failure) => {
    queries.getMutationCache().remove(failure);
    // Nothing else may keep on this page who is signed out. After a change that is still on its way it is asked anyhow.
    if (!queries.isMutating({ mutationKey })) void queries.invalidateQueries({ queryKey });
  };
  return { change: mutate, failures, dismiss };
}

function withChange(data: InfiniteData<Page>, change: Change, view: View): InfiniteData<Page> {
  const pages = data.pages.map((page, index) => {
    const tasks = applied(page.tasks, change, view);
    // What comes in comes to the front of the first.
    return { ...page, tasks: index === 0 ? tasks : tasks.filter(({ id }) => page.tasks.some((had) => had.id === id)) };
  });
  const [first] = pages;
  const grown = pages.flatMap(({ tasks }) => tasks).length - data.pages.flatMap(({ tasks }) => tasks).length;
  if (first?.total !== undefined) first.total += grown;
  return { ...data, pages };
}
