// Every operation of @azure-rest/ai-personalizer against an endpoint: node current.mjs ENDPOINT KEY
import assert from "node:assert/strict";
import module from "@azure-rest/ai-personalizer";

const createClient = module.default ?? module;
const { isUnexpected } = module;
const [endpoint, key] = process.argv.slice(2);
const client = createClient(endpoint, { key }, { allowInsecureConnection: true, retryOptions: { maxRetries: 0 } });
const done = [];

async function expect(status, code, promise, name) {
  const answer = await promise;
  assert.equal(answer.status, String(status), `${name}: ${JSON.stringify(answer.body)}`);
  if (code) {
    assert.equal(answer.body.error.code, code, name);
    assert.ok(answer.body.error.message, name);
  }
  done.push(name);
  return answer.body;
}

async function until(check, what) {
  for (let tries = 0; tries < 400; tries += 1) {
    const found = await check();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`${what} did not come`);
}

const actions = ["a", "b"].map((id) => ({ id, features: [{ kind: id }] }));
const body = { actions, contextFeatures: [{ day: "monday" }], excludedActions: ["a"], eventId: "js 1/ü" };

// Configuration and policy.
const config = await expect(200, null, client.path("/configurations/service").get(), "service get");
assert.equal(config.rewardWaitTime, "PT10M");
const changed = { ...config, rewardWaitTime: "PT5S", modelExportFrequency: "PT1S" };
const put = await expect(200, null, client.path("/configurations/service").put({ body: changed }), "service put");
assert.equal(put.rewardWaitTime, "PT5S");
await expect(400, "InvalidRewardWaitTime",
  client.path("/configurations/service").put({ body: { ...config, rewardWaitTime: "PT1S" } }), "service put refused");
const policy = await expect(200, null, client.path("/configurations/policy").get(), "policy get");
const slots = { name: "slots", arguments: policy.arguments.replace("--cb_", "--ccb_") };
await expect(400, "InvalidPolicyConfiguration",
  client.path("/configurations/policy").put({ body: { name: "x", arguments: "--no_such" } }), "policy put refused");

// Single slot.
const ranked = await expect(201, null, client.path("/rank").post({ body }), "rank");
assert.deepEqual(ranked, {
  ranking: [{ id: "a", probability: 0 }, { id: "b", probability: 1 }], eventId: body.eventId, rewardActionId: "b",
});
await expect(400, "InvalidRankRequest", client.path("/rank").post({ body: { actions: [] } }), "rank refused");
await expect(204, null,
  client.path("/events/{eventId}/reward", body.eventId).post({ body: { value: 1 } }), "reward");
await expect(400, "InvalidRewardRequest",
  client.path("/events/{eventId}/reward", body.eventId).post({ body: { value: 2 } }), "reward refused");
await expect(204, null, client.path("/events/{eventId}/activate", body.eventId).post(), "activate");
await expect(400, "InvalidEventIdToActivate",
  client.path("/events/{eventId}/activate", "x".repeat(257)).post(), "activate refused");

// Several slots.
const asked = { actions, slots: [{ id: "top", baselineAction: "a", positionFeatures: [{ size: 1 }] }], eventId: "m" };
await expect(400, "InvalidMultiSlotApiAccess", client.path("/multislot/rank").post({ body: asked }), "multislot off");
await expect(200, null, client.path("/configurations/policy").put({ body: slots }), "policy put");
const filled = await expect(201, null, client.path("/multislot/rank").post({ body: asked }), "multislot rank");
assert.equal(filled.slots[0].id, "top");
await expect(204, null, client.path("/multislot/events/{eventId}/reward", "m")
  .post({ body: { reward: [{ slotId: "top", value: 0.5 }] } }), "multislot reward");
await expect(204, null, client.path("/multislot/events/{eventId}/activate", "m").post(), "multislot activate");
await expect(200, null, client.path("/configurations/policy").delete(), "policy delete");

// Model.
const model = await expect(200, null, client.path("/model").get(), "model get");
assert.ok(model.length > 0);
const properties = await expect(200, null, client.path("/model/properties").get(), "model properties");
assert.ok(Date.parse(properties.creationTime) <= Date.parse(properties.lastModifiedTime));
const stream = await client.path("/model").get({ queryParameters: { signed: true } }).asNodeStream();
assert.equal(stream.status, "200");
const chunks = [];
for await (const chunk of stream.body) chunks.push(chunk);
const archive = new Uint8Array(Buffer.concat(chunks));
done.push("model get signed");
const bytes = "application/octet-stream";
await expect(204, null, client.path("/model").put({ body: archive, contentType: bytes }), "model put");
await expect(400, "InvalidModelImportFormat",
  client.path("/model").put({ body: new Uint8Array([1, 2, 3]), contentType: bytes }), "model put refused");
await expect(204, null, client.path("/model").delete(), "model delete");

// Evaluations, then logs.
const span = { startTime: "2022-09-20", endTime: "2122-09-20" };
const made = await expect(201, null, client.path("/evaluations").post({
  body: { name: "js", ...span, enableOfflineExperimentation: false,
    policies: [{ name: "P", arguments: "--cb_explore_adf --epsilon 0.5 -q ::" }] },
}), "evaluation create");
await expect(400, "InvalidEvaluationContract",
  client.path("/evaluations").post({ body: { name: "", ...span, policies: [] } }), "evaluation create refused");
const ended = await until(async () => {
  const found = (await client.path("/evaluations/{evaluationId}", made.id).get()).body;
  return found.status === "pending" ? null : found;
}, "the evaluation's end");
assert.equal(ended.id, made.id);
done.push("evaluation get");
const listed = await expect(200, null, client.path("/evaluations").get(), "evaluation list");
assert.ok(listed.some((one) => one.id === made.id));
if (ended.status === "completed") {
  await expect(204, null, client.path("/configurations/applyFromEvaluation")
    .post({ body: { evaluationId: made.id, policyName: "P" } }), "apply");
}
await expect(404, "EvaluationNotFound", client.path("/configurations/applyFromEvaluation")
  .post({ body: { evaluationId: "none", policyName: "P" } }), "apply refused");
await expect(204, null, client.path("/evaluations/{evaluationId}", made.id).delete(), "evaluation delete");
const gone = await client.path("/evaluations/{evaluationId}", made.id).get();
assert.equal(gone.status, "404");
assert.ok(isUnexpected(gone));
done.push("evaluation get refused");
await until(async () => (await client.path("/logs/properties").get()).body.dateRange, "the log");
done.push("log properties");
for (const kind of ["/logs/interactions", "/logs/observations"]) {
  await expect(400, "InvalidRequest", client.path(kind).post({ body: new Uint8Array([1]), contentType: bytes }), kind);
}
await expect(204, null, client.path("/logs").delete(), "log delete");

const stranger = createClient(`${endpoint}/nowhere`, { key }, { allowInsecureConnection: true });
assert.equal((await stranger.path("/rank").post({ body })).status, "404");
console.log(JSON.stringify(done));
