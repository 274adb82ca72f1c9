// Submits a failed operation. Rebound redelivers it to its target, the subject
// <service>.<operation>. With rebound serve running:
//
//	npm install
//	node submit.mjs billing charge '{"id":1}'
//	node submit.mjs --structured billing charge '{"id":2}'
import { parseArgs } from "node:util";
import { jetstream } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { CloudEvent } from "cloudevents";
import { encode } from "./binding.mjs";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    nats: { type: "string", default: "nats://127.0.0.1:4222" },
    structured: { type: "boolean", default: false },
  },
});
if (positionals.length !== 3) {
  console.error("usage: node submit.mjs [--nats URL] [--structured] SERVICE OPERATION JSON");
  process.exit(2);
}
const [service, operation, data] = positionals;

const event = new CloudEvent({
  type: "rebound.operation.failed.v1",
  source: "/examples/nodejs",
  datacontenttype: "application/json",
  data: JSON.parse(data),
  service,
  operation,
  errorcode: "503",
  errormessage: "the card processor is away",
});

const nc = await connect({ servers: values.nats });
try {
  const { headers, body } = encode(event, values.structured);
  // The acknowledgement confirms that the operation is stored; from then on it cannot be lost.
  const ack = await jetstream(nc).publish(`retry.submit.${service}.${operation}`, body, { headers });
  console.log(`${event.id} is stored in ${ack.stream}`);
} finally {
  await nc.close();
}
