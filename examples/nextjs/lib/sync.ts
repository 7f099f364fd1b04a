/** Brings this browser and the API together: sends the user's changes, then reads everybody's. */

import type { TaskClient } from "@todo-api/client";

import { db, state, writeTasks } from "@/lib/database";
import { send } from "@/lib/outbox";

/** One tab at a time does this, so that nothing is sent twice, and nothing read before a change overwrites it. */
export async function sync(api: TaskClient, userId: string): Promise<Date> {
  return navigator.locks.request("sync", async () => {
    await send(api, userId);
    await receive(api, userId);
    return new Date();
  });
}

async function receive(api: TaskClient, userId: string) {
  const since = (await state())?.next;
  const { tasks, deleted, next, isWhole } = await api.changesSince(since);
  if (next === since) return;
  await writeTasks(userId, async () => {
    const known = await db.tasks.bulkGet(tasks.map(({ id }) => id));
    if (isWhole) await db.tasks.clear();
    else await db.tasks.bulkDelete([...deleted]);
    await db.tasks.bulkPut(tasks.map((task, index) => ({ ...known[index], ...task })));
    return { next };
  });
}
