// SPDX-License-Identifier: Apache-2.0
// An OPC UA server that is not ours (node-opcua), for tests. Options are one JSON argument; commands are JSON lines on
// stdin, each answered by a line on stdout. The first line is {"port": ...}.
//   options: port, pki (folder), accept (trust every client), limits (OperationLimits), tags (number of T0, T1, ...),
//            users ({name: password}), policies (names), modes (names), late (no nodes until {"do": "add"}), anonymous
//   commands: {"do": "add", "name", "value"}  {"do": "write", "name", "value", "code", "off" (s that the source's clock is ahead)}  {"do": "delete", "name"}
//             {"do": "read", "name"}  {"do": "trust"} (moves rejected client certificates to the trusted ones)
const fs = require("fs");
const path = require("path");
const readline = require("readline");
const opcua = require(path.join(process.env.COUNTERPARTS, "node-opcua"));

const options = JSON.parse(process.argv[2]);
console.log = console.warn = console.error; // stdout is for answers
const say = (what) => process.stdout.write(JSON.stringify(what) + "\n");

// A structure that no client knows beforehand: Measurement {value: Double, axis: Axis {x: Float, y: Float}, name: String}
const NODESET = `<?xml version="1.0" encoding="utf-8"?>
<UANodeSet xmlns="http://opcfoundation.org/UA/2011/03/UANodeSet.xsd">
<NamespaceUris><Uri>urn:test:types</Uri></NamespaceUris>
<Models><Model ModelUri="urn:test:types" Version="1.0.0" PublicationDate="2024-01-01T00:00:00Z"><RequiredModel ModelUri="http://opcfoundation.org/UA/" Version="1.04.0" PublicationDate="2018-05-15T00:00:00Z"/></Model></Models>
<Aliases><Alias Alias="HasSubtype">i=45</Alias><Alias Alias="HasEncoding">i=38</Alias><Alias Alias="HasTypeDefinition">i=40</Alias></Aliases>
<UADataType NodeId="ns=1;i=1" BrowseName="1:Axis"><DisplayName>Axis</DisplayName><References>
<Reference ReferenceType="HasSubtype" IsForward="false">i=22</Reference><Reference ReferenceType="HasEncoding">ns=1;i=2</Reference></References>
<Definition Name="1:Axis"><Field Name="x" DataType="i=10"/><Field Name="y" DataType="i=10"/></Definition></UADataType>
<UAObject NodeId="ns=1;i=2" BrowseName="Default Binary" SymbolicName="DefaultBinary"><DisplayName>Default Binary</DisplayName><References>
<Reference ReferenceType="HasTypeDefinition">i=76</Reference><Reference ReferenceType="HasEncoding" IsForward="false">ns=1;i=1</Reference></References></UAObject>
<UADataType NodeId="ns=1;i=3" BrowseName="1:Measurement"><DisplayName>Measurement</DisplayName><References>
<Reference ReferenceType="HasSubtype" IsForward="false">i=22</Reference><Reference ReferenceType="HasEncoding">ns=1;i=4</Reference></References>
<Definition Name="1:Measurement"><Field Name="value" DataType="i=11"/><Field Name="axis" DataType="ns=1;i=1"/><Field Name="name" DataType="i=12"/></Definition></UADataType>
<UAObject NodeId="ns=1;i=4" BrowseName="Default Binary" SymbolicName="DefaultBinary"><DisplayName>Default Binary</DisplayName><References>
<Reference ReferenceType="HasTypeDefinition">i=76</Reference><Reference ReferenceType="HasEncoding" IsForward="false">ns=1;i=3</Reference></References></UAObject>
</UANodeSet>`;

