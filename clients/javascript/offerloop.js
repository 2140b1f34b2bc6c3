/**
 * Offers in a web page: rank, reward, activity, and activation once the offer was in view.
 *
 * Every call carries an id of its own making, so that a repeated one counts once. No page may hold an admin key:
 * README.md says how a page reaches the service.
 */

const DEFAULTS = {
  url: "",
  headers: {},
  credentials: "same-origin",
  attempts: 3,
  timeoutSeconds: 1,
  budgetSeconds: 2,
  firstPauseSeconds: 0.05,
  longestPauseSeconds: 1,
  batchSize: 20,
  batchSeconds: 2,
  largestQueue: 1000,
};
const REPEATED_STATUSES = new Set([429, 502, 503, 504]);
const LOCAL = "fallback:";
const NOT_SENT = "not-sent";
// Browsers let pages that are left send 64 KiB; JSON around the entries needs a little of it.
const LARGEST_FAREWELL_BYTES = 60_000;
// Observers speak when one of these shares is crossed; a tall offer never shows half of itself on a small screen.
const STEPS = Array.from({ length: 21 }, (_, step) => step / 20);

/** A call failed; carries the fields of the service's problem JSON (RFC 9457). */
export class OfferloopError extends Error {
  constructor(problem, status = null, retryAfterSeconds = 0) {
    super(problem.detail);
    this.name = "OfferloopError";
    this.status = status;
    this.type = problem.type ?? "about:blank";
    this.title = problem.title;
    this.detail = problem.detail;
    this.errors = problem.errors ?? [];
    this.retryAfterSeconds = retryAfterSeconds;
    this.attempts = 1;
  }

  /** No answer, 429, 5xx or not the service: the page shows its fallback offer. Else the call itself is wrong. */
  get isAway() {
    return this.status === null || this.status === 429 || this.status >= 500 || this.status < 400;
  }

  get isWorthAnotherAttempt() {
    return this.status === null || REPEATED_STATUSES.has(this.status);
  }
}

export class Offerloop {
  #options;
  #page;
  #activities = [];
  #batchTimer = null;
  #unconfirmed = new Set();
  #activated = new Set();
  #stops = new Set();
  #onHide = () => this.#sayFarewell();
  #onVisibility = () => {
    if (this.#page.document.visibilityState === "hidden") this.#sayFarewell();
  };

  constructor(options = {}) {
    this.#options = { ...DEFAULTS, onError: (error) => console.warn("offerloop:", error), ...options };
    this.#options.url = String(this.#options.url).replace(/\/+$/, "");
    this.#page = this.#options.page ?? globalThis;
    this.#page.addEventListener?.("pagehide", this.#onHide);
    this.#page.document?.addEventListener("visibilitychange", this.#onVisibility);
  }

