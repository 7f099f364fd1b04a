import type { components } from "./schema.js";
import { retryAfter } from "./transport.js";

type Body = components["schemas"]["Error"] & Partial<Pick<components["schemas"]["ValidationError"], "errors">>;

/** What the service says in `error_code`; `UNKNOWN` where something else answered. */
export type ErrorCode = Body["error_code"] | "UNKNOWN";

/** An answer of 400 or above: branch on `code`. */
export class TaskApiError extends Error {
  override readonly name = "TaskApiError";
  readonly code: ErrorCode;
  readonly status: number;
  /** What is wrong with which field, parameter or header; empty unless `code` is `VALIDATION_ERROR`. */
  readonly errors: Readonly<Record<string, readonly string[]>>;
  /** Finds the request in the service's log. */
  readonly requestId: string | undefined;
  /** After how many seconds to try again. */
  readonly retryAfter: number | undefined;

  constructor(answer: Response, body: unknown) {
    const said: Partial<Body> = typeof body === "object" && body !== null ? body : {};
    super(said.detail ?? `The answer was ${answer.status} ${answer.statusText}`.trimEnd());
    this.code = said.error_code ?? "UNKNOWN";
    this.status = answer.status;
    this.errors = said.errors ?? {};
    this.requestId = answer.headers.get("X-Request-ID") ?? undefined;
    this.retryAfter = retryAfter(answer);
  }
}
