// Sends events with Splunk's own client, as the first argument says; prints what comes back, one JSON a line.
"use strict";

const { Logger } = require("splunk-logging");

const { url, token, events, batch, retries } = JSON.parse(process.argv[2]);
const tell = (what) => console.log(JSON.stringify(what));

const logger = new Logger({ url, token, maxBatchCount: batch, maxRetries: retries });
logger.error = (error) => tell({ error: error.message, code: error.code });
logger.eventFormatter = (message) => message;

const answered = (error, answer, body) =>
  tell({ status: answer ? answer.statusCode : null, body: body || null, failed: error ? error.message : null });
const metadata = { source: "s3://trail/a.json.gz", sourcetype: "aws:cloudtrail" };

// A batch that is full is sent by the client itself.
events.forEach((event) => logger.send({ message: event, metadata }, answered));
if (events.length % batch !== 0) {
  logger.flush(answered);
}
