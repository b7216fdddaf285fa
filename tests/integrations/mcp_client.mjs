// A client of the Model Context Protocol by its reference SDK in JavaScript, which shares no code with the Python SDK.
// Reads {"modules": FOLDER, "url": URL or "command": [...], "sessions": [[[TOOL, ARGUMENTS], ...], ...]} as JSON, and
// writes the tools' names and each call's result. "$episode" in arguments is the handle that the session has opened.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const asked = JSON.parse(readFileSync(0, "utf8"));
const sdk = createRequire(asked.modules + "/");
const { Client } = sdk("@modelcontextprotocol/sdk/client/index.js");
const { StdioClientTransport } = sdk("@modelcontextprotocol/sdk/client/stdio.js");
const { StreamableHTTPClientTransport } = sdk("@modelcontextprotocol/sdk/client/streamableHttp.js");

async function play(calls) {
  const transport = asked.url
    ? new StreamableHTTPClientTransport(new URL(asked.url))
    : new StdioClientTransport({ command: asked.command[0], args: asked.command.slice(1), env: process.env, cwd: "/" });
  const client = new Client({ name: "second", version: "1" });
  await client.connect(transport);
  const tools = (await client.listTools()).tools.map((tool) => tool.name);
  let episode = "";
  const results = [];
  for (const [name, given] of calls) {
    const filled = Object.entries(given).map(([key, value]) => [key, value === "$episode" ? episode : value]);
    try {
      const result = await client.callTool({ name, arguments: Object.fromEntries(filled) });
      if (name === "episode_open" && !result.isError) episode = JSON.parse(result.content.at(-1).text).episode;
      results.push(result);
    } catch (error) {
      results.push({ thrown: [error.message, error.cause?.message, error.cause?.code].join(" ") });
    }
  }
  await client.close();
  return { tools, results };
}

const sessions = await Promise.all(asked.sessions.map(play));
process.stdout.write(JSON.stringify({ sessions }), () => process.exit(0));
