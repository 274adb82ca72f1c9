// CloudEvents over NATS with the CloudEvents SDK's HTTP binding: NATS messages also have
// headers and a body. In addition the NATS binding requires percent-encoded attributes,
// which the SDK leaves to HTTP clients.
import { headers as newHeaders } from "@nats-io/transport-node";
import { HTTP } from "cloudevents";

// encode returns the headers and the body of an event, in structured or binary mode.
export function encode(event, structured) {
  const message = structured ? HTTP.structured(event) : HTTP.binary(event);
  const headers = newHeaders();
  for (const [name, value] of Object.entries(message.headers)) {
    headers.set(name, isAttribute(name) ? escape(String(value)) : value);
  }
  return { headers, body: message.body };
}

// decode returns the event in a NATS message of either mode. It throws unless that is a
// valid CloudEvent.
export function decode(message) {
  const headers = {};
  for (const [name, [value]] of message.headers ?? []) {
    headers[name] = isAttribute(name) ? decodeURIComponent(value) : value;
  }
  const event = HTTP.toEvent({ headers, body: message.string() });
  event.validate();
  return event;
}

const isAttribute = (name) => name.toLowerCase().startsWith("ce-");

// escape escapes all but printable ASCII characters, and blank, quote and percent.
const escape = (value) => value.replace(/[^!#$&-~]/gu, encodeURIComponent);