async function main() {
  const nodeset = path.join(options.pki, "types.xml");
  fs.mkdirSync(options.pki, { recursive: true });
  fs.writeFileSync(nodeset, NODESET);
  const manager = (name) =>
    new opcua.OPCUACertificateManager({
      rootFolder: path.join(options.pki, name), automaticallyAcceptUnknownCertificate: !!options.accept,
    });
  const clients = manager("clients"), users = manager("users");
  await clients.initialize();
  await users.initialize();
  const server = new opcua.OPCUAServer({
    port: options.port || 0,
    hostname: "127.0.0.1",
    serverInfo: { applicationUri: "urn:test:server" },
    allowAnonymous: options.anonymous !== false,
    serverCertificateManager: clients,
    userCertificateManager: users,
    securityPolicies: (options.policies || ["None", "Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss"]).map((p) => opcua.SecurityPolicy[p]),
    securityModes: (options.modes || ["None", "Sign", "SignAndEncrypt"]).map((m) => opcua.MessageSecurityMode[m]),
    userManager: { isValidUser: (name, password) => (options.users || {})[name] === password },
    serverCapabilities: { operationLimits: options.limits || {}, minSupportedSampleRate: 0 }, // every change arrives
    nodeset_filename: [opcua.nodesets.standard, nodeset],
    maxConnectionsPerEndpoint: 100,
  });
  await server.initialize();
  const space = server.engine.addressSpace;
  const own = space.registerNamespace("urn:test:plc");
  const folder = own.addFolder(space.rootFolder.objects, { browseName: "Plant" });
  const nodes = {};

  function variant(value) {
    if (typeof value === "boolean") return { dataType: "Boolean", value };
    if (typeof value === "string") return { dataType: "String", value };
    if (Array.isArray(value)) return { dataType: "Float", arrayType: opcua.VariantArrayType.Array, value: Float32Array.from(value) };
    if (value !== null && typeof value === "object") {
      const types = space.getNamespaceIndex("urn:test:types");
      return { dataType: "ExtensionObject", value: space.constructExtensionObject(space.findDataType("Measurement", types), value) };
    }
    return { dataType: "Double", value };
  }

  function add(name, value = 0) {
    const where = name.includes("/") ? folderOf(name.split("/").slice(0, -1)) : folder;
    const types = space.getNamespaceIndex("urn:test:types");
    const plain = variant(value);
    const structure = plain.dataType === "ExtensionObject";
    nodes[name] = own.addVariable({
      componentOf: where, browseName: name.split("/").pop(), nodeId: `s=${name.split("/").join(".")}`,
      dataType: structure ? space.findDataType("Measurement", types) : plain.dataType,
      valueRank: Array.isArray(value) ? 1 : -1, arrayDimensions: Array.isArray(value) ? [0] : undefined,
      accessLevel: "CurrentRead | CurrentWrite", userAccessLevel: "CurrentRead | CurrentWrite", minimumSamplingInterval: 0,
    });
    nodes[name].setValueFromSource(plain);
  }

  function folderOf(parts) {
    let at = folder;
    for (const part of parts) at = at.getFolderElementByName(part) || own.addFolder(at, { browseName: part });
    return at;
  }

  if (options.tags) { // a value with a range, of which a deadband may be a percentage
    nodes.Analog = own.addAnalogDataItem({
      componentOf: folder, browseName: "Analog", nodeId: "s=Analog", dataType: "Double", minimumSamplingInterval: 0,
      engineeringUnitsRange: { low: 0, high: 200 }, value: { dataType: "Double", value: 100 },
    });
  }
  for (let i = 0; i < (options.tags || 0); i++) add(`T${i}`, i);
  const work = {
    add: (c) => add(c.name, c.value),
    write: (c) => nodes[c.name].setValueFromSource(variant(c.value), c.code ? opcua.StatusCodes[c.code] : opcua.StatusCodes.Good, c.off ? new Date(Date.now() + 1000 * c.off) : undefined),
    delete: (c) => space.deleteNode(nodes[c.name]),
    read: (c) => nodes[c.name].readValue().value.value,
    trust: async () => {
      for (const [name, manager] of [["clients", clients], ["users", users]]) {
        const rejected = path.join(options.pki, name, "rejected");
        for (const file of fs.readdirSync(rejected)) {
          fs.renameSync(path.join(rejected, file), path.join(options.pki, name, "trusted", "certs", file));
        }
        await manager.reloadCertificates();
      }
    },
  };
  await server.start();
  say({ port: server.endpoints[0].port });
  readline.createInterface({ input: process.stdin }).on("line", async (line) => {
    try {
      const command = JSON.parse(line);
      const answer = await work[command.do](command);
      say({ ok: answer === undefined ? null : answer });
    } catch (error) {
      say({ error: String(error) });
    }
  }).on("close", () => process.exit(0));
}

main().catch((error) => { console.error(error); process.exit(1); });
