/** How a request travels: with a token, repeated where that is harmless, answered from memory while nothing changed. */

type Token = string | null | undefined;

/** Returns the token of whoever is signed in, if anybody is; with `renew` a new one, because the last was refused. */
export type GetToken = (options: { renew: boolean }) => Promise<Token>;

export interface TransportOptions {
  getToken: GetToken;
  /** How often a request is repeated at most. Default: 3. */
  retries?: number;
  /** The longest wait before a repeat, in seconds: a longer `Retry-After` is an error at once. Default: 30. */
  longestWait?: number;
  /** How much is kept to answer a 304 from. Default: 8 MiB in Node, 0 in a browser, whose own cache does it. */
  keepBytes?: number;
  fetch?: (request: Request) => Promise<Response>;
}

type Read = { head: Response; body: ArrayBuffer; size: number };

const NO_TOKEN = { detail: "getToken gave no token that can be sent.", error_code: "TOKEN_MISSING", status_code: 401 };
const ASKS_FOR_A_REPEAT = [429, 503];
const LOST_BEHIND_A_PROXY = [502, 504];
const FIRST_PAUSE = 0.25; // seconds, doubled each time
const HEAD_BYTES = 500; // what the headers of an answer take, as measured

export class Transport {
  /** The answers to a repeat of what may have been done already. */
  readonly doubtful = new WeakSet<Response>();
  readonly #options: Required<TransportOptions>;
  readonly #kept = new Map<string, Read>();
  #keptBytes = 0;
  #renewal: { refused: string; token: Promise<Token> } | undefined;

  constructor({ getToken, retries = 3, longestWait = 30, keepBytes, fetch = globalThis.fetch }: TransportOptions) {
    const { process } = globalThis as { process?: { versions?: { node?: string } } };
    keepBytes ??= process?.versions?.node === undefined ? 0 : 8 * 2 ** 20;
    const ask: GetToken = async (how) => (await getToken(how))?.trim() || undefined;
    // Called without a `this`, which a browser's own would refuse.
    this.#options = { getToken: ask, retries, longestWait, keepBytes, fetch: (request) => fetch(request) };
  }

  async send(request: Request): Promise<Response> {
    const { signal } = request;
    let token = await unlessAborted(this.#options.getToken({ renew: false }), signal);
    let [renewed, doubtful] = [false, false];
    for (let repeats = 0; ; ) {
      if (!token || !/^[!-~]+$/.test(token)) return new Response(JSON.stringify(NO_TOKEN), { status: 401 });
      const answer = await unlessAborted(this.#attempt(request, token), signal).catch((error: unknown) => {
        if (error instanceof TypeError) return error; // fetch has one for whatever goes wrong on the way
        throw error;
      });
      if (answer instanceof Response && isTokenRefused(answer) && !renewed) {
        renewed = true;
        const next = await unlessAborted(this.#renew(token), signal);
        if (!next || userOf(next) !== userOf(token)) return answer; // what one user began is not done as another
        token = next;
        continue;
      }
      if (renewed && answer instanceof Response && isTokenRefused(answer)) this.#renewal = undefined; // old by now
      const wait = repeats < this.#options.retries ? this.#waitBeforeRepeat(request, answer, repeats) : undefined;
      if (wait === undefined) {
        if (answer instanceof TypeError) throw answer;
        if (doubtful) this.doubtful.add(answer);
        return answer;
      }
      repeats += 1;
      doubtful ||= answer instanceof TypeError || answer.status !== 429;
      await pause(wait, signal);
    }
  }

  /** Returns seconds, undefined where there is to be no repeat. */
  #waitBeforeRepeat(request: Request, answer: Response | TypeError, repeats: number): number | undefined {
    const lost = answer instanceof TypeError || LOST_BEHIND_A_PROXY.includes(answer.status);
    if (lost ? !isHarmlessTwice(request) : !ASKS_FOR_A_REPEAT.includes(answer.status)) return undefined;
    const asked = answer instanceof TypeError ? 0 : (retryAfter(answer) ?? 0);
    // Spread, or all that one outage turned away would come back at the same moment.
    const spread = FIRST_PAUSE * 2 ** repeats * (0.5 + Math.random() / 2);
    return asked > this.#options.longestWait ? undefined : asked + spread;
  }

