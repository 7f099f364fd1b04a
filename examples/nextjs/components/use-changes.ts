"use client";

import { useQueryClient } from "@tanstack/react-query";

import { useAccount } from "@/components/account";
import { canBeUndone, type Change } from "@/lib/changes";
import type { Entry } from "@/lib/database";
import { add, decide } from "@/lib/outbox";
import { done } from "@/lib/words";

/** Returns whether the change is kept in this browser. */
export type MakeChange = (change: Change) => Promise<boolean>;

/** What components call to change tasks. `say` tells what was done, or why it was not. */
export function useChanges(say: (text: string) => void) {
  const { user } = useAccount();
  const queries = useQueryClient();

  async function keep(work: PromiseLike<void>, text: string) {
    try {
      await work;
    } catch (error) {
      say((error as Error).message);
      return false;
    }
    say(text);
    void queries.refetchQueries();
    return true;
  }

  // A deletion is told together with the offer to undo it.
  const told = (change: Change) => (canBeUndone(change) ? "" : done(change));
  const change: MakeChange = (change) => keep(add(user.id, change), told(change));
  const settle = (refused: Entry[], instead?: Change) =>
    keep(decide(user.id, refused, instead), instead ? done(instead) : "");
  return { change, settle };
}