  /** Choose an offer. While the service is away the answer is the fallback offer, with `fallback: true`. */
  async rank(request = {}, { fallbackOffer = this.#options.fallbackOffer, signal } = {}) {
    const asked = { ...this.#named(request), decision_id: request.decision_id ?? randomId() };
    try {
      const decision = await this.#send("/v1/rank", asked, { signal });
      return { ...decision, loop: asked.loop, fallback: false };
    } catch (error) {
      if (!(error instanceof OfferloopError) || !error.isAway || fallbackOffer === undefined) throw error;
      return localAnswer(asked, fallbackOffer);
    }
  }

  /** Report an outcome: `{decision_id, kind}` or `{decision_id, value}`. One of a fallback offer is not sent. */
  async reward(outcome) {
    const filled = { ...this.#named(outcome), outcome_id: outcome.outcome_id ?? randomId() };
    if (isLocal(filled.decision_id)) return { position: NOT_SENT, outcome_id: filled.outcome_id };
    return this.#sendSurely("/v1/reward", filled);
  }

  /** The customer saw a deferred decision. That of a fallback offer is not sent. */
  async activate(activation) {
    if (isLocal(activation.decision_id)) return { position: NOT_SENT };
    return this.#sendSurely("/v1/activate", this.#named(activation));
  }

  /** Note what the customer did; it is sent with others, soon, or when the page is left. */
  activity(entry) {
    this.#activities.push({ ...entry, activity_id: entry.activity_id ?? randomId() });
    const excess = this.#activities.length - this.#options.largestQueue;
    if (excess > 0) this.#activities.splice(0, excess);
    if (this.#activities.length >= this.#options.batchSize) void this.flush();
    else this.#batchTimer ??= setTimeout(() => void this.flush(), this.#options.batchSeconds * 1000);
  }

  /** Send the noted activities now. Those that do not arrive wait for the next time. */
  async flush() {
    clearTimeout(this.#batchTimer);
    this.#batchTimer = null;
    for (const batch of portions(this.#activities.splice(0))) await this.#sendActivities(batch);
  }

  /**
   * Activate the decision once `threshold` of the element (or as much of the screen) was in view for `seconds` without
   * a break, once per decision. Ask for the decision with `defer_activation: true`. Returns a function that stops it.
   */
  whenSeen(element, decision, { threshold = 0.5, seconds = 1, onSeen = () => {} } = {}) {
    const { IntersectionObserver, document } = this.#page;
    if (!IntersectionObserver) throw new Error("this page has no IntersectionObserver to tell what is in view");
    const { decision_id, loop } = decision;
    let isInView = false;
    let timer = null;
    const seen = () => {
      stop();
      if (isLocal(decision_id) || this.#activated.has(decision_id)) return;
      this.#activated.add(decision_id);
      this.activate(loop === undefined ? { decision_id } : { decision_id, loop }).catch(this.#options.onError);
      onSeen(decision);
    };
    const update = () => {
      const counts = isInView && document?.visibilityState !== "hidden";
      if (counts) timer ??= setTimeout(seen, seconds * 1000);
      else {
        clearTimeout(timer);
        timer = null;
      }
    };
    const observer = new IntersectionObserver(
      (entries) => {
        isInView = shareInView(entries[entries.length - 1]) >= threshold;
        update();
      },
      { threshold: [...new Set([...STEPS, threshold])].sort((a, b) => a - b) },
    );
    const stop = () => {
      clearTimeout(timer);
      observer.disconnect();
      document?.removeEventListener("visibilitychange", update);
      this.#stops.delete(stop);
    };
    this.#stops.add(stop);
    document?.addEventListener("visibilitychange", update);
    observer.observe(element);
    return stop;
  }

  /** Send what is noted and stop listening. */
  async close() {
    for (const stop of [...this.#stops]) stop();
    this.#page.removeEventListener?.("pagehide", this.#onHide);
    this.#page.document?.removeEventListener("visibilitychange", this.#onVisibility);
    await this.flush();
  }

  #named(body) {
    return this.#options.loop === undefined ? { ...body } : { loop: this.#options.loop, ...body };
  }

  /** A call that the page sends once more when it is left before the answer; the service counts it once. */
  async #sendSurely(path, body, { keepalive = true, isForgottenWhenAway = false } = {}) {
    const call = { path, body };
    this.#unconfirmed.add(call);
    try {
      const answer = await this.#send(path, body, { keepalive });
      this.#unconfirmed.delete(call);
      return answer;
    } catch (error) {
      if (isForgottenWhenAway || !error.isAway) this.#unconfirmed.delete(call);
      throw error;
    }
  }

  async #sendActivities(batch) {
    try {
      await this.#sendSurely("/v1/activity", { activities: batch }, { keepalive: false, isForgottenWhenAway: true });
    } catch (error) {
      if (error.isAway) {
        this.#activities.unshift(...batch);
        this.#options.onError(error);
      } else if (batch.length > 1) {
        // One that is wrong refuses all: each goes alone.
        for (const entry of batch) await this.#sendActivities([entry]);
      } else this.#options.onError(error);
    }
  }

  async #send(path, body, { keepalive = false, signal } = {}) {
    const { attempts, timeoutSeconds, budgetSeconds, firstPauseSeconds, longestPauseSeconds } = this.#options;
    const content = JSON.stringify(body);
    const endsAt = now() + budgetSeconds;
    for (let attempt = 1; ; attempt += 1) {
      try {
        const seconds = Math.max(Math.min(timeoutSeconds, endsAt - now()), 0.001);
        return await this.#attempt(path, content, { keepalive, signal, seconds });
      } catch (failure) {
        if (!(failure instanceof OfferloopError)) throw failure;
        failure.attempts = attempt;
        // A random part, so that pages that failed together do not come back together.
        const longest = Math.min(firstPauseSeconds * 2 ** (attempt - 1), longestPauseSeconds);
        const pause = failure.retryAfterSeconds + Math.random() * longest;
        if (!failure.isWorthAnotherAttempt || attempt >= attempts || now() + pause >= endsAt) throw failure;
        await new Promise((resolve) => setTimeout(resolve, pause * 1000));
        signal?.throwIfAborted();
      }
    }
  }

  async #attempt(path, content, { keepalive, signal, seconds }) {
    const controller = new AbortController();
    const abort = () => controller.abort();
    const timer = setTimeout(abort, seconds * 1000);
    signal?.addEventListener("abort", abort, { once: true });
    let response;
    let text;
    try {
      signal?.throwIfAborted();
      response = await this.#fetch(path, content, { keepalive, signal: controller.signal });
      text = await response.text();
    } catch (error) {
      // The caller's own wish to stop is no failure of the service.
      signal?.throwIfAborted();
      const detail = controller.signal.aborted ? `no answer within ${seconds} s` : String(error.message ?? error);
      throw new OfferloopError({ title: "No answer", detail });
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
    }
    const json = parsed(text);
    if (response.ok && json !== undefined) return json;
    throw problemOf(response, json, text);
  }

  #fetch(path, content, more) {
    const { url, headers, credentials } = this.#options;
    const send = this.#options.fetch ?? this.#page.fetch ?? globalThis.fetch;
    return send.call(this.#page, url + path, {
      method: "POST",
      headers: { "Content-Type": "application/json", ...headers },
      body: content,
      credentials,
      ...more,
    });
  }

  /** The page may end any moment: what is noted and what is not confirmed goes out, without waiting for answers. */
  #sayFarewell() {
    clearTimeout(this.#batchTimer);
    this.#batchTimer = null;
    for (const activities of portions(this.#activities.splice(0))) this.#part("/v1/activity", { activities });
    for (const { path, body } of this.#unconfirmed) this.#part(path, body);
  }

  #part(path, body) {
    const content = JSON.stringify(body);
    const { headers, url } = this.#options;
    const { navigator } = this.#page;
    // A beacon cannot carry headers such as a key.
    if (Object.keys(headers).length === 0 && navigator?.sendBeacon) {
      if (navigator.sendBeacon(url + path, new Blob([content], { type: "application/json" }))) return;
    }
    this.#fetch(path, content, { keepalive: true }).catch(this.#options.onError);
  }
}

/** Whether a decision was made in the page because the service was away. */
export function isLocal(decisionId) {
  return decisionId.startsWith(LOCAL);
}

/** The service may have logged another offer under the id that was asked for, so the local decision has its own. */
function localAnswer(request, fallbackOffer) {
  const offers = [fallbackOffer].flat();
  const { slots } = request;
  const places = typeof slots === "number" ? Array.from({ length: slots }, () => ({})) : (slots ?? []);
  const shown = places.slice(0, offers.length).map(({ id }, place) => {
    return { slot_id: id ?? String(place), offer_id: offers[place], propensity: null, ranking: [] };
  });
  return {
    ...(places.length > 0 && { slots: shown }),
    decision_id: LOCAL + request.decision_id,
    offer_id: offers[0],
    ranking: [],
    policy_id: "local-fallback",
    snapshot_id: "",
    learning_mode: "logging_only",
    use: "fallback",
    loop: request.loop,
    fallback: true,
  };
}

function shareInView({ isIntersecting, intersectionRatio, intersectionRect, rootBounds }) {
  if (!isIntersecting) return -1;
  const screen = rootBounds ? rootBounds.width * rootBounds.height : 0;
  const ofScreen = screen > 0 ? (intersectionRect.width * intersectionRect.height) / screen : 0;
  return Math.max(intersectionRatio, ofScreen);
}

function problemOf(response, json, text) {
  const isProblem = typeof json?.title === "string" && typeof json?.detail === "string";
  const detail = text.slice(0, 200) || "the answer is empty";
  const problem = isProblem ? json : { title: "Unexpected answer", detail };
  return new OfferloopError(problem, response.status, secondsOf(response.headers.get("retry-after")));
}

function secondsOf(retryAfter) {
  if (!retryAfter) return 0;
  const seconds = /^\d+$/.test(retryAfter) ? Number(retryAfter) : (Date.parse(retryAfter) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(seconds, 0) : 0;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function* portions(entries) {
  let portion = [];
  let bytes = 0;
  for (const entry of entries) {
    const size = new TextEncoder().encode(JSON.stringify(entry)).length + 1;
    if (portion.length > 0 && bytes + size > LARGEST_FAREWELL_BYTES) {
      yield portion;
      portion = [];
      bytes = 0;
    }
    portion.push(entry);
    bytes += size;
  }
  if (portion.length > 0) yield portion;
}

// crypto.randomUUID exists on secure pages only.
function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function now() {
  return performance.now() / 1000;
}
