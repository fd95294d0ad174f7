// Keys that press the buttons of the page, and how long the current pair has been shown.
window.synthfair ??= (() => {
  const KEYS = { 1: "left", 2: "right", t: "tie", r: "reject", u: "undo" };
  const pair = () => document.querySelector("#pair[data-token]");
  const comment = () => document.querySelector("#comment textarea, #comment input");
  let token = null;
  let since = 0;

  function notice() {
    const now = pair()?.dataset.token ?? null;
    if (now !== token) [token, since] = [now, performance.now()];
  }

  function pressed(event) {
    if (event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
    const writing = comment();
    if (event.target === writing) {
      if (event.key === "Escape") writing.blur();
      return;
    }
    const key = event.key.toLowerCase();
    if (key === "c" && writing && pair()) {
      event.preventDefault();
      writing.focus();
    } else if (Object.hasOwn(KEYS, key) && pair()) {
      event.preventDefault();
      document.getElementById(`key-${KEYS[key]}`)?.click();
    }
  }

  function start() {
    document.body.classList.add("dark");
    new MutationObserver(notice).observe(document.body, { childList: true, subtree: true, attributes: true });
    notice();
  }

  document.documentElement.lang = "en";
  document.addEventListener("keydown", pressed);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();

  return {
    shownPair: () => ({
      annotator: pair()?.dataset.annotator ?? "",
      token: pair()?.dataset.token ?? "",
      seconds: (performance.now() - since) / 1000,
    }),
  };
})();
