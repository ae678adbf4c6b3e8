// Requests to the service behind this page, and to Airflow's own API.

export const AIRFLOW = "../../"; // this page is below /windtunnel/models/, also where Airflow is served below a path

export const LOGGED_OUT = 401;

const SECONDS = 20; // after which a read that is not answered is lost: Airflow answers in one, busy in a few

/** What a person should read about a request that failed. `status` is the HTTP status, 0 without an answer. */
export class Problem extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

/**
 * Return the JSON of a reply. Throw a `Problem`, or an AbortError if `signal` says so.
 *
 * What only reads is asked for a second time if the connection fails or hangs: a browser drops its requests when a network interface
 * appears.
 */
export async function ask(path, options = {}) {
  const signal = () => (options.method ? options.signal : inTime(options.signal));
  const request = async () => {
    const reply = await fetch(path, { credentials: "same-origin", ...options, signal: signal() });
    const content = await reply.json().catch((error) => {
      if (error instanceof SyntaxError) return null;
      throw error;
    });
    return [reply, content];
  };
  let reply, content;
  try {
    [reply, content] = await request().catch((error) => {
      if (options.method || error.name === "AbortError") throw error;
      return request();
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("Airflow does not answer. Check that the platform is running: windtunnel status.");
  }
  if (reply.status === LOGGED_OUT) throw new Problem("You are logged out.", LOGGED_OUT);
  if (!reply.ok) throw new Problem(detail(content) ?? `The request failed with HTTP status ${reply.status}.`, reply.status);
  if (content === null) throw new Problem("The answer could not be read: it is not JSON.", reply.status);
  return content;
}

/** Return a signal that also ends what is not answered in time, with a TimeoutError. */
function inTime(signal) {
  return AbortSignal.any([signal, AbortSignal.timeout(1000 * SECONDS)].filter(Boolean));
}

function detail(content) {
  const found = content?.detail;
  if (typeof found === "string") return found;
  if (Array.isArray(found)) return found.map((each) => each.msg ?? String(each)).join(". ");
  return found?.message ?? null;
}

export const models = (options) => ask("api/models", options);
export const permissions = (options) => ask("permissions", options);
export const versions = (query, options) => ask(`api/versions?${search(query)}`, options);
export const history = (query, options) => ask(`api/history?${search(query)}`, options);
export const compare = (query, options) => ask(`api/compare?${search(query)}`, options);
export const samples = (query, options) => ask(`api/samples?${search(query)}`, options);

/** Ask all champions of a model: with a `Blob`, or with a sample of the golden set. */
export function tryOut(query, body, options) {
  const headers = body ? { "Content-Type": body.type || "application/octet-stream" } : {};
  return ask(`api/try?${search(query)}`, { method: "POST", body, headers, ...options });
}

/** Trigger the DAG `release` as the user who is logged in, and return its run. */
export function release(conf) {
  return ask(`${AIRFLOW}api/v2/dags/release/dagRuns`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ conf, logical_date: null }),
  });
}

export const releaseRun = (id) => ask(runPath(id));

/** Return why a run of the DAG `release` failed, from the log of its task; null if the log does not say it. */
export async function releaseError(id) {
  const log = await ask(`${runPath(id)}/taskInstances/release/logs/1`, { headers: { Accept: "application/json" } });
  const said = log.content.flatMap((line) => [line.event, ...(line.error_detail ?? []).map((each) => each.exc_value)]);
  return said.findLast((text) => text?.startsWith("error: "))?.slice("error: ".length) ?? null;
}

function runPath(id) {
  return `${AIRFLOW}api/v2/dags/release/dagRuns/${encodeURIComponent(id)}`;
}

function search(query) {
  return new URLSearchParams(Object.entries(query).filter(([, value]) => value !== null && value !== undefined));
}
