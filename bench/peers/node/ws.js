// A channel of `ws`: every client is on it, and what is posted to /publish goes to all of them.
// usage: node ws.js PORT
"use strict";
const http = require("http");
const { WebSocket, WebSocketServer } = require("ws");
const { publishing } = require("./publishing.js");

const server = http.createServer(publishing((body) => {
  // As in the library's own example of a broadcast. The body stays bytes: no text is made of it and back.
  for (const client of websockets.clients)
    if (client.readyState === WebSocket.OPEN) client.send(body, { binary: false });
}));
const websockets = new WebSocketServer({ server, path: "/ws", perMessageDeflate: false });
websockets.on("connection", (client) => client.on("error", () => client.terminate()));
server.listen(Number(process.argv[2]), "127.0.0.1");
