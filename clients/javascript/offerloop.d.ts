import type {
  AcceptedOut,
  ActivateIn,
  ActivityIn,
  FieldErrorOut,
  ProblemOut,
  RankIn,
  RankOut,
  RewardIn,
  RewardOut,
} from "./wire.d.ts";

export type * from "./wire.d.ts";

/** The service's decision, or with `fallback` the page's own; nothing of that one is logged or learned. */
export interface RankAnswer extends RankOut {
  fallback: boolean;
  /** The loop that was asked for; absent = the service's default one. */
  loop?: string;
}

export interface OfferloopOptions {
  /** Where `/v1/rank` is: the page's own server, or the service's address. */
  url?: string;
  /** Loop of calls that name none; absent = the service's default one. */
  loop?: string;
  /** The offer that `rank` answers while the service is away, or one for each slot; absent = `rank` throws. */
  fallbackOffer?: string | string[];
  /** Sent with every call. Never put an admin key here: every visitor can read it. */
  headers?: Record<string, string>;
  credentials?: RequestCredentials;
  /** Most attempts of one call; 3 unless told otherwise. */
  attempts?: number;
  /** How long one attempt may take; 1 unless told otherwise. */
  timeoutSeconds?: number;
  /** How long a call may take with all its attempts; 2 unless told otherwise. */
  budgetSeconds?: number;
  firstPauseSeconds?: number;
  longestPauseSeconds?: number;
  /** Activities are sent when so many are noted, ... */
  batchSize?: number;
  /** ... or when the first of them is so old. */
  batchSeconds?: number;
  /** While the service is away, at most so many activities wait; the oldest are dropped. */
  largestQueue?: number;
  /** What goes wrong where nobody awaits it; a console warning unless told otherwise. */
  onError?: (error: unknown) => void;
  fetch?: typeof fetch;
  /** What stands for `window`, outside of browsers. */
  page?: object;
}

export interface SeenOptions {
  /** Share of the element's area (or of the screen's, for a tall element), 0 to 1; 0.5 unless told otherwise. */
  threshold?: number;
  /** How long without a break; 1 unless told otherwise. */
  seconds?: number;
  onSeen?: (decision: RankAnswer) => void;
}

export class OfferloopError extends Error {
  constructor(
    problem: Pick<ProblemOut, "title" | "detail"> & Partial<ProblemOut>,
    status?: number | null,
    retryAfterSeconds?: number,
  );
  /** HTTP status; null when no answer came. */
  readonly status: number | null;
  readonly type: string;
  readonly title: string;
  readonly detail: string;
  readonly errors: Array<FieldErrorOut>;
  readonly retryAfterSeconds: number;
  /** How often the call was tried. */
  attempts: number;
  /** No answer, or none that helps; else the call itself is wrong. */
  get isAway(): boolean;
  get isWorthAnotherAttempt(): boolean;
}

export class Offerloop {
  constructor(options?: OfferloopOptions);
  /** Choose an offer; reward and activate it by the answer's `decision_id`. */
  rank(request?: RankIn, options?: { fallbackOffer?: string | string[]; signal?: AbortSignal }): Promise<RankAnswer>;
  /** Report an outcome; it counts once however often it is sent. */
  reward(outcome: RewardIn): Promise<RewardOut>;
  /** The customer saw a deferred decision. */
  activate(activation: ActivateIn): Promise<AcceptedOut>;
  /** Note what the customer did; it is sent with others, soon, or when the page is left. */
  activity(entry: ActivityIn): void;
  /** Send the noted activities now. */
  flush(): Promise<void>;
  /** Activate the decision once the element was in view long enough, once per decision. Returns what stops it. */
  whenSeen(element: Element, decision: RankAnswer, options?: SeenOptions): () => void;
  /** Send what is noted and stop listening. */
  close(): Promise<void>;
}

/** Whether a decision was made in the page because the service was away. */
export function isLocal(decisionId: string): boolean;
