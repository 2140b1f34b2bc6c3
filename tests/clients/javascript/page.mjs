const OFFER = { width: 300, height: 100 };
const SCREEN = { width: 800, height: 600 };

// A page without a browser: what the module takes from `window`, driven by the test.
export class Page extends EventTarget {
  document = Object.assign(new EventTarget(), { visibilityState: "visible" });
  beacons = [];
  takesBeacons = true;
  observers = [];
  navigator = {
    sendBeacon: (url, blob) => {
      if (!this.takesBeacons) return false;
      this.beacons.push({ url, blob });
      return true;
    },
  };

  constructor() {
    super();
    const page = this;
    this.IntersectionObserver = class {
      constructor(callback, { threshold }) {
        this.callback = callback;
        this.thresholds = threshold;
        this.elements = new Set();
        page.observers.push(this);
      }
      observe(element) {
        this.elements.add(element);
        // As in browsers: the first word comes at once, whatever is in view.
        this.tell(0, false);
      }
      disconnect() {
        this.elements.clear();
      }
      tell(intersectionRatio, isIntersecting, { element = OFFER, screen = SCREEN } = {}) {
        if (this.elements.size === 0) return;
        const shown = { width: element.width, height: element.height * intersectionRatio };
        const rootBounds = screen && { ...screen };
        this.callback([{ isIntersecting, intersectionRatio, intersectionRect: shown, rootBounds }]);
      }
    };
  }

  /** The element shows this share of itself. */
  show(share, sizes) {
    for (const observer of this.observers) observer.tell(share, share > 0, sizes);
  }

  become(visibilityState) {
    this.document.visibilityState = visibilityState;
    this.document.dispatchEvent(new Event("visibilitychange"));
  }

  leave() {
    this.dispatchEvent(new Event("pagehide"));
  }
}

/** The network before the service (tests/clients/conftest.py): sets its faults, tells what came through. */
export const network = {
  url: process.env.NETWORK_URL,
  async next(...faults) {
    await post(`${this.url}/_network`, { next: faults });
  },
  async always(fault) {
    await post(`${this.url}/_network`, { next: [], then: fault });
  },
  async seen(path) {
    const all = await (await fetch(`${this.url}/_network`)).json();
    return path === undefined ? all : all.filter((one) => one.path === path);
  },
};

export async function post(url, body) {
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
  return { status: answer.status, body: await answer.json() };
}

/** The record of a decision, once it holds what is waited for. */
export async function record(decisionId, isThere = () => true) {
  for (let tries = 0; tries < 300; tries += 1) {
    const answer = await fetch(`${process.env.SERVICE_URL}/v1/decisions/${encodeURIComponent(decisionId)}`);
    const body = await answer.json();
    if (answer.ok && isThere(body)) return body;
    await pause(50);
  }
  throw new Error(`decision ${decisionId} did not come to be so within 15 s`);
}

export async function until(check, what) {
  for (let tries = 0; tries < 300; tries += 1) {
    if (await check()) return;
    await pause(50);
  }
  throw new Error(`${what} did not hold within 15 s`);
}

export function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

export const TWO = [{ offer_id: "left" }, { offer_id: "right" }];
/** Patient, so that a busy machine fails no test. */
export const QUICK = { url: process.env.NETWORK_URL, timeoutSeconds: 20, budgetSeconds: 40, firstPauseSeconds: 0.001 };
