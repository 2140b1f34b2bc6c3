// Every operation of @azure/cognitiveservices-personalizer: node stable.mjs ENDPOINT KEY
import assert from "node:assert/strict";
import personalizer from "@azure/cognitiveservices-personalizer";
import msRest from "@azure/ms-rest-js";

const [endpoint, key] = process.argv.slice(2);
const credentials = new msRest.ApiKeyCredentials({ inHeader: { "Ocp-Apim-Subscription-Key": key } });
const client = new personalizer.PersonalizerClient(credentials, endpoint, { noRetryPolicy: true });
const done = [];

async function refused(status, code, call, name) {
  await assert.rejects(call, (error) => {
    assert.equal(error.statusCode, status, `${name}: ${error.message}`);
    assert.equal(error.body.error.code, code, name);
    return true;
  });
  done.push(name);
}

const actions = ["a", "b"].map((id) => ({ id, features: [{ kind: id }] }));
const answer = await client.rank({
  actions, contextFeatures: [{ day: "monday" }], excludedActions: ["b"], eventId: "old 1/%", deferActivation: true,
});
assert.equal(answer._response.status, 201);
assert.equal(answer.rewardActionId, "a");
assert.equal(answer.eventId, "old 1/%");
assert.deepEqual(answer.ranking.map((one) => [one.id, one.probability]), [["a", 1], ["b", 0]]);
done.push("rank");
assert.equal((await client.events.activate("old 1/%"))._response.status, 204);
done.push("activate");
assert.equal((await client.events.reward("old 1/%", { value: 0.5 }))._response.status, 204);
done.push("reward");
await refused(400, "InvalidRankRequest", client.rank({ actions: [{ id: "a", features: [] }] }), "rank refused");
await refused(400, "InvalidRewardRequest", client.events.reward("e", { value: 2 }), "reward refused");
console.log(JSON.stringify(done));
