// The shapes of the service's JSON. Written by clients/generate.py from its OpenAPI document: do not edit.

/** Stored durably; ``position`` is its place in the stream, or "spooled" while the stream is away. */
export interface AcceptedOut {
  position: string;
}

/** The customer saw a deferred decision. */
export interface ActivateIn {
  loop?: string;
  decision_id: string;
  occurred_at?: string | null;
}

/** Activities of any customers, taken all or none. */
export interface ActivityBatchIn {
  activities: ReadonlyArray<ActivityIn>;
}

/** One thing a customer did. */
export interface ActivityIn {
  customer_id: string;
  kind: "view" | "click" | "cart_add" | "purchase";
  /** Absent = now. */
  occurred_at?: string | null;
  /** Absent = the category of offer_id. */
  category?: string | null;
  offer_id?: string | null;
  amount?: number | null;
  /** Makes the activity repeatable. */
  activity_id?: string | null;
  /** Purchases of one basket share it; absent = the customer's day. */
  order_id?: string | null;
}

/** Accepted activities; ``applied`` when they are in the profiles. */
export interface ActivityOut {
  position: string;
  accepted: number;
  applied: boolean;
}

/** An offer given with the request instead of the catalogue. */
export interface CandidateIn {
  offer_id: string;
  features?: Readonly<Record<string, unknown>>;
}

/** What one feature, or a product of features, adds to an offer's score, on the loop's reward scale. */
export interface ContributionOut {
  name: string;
  value: number;
  reward: number;
  /** The same for every offer of the decision. */
  shared: boolean;
}

/** One field that was refused. */
export interface FieldErrorOut {
  field: string;
  value: unknown;
  message: string;
}

/** RFC 9457 problem details. */
export interface ProblemOut {
  type?: string;
  title: string;
  status: number;
  detail: string;
  errors?: Array<FieldErrorOut>;
}

/** Up to 100 rank calls that are checked together: one bad call refuses all. */
export interface RankBatchIn {
  requests: ReadonlyArray<RankIn>;
}

/** Decisions in the order of the requests. */
export interface RankBatchOut {
  decisions: Array<RankOut>;
}

/** Who and when; which offers may be shown. */
export interface RankIn {
  loop?: string;
  customer_id?: string | null;
  context?: Readonly<Record<string, unknown>>;
  /** Offer ids or inline offers; absent = the whole catalogue. */
  candidates?: ReadonlyArray<string | CandidateIn> | null;
  /** Makes the call repeatable: the same id and request get the stored answer. */
  decision_id?: string | null;
  /** The moment the features speak of; absent = now. Required on loops with a simulated clock. */
  occurred_at?: string | null;
  /** Learn from this decision only once it is activated. */
  defer_activation?: boolean;
  /** Where the offer would be shown. */
  channel?: string | null;
  /** Where the customer is; absent = as stored, or the loop's. */
  region?: string | null;
  /** Answer with reasons: what was removed, what spoke for each offer. */
  explain?: boolean;
  /** Fill so many places, or these, with different offers; absent = one. */
  slots?: number | ReadonlyArray<SlotIn> | null;
}

/** The decision: show ``offer_id``, or with slots what each of them says; it is the first one's then. */
export interface RankOut {
  decision_id: string;
  offer_id: string;
  ranking: Array<RankedOut>;
  policy_id: string;
  snapshot_id: string;
  learning_mode: "online" | "apprentice" | "logging_only";
  /** learn, baseline, holdout or fallback (nothing was eligible). */
  use?: string;
  /** The offer's code, if the catalogue has one. */
  code?: string | null;
  /** What to show, if the catalogue has it. */
  creative?: Record<string, string> | null;
  /** In the order asked, when slots were. */
  slots?: Array<RankedSlotOut> | null;
  /** The customer's session goes on: this is its earlier decision; nothing was drawn anew. */
  sticky?: boolean;
  /** The reasons, when explain was asked. */
  why?: WhyOut | null;
}

/** An eligible offer and the exact probability with which it could have been drawn. */
export interface RankedOut {
  offer_id: string;
  probability: number;
}

/** What one slot shows, with the exact probability of it, given what earlier slots show. */
export interface RankedSlotOut {
  slot_id: string;
  offer_id: string;
  /** Null when nothing was left to the slot, and a fallback is shown. */
  propensity: number | null;
  ranking: Array<RankedOut>;
  /** The offer's code, if the catalogue has one. */
  code?: string | null;
  /** What to show, if the catalogue has it. */
  creative?: Record<string, string> | null;
}

/** An offer that a rule took out. */
export interface RemovedOut {
  offer_id: string;
  reason: string;
}

/** What happened after a decision: a value, or a kind that the loop knows the worth of. */
export interface RewardIn {
  loop?: string;
  decision_id: string;
  /** The slot that it is about, by its id or its place from 0; absent = the first. */
  slot?: string | number | null;
  value?: number | null;
  kind?: string | null;
  /** Multiplies the kind's worth, such as revenue. */
  amount?: number | null;
  /** Makes the call repeatable; so does the header Idempotency-Key. */
  outcome_id?: string | null;
  occurred_at?: string | null;
  /** No more outcomes will come; closes early on loops with close_on_final. */
  final?: boolean;
}

/** An accepted outcome. */
export interface RewardOut {
  position: string;
  outcome_id: string;
}

/** One place among several: what it is like, and which offers it may show. */
export interface SlotIn {
  /** Absent = its place from 0. */
  id?: string | null;
  /** Of the place, never of a person. */
  features?: Readonly<Record<string, unknown>>;
  /** The offer that it shows when a baseline serves. */
  baseline?: string | null;
  /** Offers that it must not show. */
  exclude?: ReadonlyArray<string>;
}

/** An eligible offer: its probability, its expected reward as the model has it, and what that is made of. */
export interface WhyOfferOut {
  offer_id: string;
  probability: number | null;
  policy_probability: number | null;
  score: number | null;
  contributions: Array<ContributionOut>;
  /** The sum of all smaller contributions. */
  rest: number | null;
  /** How many they are. */
  others: number;
}

/** Why the decision fell as it did. */
export interface WhyOut {
  loop: string;
  decision_id: string;
  offer_id: string;
  use: string;
  /** Another offer was likelier than the one that was drawn. */
  is_exploration: boolean;
  removed: Array<RemovedOut>;
  offers: Array<WhyOfferOut>;
  /** What was not known. */
  missing: Array<string>;
  /** Where features came from, by namespace or feature. */
  sources: Record<string, string>;
  /** Features that the loop's schema did not let in. */
  dropped: Array<string>;
  /** All of them, where slots were asked for. */
  slots?: Array<WhySlotOut> | null;
  note: string | null;
}

/** Why one of several slots shows what it does; probabilities are given what earlier slots show. */
export interface WhySlotOut {
  slot_id: string;
  offer_id: string;
  is_exploration: boolean;
  /** By the draw; shown_above: an earlier slot shows it, slot_excludes: this one must not. */
  removed: Array<RemovedOut>;
  offers: Array<WhyOfferOut>;
}
