// SPDX-License-Identifier: Apache-2.0
// Sparkplug as somebody else wrote it (npm sparkplug-client): an edge node, a host that decodes, a recorder of payloads.
//
//   node sparkplug.js record                       payloads as its encoder writes them, one JSON object
//   node sparkplug.js node URL USER PASSWORD GROUP NODE      an edge node; a line of JSON on stdin is something to do
//   node sparkplug.js host URL USER PASSWORD                 everything under spBv1.0/#, decoded, a line of JSON each
//
// It is started with NODE_PATH at the folder of npm's modules.
"use strict";
const payloads = require("sparkplug-payload").get("spBv1.0");
const Long = require(require.resolve("long", { paths: [require.resolve("sparkplug-payload")] })); // the one it knows

const T = 1700000000000;
const m = (name, type, value, more) => ({ name, type, value, timestamp: T, ...more });
const RECORDED = {
  types: [
    m("i8", "Int8", -5, { alias: 1 }), m("i16", "Int16", -300), m("i32", "Int32", -70000), m("i64", "Int64", Long.fromString("-5000000000")),
    m("u8", "UInt8", 200), m("u16", "UInt16", 60000), m("u32", "UInt32", 4000000000), m("u64", "UInt64", Long.fromString("9007199254740993", true)),
    m("f", "Float", 1.5), m("d", "Double", -2.25), m("yes", "Boolean", true), m("no", "Boolean", false),
    m("text", "String", "Prüfstand"), m("when", "DateTime", T), m("long text", "Text", "x"), m("uuid", "UUID", "0-1"),
    m("bytes", "Bytes", Buffer.from([0, 1, 255])),
  ],
  flags: [
    m("null", "Double", null), m("old", "Double", 1, { isHistorical: true }),
    m("bad", "Double", 1, { properties: { Quality: { type: "Int32", value: 0 } } }),
    m("stale", "Double", 1, { properties: { Quality: { type: "Int32", value: 500 } } }),
  ],
  more: [
    m("transient", "Double", 1, { isTransient: true, metadata: { description: "of what" } }),
    m("nested", "Double", 1, { properties: {
      unit: { type: "String", value: "bar" }, limits: { type: "PropertySet", value: { high: { type: "Double", value: 9 } } },
      Quality: { type: "Int32", value: 192 } } }),
  ],
  complex: [
    m("set", "DataSet", { numOfColumns: 1, types: ["Double"], columns: ["a"], rows: [[1.5]] }),
    m("template", "Template", { isDefinition: true, metrics: [m("inner", "Double", 1)], parameters: [] }),
    m("after", "Double", 3),
  ],
  "alias only": [{ alias: 7, type: "Double", value: 2.5, timestamp: T }],
  empty: [],
};

function record() {
  const out = {};
  for (const [name, metrics] of Object.entries(RECORDED))
    out[name] = Buffer.from(payloads.encodePayload({ timestamp: T, metrics, seq: 3 })).toString("hex");
  return out;
}

const say = (o) => process.stdout.write(JSON.stringify(o, (_, v) =>
  v && v.low !== undefined ? Long.fromValue(v).toNumber() : v && v.type === "Buffer" ? Buffer.from(v.data).toString("hex") : v) + "\n");

function lines(act) {
  require("readline").createInterface({ input: process.stdin }).on("line", (line) => act(JSON.parse(line)));
  process.stdin.on("end", () => process.exit(0));
}

function edge([serverUrl, username, password, groupId, edgeNode]) {
  const client = require("sparkplug-client").newClient(
    { serverUrl, username, password, groupId, edgeNode, clientId: "edge-" + edgeNode, version: "spBv1.0" });
  const born = { node: [], devices: {} };
  const copy = (metrics) => metrics.map((x) => ({ ...x }));
  const births = () => {
    client.publishNodeBirth({ timestamp: Date.now(), metrics: copy(born.node) });
    for (const [device, metrics] of Object.entries(born.devices))
      client.publishDeviceBirth(device, { timestamp: Date.now(), metrics: copy(metrics) });
    say({ event: "born" });
  };
  client.on("birth", () => say({ event: "connected" }));
  client.on("error", (e) => say({ event: "error", text: String(e) }));
  client.on("ncmd", (payload) => {
    say({ event: "ncmd", metrics: payload.metrics });
    if (payload.metrics.some((x) => x.name === "Node Control/Rebirth" && x.value === true)) births();
  });
  lines((order) => {
    const payload = { timestamp: order.timestamp || Date.now(), metrics: order.metrics || [] };
    client.seq += order.lose || 0; // as if so many messages had been lost
    if (order.do === "birth") { Object.assign(born, order.born); births(); }
    else if (order.do === "ndata") client.publishNodeData(payload);
    else if (order.do === "ddata") client.publishDeviceData(order.device, payload);
    else if (order.do === "ddeath") client.publishDeviceDeath(order.device, payload);
    say({ event: "done", do: order.do });
  });
}

function host([url, username, password]) {
  const client = require("mqtt").connect(url, { username, password, clientId: "host-js" });
  client.on("connect", () => client.subscribe("spBv1.0/#", { qos: 1 }, () => say({ event: "connected" })));
  client.on("message", (topic, data, packet) => {
    const state = topic.startsWith("spBv1.0/STATE/");
    const payload = state ? JSON.parse(data) : payloads.decodePayload(data);
    say({ event: "message", topic, retain: packet.retain, qos: packet.qos, hex: data.toString("hex"), payload });
  });
  lines((order) => client.publish(order.topic, Buffer.from(payloads.encodePayload(order.payload)), () => say({ event: "done" })));
}

const [, , mode, ...rest] = process.argv;
if (mode === "record") say(record());
else if (mode === "node") edge(rest);
else if (mode === "host") host(rest);
