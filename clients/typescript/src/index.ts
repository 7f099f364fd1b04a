/** A client of the task API: a method for each route. */

import createClient from "openapi-fetch";

import { type Changes, followed, merged, type TaskCopy, type Update } from "./copy.js";
import { TaskApiError } from "./errors.js";
import type { paths } from "./schema.js";
import { Transport, type TransportOptions } from "./transport.js";

export { type Changes, type TaskCopy, type Update } from "./copy.js";
export { type ErrorCode, TaskApiError } from "./errors.js";
export { type GetToken, keepToken, userOf } from "./transport.js";

type Collection = paths["/api/tasks"];
type One = paths["/api/tasks/{id}"];

export type Task = One["get"]["responses"][200]["content"]["application/json"];
export type NewTask = Collection["post"]["requestBody"]["content"]["application/json"];
export type TaskChanges = One["patch"]["requestBody"]["content"]["application/json"];
export type PageQuery = NonNullable<Collection["get"]["parameters"]["query"]>;
export type ListQuery = Omit<PageQuery, "limit" | "cursor" | "include_total">;

export interface Page {
  tasks: Task[];
  /** The `cursor` of the page that follows; undefined on the last. */
  nextCursor: string | undefined;
  /** The number of matching tasks, when `include_total` asked for it. */
  total: number | undefined;
}

export interface CallOptions {
  signal?: AbortSignal | null | undefined;
}

export interface WriteOptions extends CallOptions {
  /** The `updated_at` of the task as it was read: one that has changed since is `PRECONDITION_FAILED`. */
  ifMatch?: string | undefined;
}

export interface TaskClientOptions extends TransportOptions {
  /** Where the service is, such as `https://api.example.com`. */
  baseUrl: string;
  /** As for `fetch`: `no-store` in a Next.js server component. */
  cache?: RequestCache;
}

export class TaskClient {
  readonly #transport: Transport;
  readonly #api: ReturnType<typeof createClient<paths>>;

