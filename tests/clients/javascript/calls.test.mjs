import assert from "node:assert/strict";
import test from "node:test";
import { Offerloop, OfferloopError, isLocal } from "../../../clients/javascript/offerloop.js";
import { QUICK, TWO, network, record } from "./page.mjs";

test("a decision is made, rewarded and activated", async () => {
  await network.next();
  const offers = new Offerloop(QUICK);
  const decision = await offers.rank({ customer_id: "c-1", candidates: TWO, defer_activation: true });
  assert.ok(["left", "right"].includes(decision.offer_id));
  assert.equal(decision.fallback, false);
  assert.notEqual((await offers.activate({ decision_id: decision.decision_id })).position, "not-sent");
  const accepted = await offers.reward({ decision_id: decision.decision_id, value: 0.5 });
  const stored = await record(decision.decision_id, (body) => body.outcomes.length > 0);
  assert.equal(stored.customer_id, "c-1");
  assert.deepEqual(stored.outcomes.map((one) => [one.outcome_id, one.value]), [[accepted.outcome_id, 0.5]]);
});

test("the loop is that of the page unless a call names one", async () => {
  await network.next();
  const offers = new Offerloop({ ...QUICK, loop: "default" });
  const decision = await offers.rank({ candidates: TWO });
  assert.equal(decision.loop, "default");
  await assert.rejects(offers.rank({ loop: "no-such-loop", candidates: TWO }), { status: 404, isAway: false });
  assert.deepEqual((await network.seen()).map((one) => one.body.loop), ["default", "no-such-loop"]);
});

test("headers go along with every call", async () => {
  await network.next();
  const offers = new Offerloop({ ...QUICK, headers: { "X-Api-Key": "a key" } });
  await offers.rank({ candidates: TWO });
  const [one] = await network.seen();
  assert.equal(one.headers["x-api-key"], "a key");
});

for (const fault of ["drop", "lose", "429", "502", "503", "504"]) {
  test(`after ${fault} the same call is made again`, async () => {
    const offers = new Offerloop(QUICK);
    await network.next(fault, fault);
    const decision = await offers.rank({ candidates: TWO });
    let seen = await network.seen();
    assert.deepEqual(seen.map((one) => one.fault), [fault, fault, "pass"]);
    assert.deepEqual(seen.map((one) => one.body), Array(3).fill(seen[0].body));
    assert.equal(seen[0].body.decision_id, decision.decision_id);
    await network.next(fault);
    const accepted = await offers.reward({ decision_id: decision.decision_id, value: 1 });
    seen = await network.seen();
    assert.deepEqual(seen.map((one) => one.body.outcome_id), [accepted.outcome_id, accepted.outcome_id]);
    const stored = await record(decision.decision_id, (body) => body.outcomes.length > 0);
    assert.deepEqual(stored.outcomes.map((one) => one.outcome_id), [accepted.outcome_id]);
  });
}

test("a slow answer is not waited for", async () => {
  await network.next("slow:5");
  const offers = new Offerloop({ ...QUICK, timeoutSeconds: 0.3 });
  const decision = await offers.rank({ candidates: TWO });
  const seen = await network.seen();
  assert.deepEqual(seen.map((one) => one.fault), ["slow:5", "pass"]);
  assert.deepEqual(seen.map((one) => one.body.decision_id), [decision.decision_id, decision.decision_id]);
});

test("attempts end, and say how many they were", async () => {
  await network.always("503");
  await assert.rejects(new Offerloop({ ...QUICK, attempts: 3 }).reward({ decision_id: "d", value: 1 }), {
    name: "OfferloopError", status: 503, attempts: 3, isAway: true,
  });
  assert.equal((await network.seen()).length, 3);
});

test("a wish to wait beyond the budget ends the call", async () => {
  await network.always("503:3600");
  await assert.rejects(new Offerloop({ ...QUICK, budgetSeconds: 2 }).rank(), { retryAfterSeconds: 3600, attempts: 1 });
  assert.equal((await network.seen()).length, 1);
});

test("errors carry what the service says, and no fallback hides them", async () => {
  await network.next();
  const offers = new Offerloop({ ...QUICK, fallbackOffer: "left" });
  await assert.rejects(offers.rank({ candidates: [] }), (error) => {
    assert.ok(error instanceof OfferloopError);
    assert.equal(error.status, 400);
    assert.equal(error.title, "Bad request");
    assert.equal(error.errors[0].field, "candidates");
    return true;
  });
  assert.equal((await network.seen()).length, 1);
});

test("the fallback offer is shown while the service is away, and nothing of it is sent", async () => {
  const offers = new Offerloop({ ...QUICK, fallbackOffer: "left" });
  for (const fault of ["drop", "500", "page"]) {
    await network.always(fault);
    const decision = await offers.rank({ decision_id: "visit-1", candidates: TWO });
    assert.deepEqual([decision.offer_id, decision.fallback], ["left", true]);
    assert.ok(isLocal(decision.decision_id));
    await network.next();
    assert.equal((await offers.reward({ decision_id: decision.decision_id, value: 1 })).position, "not-sent");
    assert.equal((await offers.activate({ decision_id: decision.decision_id })).position, "not-sent");
    assert.deepEqual(await network.seen(), []);
  }
});

test("several fallback offers fill the slots as far as they go", async () => {
  const offers = new Offerloop({ ...QUICK, url: process.env.NOBODY_URL, fallbackOffer: ["left", "right"] });
  const shown = async (slots) => (await offers.rank({ slots })).slots?.map((slot) => [slot.slot_id, slot.offer_id]);
  assert.deepEqual(await shown([{ id: "top" }, {}, {}]), [["top", "left"], ["1", "right"]]);
  assert.deepEqual(await shown(1), [["0", "left"]]);
  assert.equal(await shown(undefined), undefined);
  assert.equal((await offers.rank({ slots: 3 })).offer_id, "left");
});

test("without a fallback offer, nobody there is an error", async () => {
  await assert.rejects(new Offerloop({ ...QUICK, url: process.env.NOBODY_URL }).rank(), { status: null, isAway: true });
});

test("the page's own wish to stop is passed on", async () => {
  await network.always("slow:5");
  const offers = new Offerloop({ ...QUICK, fallbackOffer: "left" });
  const signal = AbortSignal.timeout(300);
  await assert.rejects(offers.rank({ candidates: TWO }, { signal }), { name: "TimeoutError" });
  await assert.rejects(offers.rank({}, { signal: AbortSignal.abort() }), { name: "AbortError" });
  assert.equal((await network.seen()).length, 1);
});
