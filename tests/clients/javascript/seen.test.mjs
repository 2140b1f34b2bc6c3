import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { Offerloop } from "../../../clients/javascript/offerloop.js";
import { Page, QUICK, TWO, network, record, until } from "./page.mjs";

/** A page with one offer, and what was activated in it. */
async function shop(options = {}, { wait = {}, request = {} } = {}) {
  await network.next();
  const page = new Page();
  const offers = new Offerloop({ ...QUICK, page, ...options });
  const decision = await offers.rank({ candidates: TWO, defer_activation: true, ...request });
  const activated = [];
  mock.method(offers, "activate", async (activation) => activated.push(activation));
  mock.timers.enable({ apis: ["setTimeout"] });
  const stop = offers.whenSeen({}, decision, wait);
  return { page, offers, decision, activated, stop };
}

test.afterEach(() => mock.timers.reset());

test("half of the offer for a second is seen, once", async () => {
  const { page, offers, decision, activated } = await shop();
  page.show(0.5);
  mock.timers.tick(999);
  assert.deepEqual(activated, []);
  mock.timers.tick(1);
  assert.deepEqual(activated, [{ decision_id: decision.decision_id }]);
  page.show(0);
  page.show(1);
  mock.timers.tick(5000);
  offers.whenSeen({}, decision);
  page.show(1);
  mock.timers.tick(5000);
  assert.equal(activated.length, 1);
});

test("less than half is not seen, and a break starts the time anew", async () => {
  const { page, activated } = await shop();
  page.show(0.49);
  mock.timers.tick(60_000);
  page.show(0.6);
  mock.timers.tick(700);
  page.show(0.2);
  page.show(0.6);
  mock.timers.tick(700);
  assert.deepEqual(activated, []);
  page.show(0.7);
  mock.timers.tick(300);
  assert.equal(activated.length, 1);
});

test("share and time are the caller's", async () => {
  const { page, activated } = await shop({}, { wait: { threshold: 0.83, seconds: 3 } });
  assert.ok(page.observers[0].thresholds.includes(0.83));
  page.show(0.82);
  mock.timers.tick(10_000);
  page.show(0.83);
  mock.timers.tick(2999);
  assert.deepEqual(activated, []);
  mock.timers.tick(1);
  assert.equal(activated.length, 1);
});

test("a threshold of 0 still asks that something is in view", async () => {
  const { page, activated } = await shop({}, { wait: { threshold: 0, seconds: 0 } });
  mock.timers.tick(1000);
  assert.deepEqual(activated, []);
  page.show(0.01);
  mock.timers.tick(0);
  assert.equal(activated.length, 1);
});

test("a page that is hidden shows nothing", async () => {
  const { page, activated } = await shop();
  page.become("hidden");
  page.show(1);
  mock.timers.tick(5000);
  page.become("visible");
  mock.timers.tick(600);
  page.become("hidden");
  mock.timers.tick(5000);
  assert.deepEqual(activated, []);
  page.become("visible");
  mock.timers.tick(1000);
  assert.equal(activated.length, 1);
});

test("an offer larger than the screen is in view when it fills half of it", async () => {
  const sizes = { element: { width: 400, height: 3000 }, screen: { width: 400, height: 800 } };
  const { page, activated } = await shop();
  page.show(0.12, sizes);
  mock.timers.tick(1000);
  assert.deepEqual(activated, []);
  page.show(0.14, sizes);
  mock.timers.tick(1000);
  assert.equal(activated.length, 1);
});

test("in a frame that does not know the screen the offer's own share counts", async () => {
  const { page, activated } = await shop();
  page.show(0.4, { screen: null });
  mock.timers.tick(1000);
  assert.deepEqual(activated, []);
  page.show(0.5, { screen: null });
  mock.timers.tick(1000);
  assert.equal(activated.length, 1);
});

test("what is stopped, or belongs to a page that is closed, is not activated", async () => {
  for (const end of [({ stop }) => stop(), ({ offers }) => void offers.close()]) {
    const made = await shop();
    made.page.show(1);
    mock.timers.tick(500);
    end(made);
    made.page.become("hidden");
    made.page.become("visible");
    made.page.show(1);
    mock.timers.tick(5000);
    assert.deepEqual(made.activated, []);
    mock.timers.reset();
  }
});

test("two decisions in view are both activated, in their loops", async () => {
  const { page, offers, decision, activated } = await shop({}, { request: { loop: "default" } });
  mock.timers.reset();
  const other = await offers.rank({ candidates: TWO });
  mock.timers.enable({ apis: ["setTimeout"] });
  offers.whenSeen({}, other);
  page.show(1);
  mock.timers.tick(1000);
  const { decision_id } = decision;
  assert.deepEqual(activated, [{ decision_id, loop: "default" }, { decision_id: other.decision_id }]);
});

test("a fallback offer is watched and not activated", async () => {
  const { page, offers } = await shop({ fallbackOffer: "left" });
  mock.timers.reset();
  await network.always("drop");
  const decision = await offers.rank({ candidates: TWO });
  await network.next();
  mock.timers.enable({ apis: ["setTimeout"] });
  offers.whenSeen({}, decision);
  page.show(1);
  mock.timers.tick(5000);
  assert.deepEqual(await network.seen("/v1/activate"), []);
});

test("a page that cannot tell what is in view says so", async () => {
  const { page, offers, decision } = await shop();
  page.IntersectionObserver = undefined;
  assert.throws(() => offers.whenSeen({}, decision), /IntersectionObserver/);
});

test("the service learns that it was seen", async () => {
  await network.next();
  const page = new Page();
  const offers = new Offerloop({ ...QUICK, page });
  const decision = await offers.rank({ candidates: TWO, defer_activation: true });
  let seen = null;
  offers.whenSeen({}, decision, { seconds: 0.01, onSeen: (one) => (seen = one) });
  page.show(1);
  await until(() => seen !== null, "the offer is seen");
  assert.equal(seen, decision);
  await until(async () => (await network.seen("/v1/activate")).length === 1, "the activation");
  const [{ body }] = await network.seen("/v1/activate");
  assert.deepEqual(body, { decision_id: decision.decision_id });
  assert.equal((await record(decision.decision_id)).deferred, true);
});
