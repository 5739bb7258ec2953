// The one place that talks to the daemon: questions by fetch, news by an event stream.

const PATIENCE_MS = 5000;

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export async function ask(path, parameters = {}) {
  const query = new URLSearchParams(parameters).toString();
  const answer = await fetch(`api/v1/${path}${query ? `?${query}` : ""}`, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
  if (!answer.ok) {
    let message = `the daemon answered ${answer.status}`;
    try {
      message = (await answer.json()).error;
    } catch {
      // A proxy in between has words of its own.
    }
    throw new Refused(answer.status, message);
  }
  return answer.json();
}

// What is followed now. Hidden pages follow nothing: a browser has few connections to one place.
let stream = null;
let followed = "";
const listeners = new Map();

// Returns what ends it.
export function on(kind, listener) {
  listeners.set(kind, [...(listeners.get(kind) ?? []), listener]);
  return () => listeners.set(kind, listeners.get(kind).filter((one) => one !== listener));
}

function tell(kind, content) {
  for (const listener of listeners.get(kind) ?? []) listener(content);
}

export function follow(series) {
  const query = new URLSearchParams([["alerts", "1"], ["state", "1"], ...series.map((s) => ["series", s])]);
  if (query.toString() === followed && stream !== null) return;
  followed = query.toString();
  open();
}

function open() {
  close();
  if (document.hidden) return;
  const mine = new EventSource(`api/v1/events?${followed}`);
  stream = mine;
  for (const kind of ["hello", "state", "alert", "series"]) {
    mine.addEventListener(kind, (event) => tell(kind, JSON.parse(event.data)));
  }
  mine.addEventListener("error", () => {
    tell("lost");
    // Refused outright (too many viewers): the browser does not try again by itself.
    if (mine.readyState === EventSource.CLOSED) {
      setTimeout(() => stream === mine && open(), 5000);
    }
  });
}

function close() {
  if (stream !== null) stream.close();
  stream = null;
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) close();
  else if (stream === null) open();
});
