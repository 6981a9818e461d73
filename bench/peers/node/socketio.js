// A channel of Socket.IO: every client is on it, and what is posted to /publish goes to all of them.
// usage: node socketio.js PORT
"use strict";
const http = require("http");
const { Server } = require("socket.io");
const { publishing } = require("./publishing.js");

// The library makes one frame of it for all.
const server = http.createServer(publishing((body) => io.emit("message", JSON.parse(body))));
const io = new Server(server, { transports: ["websocket"], perMessageDeflate: false, serveClient: false });
server.listen(Number(process.argv[2]), "127.0.0.1");
