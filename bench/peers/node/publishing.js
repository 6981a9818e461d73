// What both servers do with requests: POST /publish gives its body to `broadcast`, and is answered.
"use strict";

exports.publishing = (broadcast) => (request, response) => {
  if (request.method !== "POST" || request.url !== "/publish") {
    response.writeHead(404, { "Content-Length": 0 }).end();
    return;
  }
  const pieces = [];
  request.on("data", (piece) => pieces.push(piece));
  request.on("end", () => {
    broadcast(Buffer.concat(pieces));
    response.writeHead(200, { "Content-Length": 2 }).end("ok");
  });
};
