// Asks the YAML language server what it would complete at the end of texts.
//
// usage: node complete.mjs SERVER SCHEMA < cases.json
// cases.json: [{"text": "…"}]; prints one JSON list of labels a case.
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [server, schema] = process.argv.slice(2);
const cases = JSON.parse(readFileSync(0, "utf8"));
const child = spawn(process.execPath, [server, "--stdio"], { stdio: ["pipe", "pipe", "inherit"] });
child.on("exit", () => process.exit(1));

const waiting = new Map();
let received = Buffer.alloc(0);
child.stdout.on("data", (bytes) => {
  received = Buffer.concat([received, bytes]);
  for (;;) {
    const end = received.indexOf("\r\n\r\n");
    const length = /content-length: (\d+)/i.exec(received.subarray(0, end));
    if (end < 0 || received.length < end + 4 + Number(length[1])) return;
    const message = JSON.parse(received.subarray(end + 4, end + 4 + Number(length[1])));
    received = received.subarray(end + 4 + Number(length[1]));
    if (message.method && message.id !== undefined) {
      send({ id: message.id, result: message.method === "workspace/configuration" ? message.params.items.map(settings) : null });
    } else if (waiting.has(message.id)) {
      waiting.get(message.id)(message);
      waiting.delete(message.id);
    }
  }
});

function send(message) {
  const text = JSON.stringify({ jsonrpc: "2.0", ...message });
  child.stdin.write(`Content-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`);
}

let next = 1;
function ask(method, params) {
  const id = next++;
  const answer = new Promise((resolve) => waiting.set(id, resolve));
  send({ id, method, params });
  return answer;
}

function settings(item) {
  return item.section === "yaml"
    ? { completion: true, validate: true, schemas: { [pathToFileURL(schema).href]: "*.yaml" } }
    : {};
}

await ask("initialize", { processId: process.pid, rootUri: null, capabilities: { workspace: { configuration: true } } });
send({ method: "initialized", params: {} });
send({ method: "workspace/didChangeConfiguration", params: { settings: { yaml: settings({ section: "yaml" }) } } });

let opened = 0;
async function complete(text) {
  const uri = `file:///cases/${opened++}.yaml`;
  send({ method: "textDocument/didOpen", params: { textDocument: { uri, languageId: "yaml", version: 1, text } } });
  const lines = text.split("\n");
  const position = { line: lines.length - 1, character: lines.at(-1).length };
  const answer = await ask("textDocument/completion", { textDocument: { uri }, position });
  if (answer.error) throw new Error(JSON.stringify(answer.error));
  return (answer.result?.items ?? answer.result ?? []).map((item) => item.label);
}

// The server takes its settings, and with them the schema, when it likes.
const deadline = Date.now() + 60_000;
while (!(await complete("")).includes("export")) {
  if (Date.now() > deadline) throw new Error("the server does not know the schema");
}
for (const { text } of cases) console.log(JSON.stringify(await complete(text)));
child.removeAllListeners("exit");
child.kill();
