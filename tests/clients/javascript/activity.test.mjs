import assert from "node:assert/strict";
import test from "node:test";
import { Offerloop } from "../../../clients/javascript/offerloop.js";
import { Page, QUICK, TWO, network, until } from "./page.mjs";

const view = (customer_id, more = {}) => ({ customer_id, kind: "view", category: "garden", ...more });
const customers = ({ body }) => body.activities.map((entry) => entry.customer_id);
const sent = async () => (await network.seen("/v1/activity")).map(customers);

/** What a beacon carried. */
const carried = async (beacons) =>
  Promise.all(beacons.map(async ({ url, blob }) => ({ url, type: blob.type, body: JSON.parse(await blob.text()) })));

test("activities go together, each with an id", async () => {
  await network.next();
  const offers = new Offerloop({ ...QUICK, batchSeconds: 600 });
  for (const name of ["a", "b", "c"]) offers.activity(view(name));
  assert.deepEqual(await sent(), []);
  await offers.flush();
  assert.deepEqual(await sent(), [["a", "b", "c"]]);
  const [{ body }] = await network.seen();
  assert.equal(new Set(body.activities.map((entry) => entry.activity_id)).size, 3);
  await offers.flush();
  assert.equal((await network.seen()).length, 1);
});

test("a full batch goes at once, and one that is not full a little later", async () => {
  await network.next();
  const full = new Offerloop({ ...QUICK, batchSize: 2, batchSeconds: 600 });
  for (const name of ["a", "b", "c"]) full.activity(view(name));
  await until(async () => (await sent()).length === 1, "the full batch");
  assert.deepEqual(await sent(), [["a", "b"]]);
  await full.close();
  assert.deepEqual(await sent(), [["a", "b"], ["c"]]);
  await network.next();
  new Offerloop({ ...QUICK, batchSeconds: 0.01 }).activity(view("d"));
  await until(async () => (await sent()).length === 1, "the batch that is not full");
});

test("activities that did not arrive wait for the next time, under the same ids", async () => {
  await network.always("503");
  const errors = [];
  const offers = new Offerloop({ ...QUICK, attempts: 1, batchSeconds: 600, onError: (error) => errors.push(error) });
  offers.activity(view("a"));
  await offers.flush();
  const [first] = await network.seen();
  assert.equal(errors[0].status, 503);
  await network.next();
  offers.activity(view("b"));
  await offers.flush();
  const [{ body }] = await network.seen();
  assert.deepEqual(body.activities.map((entry) => entry.customer_id), ["a", "b"]);
  assert.equal(body.activities[0].activity_id, first.body.activities[0].activity_id);
  await offers.close();
});

test("the oldest are dropped when too many wait", async () => {
  await network.next();
  const offers = new Offerloop({ ...QUICK, batchSize: 99, batchSeconds: 600, largestQueue: 2 });
  for (const name of ["a", "b", "c"]) offers.activity(view(name));
  await offers.flush();
  assert.deepEqual(await sent(), [["b", "c"]]);
});

test("one that is wrong does not take the others with it", async () => {
  await network.next();
  const errors = [];
  const offers = new Offerloop({ ...QUICK, batchSeconds: 600, onError: (error) => errors.push(error) });
  offers.activity(view("a"));
  offers.activity(view("b", { kind: "stare" }));
  offers.activity(view("c"));
  await offers.flush();
  assert.deepEqual(await sent(), [["a", "b", "c"], ["a"], ["b"], ["c"]]);
  assert.deepEqual(errors.map((error) => error.status), [400]);
  assert.match(errors[0].errors[0].field, /kind/);
});

test("what is noted goes out by beacon when the page is hidden or left", async () => {
  for (const goAway of [(page) => page.become("hidden"), (page) => page.leave()]) {
    await network.next();
    const page = new Page();
    const offers = new Offerloop({ ...QUICK, page, batchSeconds: 600 });
    offers.activity(view("a"));
    goAway(page);
    goAway(page);
    const beacons = await carried(page.beacons);
    assert.equal(beacons.length, 1);
    assert.deepEqual([beacons[0].url, beacons[0].type], [`${network.url}/v1/activity`, "application/json"]);
    assert.deepEqual(beacons[0].body.activities.map((entry) => entry.customer_id), ["a"]);
    await offers.close();
    assert.deepEqual(await network.seen(), []);
  }
});

test("the service takes what a beacon carries", async () => {
  const page = new Page();
  const offers = new Offerloop({ ...QUICK, page, batchSeconds: 600 });
  offers.activity(view("a"));
  page.leave();
  const [{ url, blob }] = page.beacons;
  await network.next();
  const answer = await fetch(url, { method: "POST", headers: { "Content-Type": blob.type }, body: await blob.text() });
  assert.equal(answer.status, 202);
});

test("what must carry headers, or is no beacon, goes out by fetch that outlives the page", async () => {
  for (const [headers, takesBeacons] of [[{ "X-Api-Key": "k" }, true], [{}, false]]) {
    await network.next();
    const page = new Page();
    page.takesBeacons = takesBeacons;
    const kept = [];
    const noting = (url, options) => (kept.push(options.keepalive), fetch(url, options));
    const offers = new Offerloop({ ...QUICK, page, headers, fetch: noting, batchSeconds: 600 });
    offers.activity(view("a"));
    page.leave();
    await until(async () => (await sent()).length === 1, "the batch");
    assert.deepEqual(kept, [true]);
    assert.deepEqual(page.beacons, []);
  }
});

test("portions are small enough for a page that ends", async () => {
  const page = new Page();
  const offers = new Offerloop({ ...QUICK, page, batchSize: 10_000, batchSeconds: 600 });
  for (let number = 0; number < 1000; number += 1) offers.activity(view(`customer-ä-${number}`));
  page.leave();
  assert.ok(page.beacons.length > 1);
  assert.ok(page.beacons.every(({ blob }) => blob.size < 65_536));
  const all = (await carried(page.beacons)).flatMap(({ body }) => body.activities);
  assert.deepEqual(all.map((entry) => entry.customer_id), Array.from({ length: 1000 }, (_, n) => `customer-ä-${n}`));
});

test("a reward that is not confirmed is sent once more when the page is left, and not after that", async () => {
  await network.next();
  const page = new Page();
  const offers = new Offerloop({ ...QUICK, page });
  const { decision_id } = await offers.rank({ candidates: TWO });
  await offers.reward({ decision_id, value: 1 });
  page.leave();
  assert.deepEqual(page.beacons, []);
  await network.always("503");
  await assert.rejects(offers.reward({ decision_id, value: 1, outcome_id: "o-1" }));
  page.leave();
  const [{ url, body }] = await carried(page.beacons);
  assert.deepEqual([url, body.outcome_id], [`${network.url}/v1/reward`, "o-1"]);
  await network.next();
  await assert.rejects(offers.reward({ decision_id, value: 1, kind: "click" }), { status: 400 });
  assert.equal(page.beacons.length, 1);
});