  async #attempt(request: Request, token: string): Promise<Response> {
    const sent = request.clone();
    sent.headers.set("Authorization", `Bearer ${token}`);
    const keeps = this.#options.keepBytes > 0 && request.method === "GET";
    const place = `${token} ${request.url}`; // so that nobody is shown what another user was
    const known = keeps ? this.#kept.get(place) : undefined;
    if (known) sent.headers.set("If-None-Match", known.head.headers.get("ETag") ?? "");
    const answer = await this.#options.fetch(sent);
    const body = await answer.arrayBuffer(); // to its end: one that breaks off is a failure of the attempt
    const size = place.length + body.byteLength + HEAD_BYTES;
    const current = known && answer.status === 304 ? known : { head: new Response(null, answer), body, size };
    const fits = keeps && current.size <= this.#options.keepBytes;
    if (fits && current.head.status === 200 && current.head.headers.has("ETag")) this.#keep(place, current);
    return new Response(current.body.byteLength > 0 ? current.body : null, current.head);
  }

  /** Keep an answer as the newest, at the cost of the oldest. */
  #keep(place: string, answer: Read): void {
    this.#keptBytes += answer.size - (this.#kept.get(place)?.size ?? 0);
    this.#kept.delete(place);
    this.#kept.set(place, answer);
    for (const [oldest, { size }] of this.#kept) {
      if (this.#keptBytes <= this.#options.keepBytes) break;
      this.#kept.delete(oldest);
      this.#keptBytes -= size;
    }
  }

  /** Returns a new token for one that was refused: the same for all that were refused with it. */
  #renew(refused: string): Promise<Token> {
    if (this.#renewal?.refused === refused) return this.#renewal.token;
    const renewal = { refused, token: this.#options.getToken({ renew: true }) };
    this.#renewal = renewal;
    const forget = (): unknown => this.#renewal === renewal && (this.#renewal = undefined);
    renewal.token.then((token) => (!token || token === refused) && forget(), forget);
    return renewal.token;
  }
}

/**
 * Make a `getToken` that fetches a token when there is none, and keeps it until it is refused.
 * Call `forget` when the user signs out: until then there is no token where it would be another user's.
 */
export function keepToken(fetchToken: () => Promise<Token>): GetToken & { forget: () => void } {
  let kept: Promise<Token> | undefined, underWay: Promise<Token> | undefined, owner: unknown;
  const getToken: GetToken = ({ renew }) => {
    if (kept && (!renew || kept === underWay)) return kept; // what is under way is not what was refused
    const fetched = fetchToken().then((token) => (token && (owner ??= userOf(token)) === userOf(token) ? token : null));
    const end = (token: Token) => kept === fetched && ([kept, underWay] = [token ? kept : undefined, undefined]);
    fetched.then(end, () => end(undefined));
    return (kept = underWay = fetched);
  };
  return Object.assign(getToken, { forget: () => void (kept = owner = undefined) });
}

/** Returns the seconds that an answer asks to wait, as a number or a date (RFC 9110, section 10.2.3). */
export function retryAfter(answer: Response): number | undefined {
  const value = answer.headers.get("Retry-After") ?? "";
  const seconds = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return Number.isNaN(seconds) ? undefined : Math.max(0, seconds);
}

/** Whether twice is the same as once: it only reads, has a key or a condition, or deletes one task. */
function isHarmlessTwice({ method, headers, url }: Request): boolean {
  const deletesOne = method === "DELETE" && !new URL(url).pathname.endsWith("/tasks");
  return method === "GET" || headers.has("Idempotency-Key") || headers.has("If-Match") || deletesOne;
}

function isTokenRefused(answer: Response): boolean {
  return answer.status === 401 && /error="?invalid_token/.test(answer.headers.get("WWW-Authenticate") ?? "");
}

/** Returns the `sub` of a JWT, undefined for any other text. */
export function userOf(token: string): unknown {
  try {
    const claims = (token.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/");
    return (JSON.parse(atob(claims)) as { sub?: unknown }).sub;
  } catch {
    return undefined;
  }
}

function pause(seconds: number, signal: AbortSignal): Promise<void> {
  let timer: ReturnType<typeof setTimeout>;
  const over = new Promise<void>((resolve) => (timer = setTimeout(resolve, seconds * 1000)));
  return unlessAborted(over, signal).finally(() => clearTimeout(timer));
}

function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const stop = (): void => reject(signal.reason);
    signal.addEventListener("abort", stop);
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
    if (signal.aborted) stop();
  });
}
