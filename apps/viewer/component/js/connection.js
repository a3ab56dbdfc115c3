// Whether the server can be reached, as Streamlit's page shows it.

const SHOWN_STATE = "data-test-connection-state";

/** Call `onChange(lost)` now and whenever the connection is lost or comes back; returns a stop. */
export function watchConnection(onChange) {
  const app = document.querySelector(`[${SHOWN_STATE}]`);
  if (!app) return () => {};
  const report = () => onChange(app.getAttribute(SHOWN_STATE) !== "CONNECTED");
  const observer = new MutationObserver(report);
  observer.observe(app, { attributes: true, attributeFilter: [SHOWN_STATE] });
  report();
  return () => observer.disconnect();
}