  constructor({ baseUrl, cache, ...options }: TaskClientOptions) {
    this.#transport = new Transport({ ...(cache === "no-store" && { keepBytes: 0 }), ...options });
    const fetch = async (request: Request): Promise<Response> => legible(await this.#transport.send(request));
    this.#api = createClient<paths>({ baseUrl, fetch, ...(cache && { cache }) });
  }

  /** All tasks that match, newest first unless `sort` says otherwise; one request for each 1000. */
  async list(query: ListQuery = {}, options: CallOptions = {}): Promise<Task[]> {
    const found = new Map<string, Task>();
    for await (const { tasks } of this.#pages(query, options)) {
      for (const task of tasks) {
        found.delete(task.id); // a task whose sort value changed comes again: keep its new place
        found.set(task.id, task);
      }
    }
    return [...found.values()];
  }

  async page(query: PageQuery = {}, { signal = null }: CallOptions = {}): Promise<Page> {
    const answer = await this.#api.GET("/api/tasks", { params: { query }, signal });
    const nextCursor = answer.response.headers.get("X-Next-Cursor") ?? undefined;
    const total = answer.response.headers.get("X-Total-Count");
    return { tasks: accepted(answer), nextCursor, total: total === null ? undefined : Number(total) };
  }

  /** Every task that matches, page by page. A task whose sort value changes meanwhile may come twice or be missed. */
  async *all({ limit = 100, ...query }: PageQuery = {}, options?: CallOptions): AsyncGenerator<Task, void, undefined> {
    for await (const { tasks } of this.#pages({ ...query, limit }, options)) yield* tasks;
  }

  async *#pages(query: PageQuery, options?: CallOptions): AsyncGenerator<Page, void, undefined> {
    for (let asked: PageQuery | undefined = query; asked; ) {
      const page: Page = await this.page(asked, options);
      yield page;
      asked = page.nextCursor === undefined ? undefined : { ...asked, cursor: page.nextCursor };
    }
  }

  /** One response of the feed: what changed since the `next` of another, or without it the start of a first copy. */
  async changes(
    since?: string | undefined,
    { limit, signal = null }: CallOptions & { limit?: number | undefined } = {},
  ): Promise<Changes> {
    const query = { ...(since !== undefined && { since }), ...(limit !== undefined && { limit }) };
    return accepted(await this.#api.GET("/api/tasks/changes", { params: { query }, signal }));
  }

  /**
   * Bring a copy of all tasks up to date, or make one. Returns the same object if nothing changed, otherwise a new one.
   * Throws if a request fails; the copy passed in can be used again. A copy that is too old is replaced by a first one.
   */
  async sync(copy?: TaskCopy | undefined, options: CallOptions = {}): Promise<TaskCopy> {
    return merged(copy, await this.changesSince(copy?.next, options));
  }

  /**
   * All changes since the `next` of another update, or without it all tasks: for a copy that is kept in a database.
   * Throws if a request fails. If the feed no longer knows `since`, the update has all tasks, and `isWhole` is true.
   */
  async changesSince(since?: string | undefined, options: CallOptions = {}): Promise<Update> {
    const read = (from: string | undefined): Promise<Changes> => this.changes(from, options);
    return followed(since, read).catch((error: unknown) => {
      if (since === undefined || !isOutdated(error)) throw error;
      return followed(undefined, read);
    });
  }

  async get(id: string, { signal = null }: CallOptions = {}): Promise<Task> {
    const path = { id: id === "changes" ? "CHANGES" : id }; // a route and no id: in upper case it is an unknown id
    return accepted(await this.#api.GET("/api/tasks/{id}", { params: { path }, signal }));
  }

  /** Create a task, once however often it is called with one key: give the key when the caller repeats by itself. */
  async create(
    input: NewTask,
    { idempotencyKey = newIdempotencyKey(), signal = null }: CallOptions & { idempotencyKey?: string | undefined } = {},
  ): Promise<Task> {
    const params = { header: { "Idempotency-Key": idempotencyKey } };
    return accepted(await this.#api.POST("/api/tasks", { params, body: input, signal }));
  }

  /** Change the fields given, and no other. */
  async update(id: string, changes: TaskChanges, { ifMatch, signal = null }: WriteOptions = {}): Promise<Task> {
    const params = { path: { id }, ...condition(ifMatch) };
    const answer = await this.#api.PATCH("/api/tasks/{id}", { params, body: changes, signal });
    if (answer.response.status === 412 && this.#transport.doubtful.has(answer.response)) {
      const task = await this.get(id, { signal });
      if (isDone(changes, task)) return task; // what refused the repeat is the attempt whose answer was lost
    }
    return accepted(answer);
  }

  async remove(id: string, { ifMatch, signal = null }: WriteOptions = {}): Promise<void> {
    const params = { path: { id }, ...condition(ifMatch) };
    const answer = await this.#api.DELETE("/api/tasks/{id}", { params, signal });
    if (answer.error?.error_code === "TASK_NOT_FOUND" && this.#transport.doubtful.has(answer.response)) return;
    accepted(answer);
  }

  /** Complete all open tasks, or with false reopen all completed ones; returns how many. */
  async markAll(isCompleted: boolean, { signal = null }: CallOptions = {}): Promise<number> {
    const init = { params: { query: { is_completed: !isCompleted } }, body: { is_completed: isCompleted }, signal };
    return accepted(await this.#api.PATCH("/api/tasks", init)).count;
  }

  /** Delete all completed tasks; returns how many. */
  async clearCompleted({ signal = null }: CallOptions = {}): Promise<number> {
    return accepted(await this.#api.DELETE("/api/tasks", { params: { query: { is_completed: true } }, signal })).count;
  }
}

/** Make a key for `create`. Not by `crypto.randomUUID`, which a page over plain http lacks. */
export function newIdempotencyKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Throws where another page, such as a hotel's, stands where the service's JSON should be. */
async function legible(answer: Response): Promise<Response> {
  const body: unknown = answer.ok && answer.status !== 204 && (await answer.clone().json().catch(() => undefined));
  if (body === undefined) throw new TaskApiError(answer, { detail: "The answer was not JSON." });
  return answer;
}

/** Returns what the service sent, or throws what it said. */
function accepted<T>({ data, error, response }: { data?: T; error?: unknown; response: Response }): T {
  if (!response.ok) throw new TaskApiError(response, error);
  return data as T;
}

const condition = (ifMatch: string | undefined) => ifMatch !== undefined && { header: { "If-Match": `"${ifMatch}"` } };

/** Whether a copy cannot be continued: it is too old, another user's, or not readable any more. */
function isOutdated(error: unknown): boolean {
  return error instanceof TaskApiError && (error.code === "CHANGES_EXPIRED" || error.errors["since"] !== undefined);
}

/** Whether a task is as these changes, one at least, would have made it. */
function isDone(changes: TaskChanges, task: Task): boolean {
  const { id, user_id, completed_at, created_at, updated_at, title, tags, ...rest } = changes;
  const trimmed = { title: title?.trim(), tags: tags && [...new Set(tags.map((tag) => tag.trim()))] };
  const sent = Object.entries({ ...trimmed, ...rest }).filter(([, to]) => to !== undefined);
  return sent.length > 0 && sent.every(([name, to]) => JSON.stringify(task[name as keyof Task]) === JSON.stringify(to));
}
