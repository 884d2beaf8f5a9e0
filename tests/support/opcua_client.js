// SPDX-License-Identifier: Apache-2.0
// An OPC UA client that is not ours (node-opcua), for tests: reads nodes, tries to write the first, prints what came.
//   options: url, pki (folder), nodes, clients: a list of {policy, mode, user, password}, each answered by a line
const path = require("path");
console.log = console.warn = console.error; // stdout is for the answer
const opcua = require(path.join(process.env.COUNTERPARTS, "node-opcua"));
const options = JSON.parse(process.argv[2]);

async function ask(who) {
  const clients = new opcua.OPCUACertificateManager({ rootFolder: options.pki, automaticallyAcceptUnknownCertificate: true });
  await clients.initialize();
  const client = opcua.OPCUAClient.create({
    applicationUri: "urn:test:client", clientCertificateManager: clients, endpointMustExist: false,
    connectionStrategy: { maxRetry: 0 }, requestedSessionTimeout: 20000,
    securityPolicy: opcua.SecurityPolicy[who.policy || "None"],
    securityMode: opcua.MessageSecurityMode[who.mode || "None"],
  });
  await client.createDefaultCertificate();
  await client.connect(options.url);
  const session = await client.createSession(
    who.user ? { type: opcua.UserTokenType.UserName, userName: who.user, password: who.password } : undefined);
  const values = await session.read(options.nodes.map((nodeId) => ({ nodeId, attributeId: opcua.AttributeIds.Value })));
  const written = await session.write({ nodeId: options.nodes[0], attributeId: opcua.AttributeIds.Value,
    value: { value: { dataType: "Double", value: 1 } } });
  const answer = {
    values: values.map((v) => (v.value.dataType === opcua.DataType.Int64 ? v.value.value[1] : v.value.value)),
    status: values.map((v) => v.statusCode.name), times: values.map((v) => v.sourceTimestamp), written: written.name,
  };
  await client.disconnect();
  return answer;
}

async function main() {
  for (const who of options.clients) {
    const answer = await ask(who).catch((error) => ({ error: String(error.message || error) }));
    process.stdout.write(JSON.stringify(answer) + "\n");
  }
}

main().then(() => process.exit(0));
