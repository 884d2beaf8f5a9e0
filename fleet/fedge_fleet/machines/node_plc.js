// SPDX-License-Identifier: Apache-2.0
// Serves tags over OPC UA by node-opcua; a JSON line on stdin sets them: {"time": Unix s, "values": {...}, "label"}.
// One argument, JSON: {namespace, channels, waveform, state (a folder)}. Prints the port once it listens.
const readline = require("readline");
const opcua = require("node-opcua");

const options = JSON.parse(process.argv[2]);
console.log = console.warn = console.error; // stdout is for the port

async function main() {
  const manager = new opcua.OPCUACertificateManager({ rootFolder: options.state });
  await manager.initialize();
  const server = new opcua.OPCUAServer({
    port: 0, hostname: "127.0.0.1", serverCertificateManager: manager,
    securityPolicies: [opcua.SecurityPolicy.None], securityModes: [opcua.MessageSecurityMode.None],
  });
  await server.initialize();
  const space = server.engine.addressSpace.registerNamespace(options.namespace);
  const machine = space.addObject({ browseName: "Machine", organizedBy: server.engine.addressSpace.rootFolder.objects });
  const variables = {};
  const add = (name, dataType, array) => {
    variables[name] = space.addVariable({
      browseName: name, nodeId: `s=${name}`, componentOf: machine, dataType, valueRank: array ? 1 : -1,
    });
  };
  for (const name of options.channels) add(name, "Float", options.waveform);
  add("label", "Int32", false);
  await server.start();
  process.stdout.write(server.endpoints[0].port + "\n");

  const set = (name, dataType, value, code, time) => {
    const arrayType = Array.isArray(value) ? opcua.VariantArrayType.Array : opcua.VariantArrayType.Scalar;
    const stored = Array.isArray(value) ? Float32Array.from(value) : value;
    variables[name].setValueFromSource({ dataType, arrayType, value: stored }, code, time);
  };
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { time, values, label } = JSON.parse(line);
    const stamp = new Date(time * 1000);
    for (const name of options.channels) set(name, opcua.DataType.Float, values[name], opcua.StatusCodes.Good, stamp);
    const code = label === null ? opcua.StatusCodes.BadNoData : opcua.StatusCodes.Good;
    set("label", opcua.DataType.Int32, label || 0, code, stamp);
  }
  process.exit(0); // whoever started it is gone
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
