// Follows how operations end. With rebound serve running:
//
//	npm install
//	node subscribe.mjs              outcomes from now on
//	node subscribe.mjs --all        all stored outcomes
//	node subscribe.mjs --count 10   at most 10
import { parseArgs } from "node:util";
import { DeliverPolicy, jetstream } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { decode } from "./binding.mjs";

const { values } = parseArgs({
  options: {
    nats: { type: "string", default: "nats://127.0.0.1:4222" },
    all: { type: "boolean", default: false },
    count: { type: "string", default: "Infinity" },
  },
});

const nc = await connect({ servers: values.nats });
try {
  const consumer = await jetstream(nc).consumers.get("RETRY_OUTCOMES", {
    filter_subjects: "retry.outcome.>",
    deliver_policy: values.all ? DeliverPolicy.All : DeliverPolicy.New,
  });
  let left = Number(values.count);
  for await (const message of await consumer.consume()) {
    const { type, data } = decode(message);
    console.log(`${data.service}:${data.operation} ${data.eventId} ended in ${type} after ${data.attempts} attempts`);
    if (--left === 0) break;
  }
} finally {
  await nc.close();
}
