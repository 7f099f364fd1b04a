import type { components } from "./schema.js";
import { retryAfter } from "./transport.js";

type Schemas = components["schemas"];

/** What the service says in `error_code`; `UNKNOWN` where something else answered. */
export type ErrorCode = Schemas[Exclude<Extract<keyof Schemas, `${string}Error`>, "RpcError">]["error_code"] | "UNKNOWN";

/** An answer of 400 or above, or one that is no JSON: branch on `code`. */
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
    const { detail, error_code, errors } = Object(body) as Record<string, unknown>; // whoever it was that answered
    super(typeof detail === "string" ? detail : `The answer was ${answer.status} ${answer.statusText}`.trimEnd());
    this.code = typeof error_code === "string" ? (error_code as ErrorCode) : "UNKNOWN";
    this.status = answer.status;
    this.errors = (this.code === "VALIDATION_ERROR" && (errors as TaskApiError["errors"])) || {};
    this.requestId = answer.headers.get("X-Request-ID") ?? undefined;
    this.retryAfter = retryAfter(answer);
  }
}
